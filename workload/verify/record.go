package verify

import (
	"fmt"
	"math"
	"time"
)

// HalfLife is the time in which a score decays to its half, rounded down: whoever
// was honest long ago is no better known than others.
const HalfLife = 90 * 24 * time.Hour

// A Record is what a market remembers of a provider: its score, and counts for a
// page. All of it is public. The zero Record is a newcomer's.
//
// A provider that takes a new name is a newcomer again, and nothing more: it
// weighs what any fresh name does, and each of its results is audited.
type Record struct {
	Score uint64 `json:"score"` // as of Since
	// Since is from when on Score decays. It moves by whole half-lives only, so that
	// looking often does not decay more.
	Since time.Time `json:"since,omitzero"`

	Assigned  uint64 `json:"assigned"`  // rounds that are over
	Agreed    uint64 `json:"agreed"`    // and were paid
	Confirmed uint64 `json:"confirmed"` // of these, confirmed by others or by an audit
	Wrong     uint64 `json:"wrong"`     // fined
	Copied    uint64 `json:"copied"`    // fined
	Misopened uint64 `json:"misopened"`
	Missing   uint64 `json:"missing"`
	Late      uint64 `json:"late"`
	Absent    uint64 `json:"absent"`
	Outvoted  uint64 `json:"outvoted"`
	Undecided uint64 `json:"undecided"`
}

// ScoreAt returns the score at now. A clock that goes back does not raise it above
// Score.
func (r *Record) ScoreAt(now time.Time) uint64 {
	return r.Score >> r.halves(now)
}

// halves counts the half-lives that have passed.
func (r *Record) halves(now time.Time) int64 {
	now = now.Round(0)
	if r.Since.IsZero() || now.Before(r.Since) {
		return 0
	}
	return int64(now.Sub(r.Since) / HalfLife) // Sub saturates at 292 years
}

// Apply counts the outcome of a round that is over, once: the score grows by one
// for work that others or an audit confirmed, falls to two thirds where a
// commitment was not opened, as PoCo's does, and to nothing for a lie, as BOINC's
// count of valid results does. It returns [ErrInvalid] for a standing of
// [Pending], and for one that is none.
func (r *Record) Apply(w WorkerVerdict, now time.Time) error {
	counts := map[Standing]*uint64{
		Agreed: &r.Agreed, Wrong: &r.Wrong, Copied: &r.Copied, Misopened: &r.Misopened, Missing: &r.Missing,
		Late: &r.Late, Absent: &r.Absent, Outvoted: &r.Outvoted, Undecided: &r.Undecided,
	}
	count := counts[w.Standing]
	if count == nil {
		return fmt.Errorf("%w: a standing of %v", ErrInvalid, w.Standing)
	}
	r.decay(now)
	add(&r.Assigned)
	add(count)
	switch {
	case w.Standing == Agreed && w.Confirmed:
		add(&r.Confirmed)
		add(&r.Score)
	case w.Standing == Misopened, w.Standing == Missing:
		r.Score -= r.Score/3 + min(1, r.Score%3)
	case w.Standing.Fined():
		r.Score = 0
	}
	return nil
}

// decay writes down what has decayed.
func (r *Record) decay(now time.Time) {
	if r.Since.IsZero() {
		r.Since = later(now, 0)
		return
	}
	r.Score = r.ScoreAt(now)
	r.Since = r.Since.Add(time.Duration(r.halves(now)) * HalfLife)
}

// add counts one, and stays at the greatest count.
func add(n *uint64) {
	if *n < math.MaxUint64 {
		*n++
	}
}
