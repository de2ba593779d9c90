package verify

import (
	"math"
	"testing"
	"time"
)

// A step begins when it opens, however late that is noticed, and a clock that
// jumps back undoes nothing.
func TestTime(t *testing.T) {
	r := seat(t, Policy{CommitWithin: time.Hour, RevealWithin: time.Minute, AuditWithin: time.Second}, 30, 30)
	if by, _ := r.Round.Deadline(); !by.Equal(epoch.Add(time.Hour)) {
		t.Error(by)
	}
	r.commit("a", right, nil)
	late := epoch.Add(100 * time.Hour)
	if r.Tick(late) != Revealing {
		t.Error(r.Round.State())
	}
	if by, _ := r.Round.Deadline(); !by.Equal(late.Add(time.Minute)) {
		t.Error(by)
	}
	if r.Tick(epoch) != Revealing {
		t.Error(r.Round.State())
	}
	r.now = epoch
	r.commit("b", right, ErrLate)
	r.now = late
	r.reveal("a", right, nil)
	if by, _ := r.Round.Deadline(); r.Round.State() != Auditing || !by.Equal(late.Add(time.Second)) {
		t.Error(by, r.Round.State())
	}
}

func TestHostileTimes(t *testing.T) {
	for _, now := range []time.Time{{}, epoch, time.Unix(1<<62, 0), time.Unix(-1<<62, 0), time.Now()} {
		for _, d := range []time.Duration{1, time.Hour, math.MaxInt64} {
			r, err := New(theTask, []Candidate{{Worker: "a", Score: 30}}, Policy{CommitWithin: d, RevealWithin: d, AuditWithin: d}, 0, now)
			if err != nil {
				t.Fatal(err)
			}
			by, ok := r.Deadline()
			if !ok || by != by.Round(0) || by.Before(firstInstant) || by.After(lastInstant) {
				t.Errorf("%v + %v: %v", now, d, by)
			}
			data, err := r.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			var back Round
			if err := back.UnmarshalBinary(data); err != nil || !back.deadline.Equal(by) {
				t.Errorf("%v + %v: %v came back as %v, %v", now, d, by, back.deadline, err)
			}
			r.Tick(now)
		}
	}
	if by := later(epoch, math.MaxInt64); by != lastInstant {
		t.Errorf("for ever ends at %v", by)
	}
}
