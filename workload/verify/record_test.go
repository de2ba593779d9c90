package verify

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"
)

func TestRecordApply(t *testing.T) {
	for _, c := range []struct {
		verdict WorkerVerdict
		score   uint64
		want    uint64
		count   func(*Record) uint64
	}{
		{WorkerVerdict{Standing: Agreed, Confirmed: true}, 10, 11, func(r *Record) uint64 { return r.Agreed & r.Confirmed }},
		{WorkerVerdict{Standing: Agreed}, 10, 10, func(r *Record) uint64 { return r.Agreed - r.Confirmed }},
		{WorkerVerdict{Standing: Wrong}, 1000, 0, func(r *Record) uint64 { return r.Wrong }},
		{WorkerVerdict{Standing: Copied}, 1000, 0, func(r *Record) uint64 { return r.Copied }},
		{WorkerVerdict{Standing: Misopened}, 10, 6, func(r *Record) uint64 { return r.Misopened }},
		{WorkerVerdict{Standing: Missing}, 9, 6, func(r *Record) uint64 { return r.Missing }},
		{WorkerVerdict{Standing: Missing}, 1, 0, func(r *Record) uint64 { return r.Missing }},
		{WorkerVerdict{Standing: Missing}, 0, 0, func(r *Record) uint64 { return r.Missing }},
		{WorkerVerdict{Standing: Missing}, math.MaxUint64, math.MaxUint64 / 3 * 2, func(r *Record) uint64 { return r.Missing }},
		{WorkerVerdict{Standing: Late}, 10, 10, func(r *Record) uint64 { return r.Late }},
		{WorkerVerdict{Standing: Absent}, 10, 10, func(r *Record) uint64 { return r.Absent }},
		{WorkerVerdict{Standing: Outvoted}, 10, 10, func(r *Record) uint64 { return r.Outvoted }},
		{WorkerVerdict{Standing: Undecided}, 10, 10, func(r *Record) uint64 { return r.Undecided }},
		{WorkerVerdict{Standing: Agreed, Confirmed: true}, math.MaxUint64, math.MaxUint64, func(r *Record) uint64 { return r.Agreed }},
	} {
		r := Record{Score: c.score}
		if err := r.Apply(c.verdict, epoch); err != nil {
			t.Fatal(err)
		}
		if r.Score != c.want || r.Assigned != 1 || c.count(&r) != 1 {
			t.Errorf("%v from %d: %+v, want a score of %d", c.verdict.Standing, c.score, r, c.want)
		}
	}
	for _, s := range []Standing{Pending, Undecided + 1, 255} {
		r := Record{Score: 5}
		if err := r.Apply(WorkerVerdict{Standing: s}, epoch); !errors.Is(err, ErrInvalid) || r != (Record{Score: 5}) {
			t.Errorf("%v: %v, %+v", s, err, r)
		}
	}
}

// A name that was fined, a new one and one that idled are the same: newcomers.
func TestRecordDecay(t *testing.T) {
	r := Record{Score: 99}
	must(0, r.Apply(WorkerVerdict{Standing: Agreed, Confirmed: true}, epoch))
	for _, c := range []struct {
		after time.Duration
		want  uint64
	}{
		{0, 100}, {HalfLife - 1, 100}, {HalfLife, 50}, {2*HalfLife - 1, 50}, {2 * HalfLife, 25}, {3 * HalfLife, 12},
		{7 * HalfLife, 0}, {100 * HalfLife, 0}, {math.MaxInt64, 0}, {-time.Hour, 100}, {math.MinInt64, 100},
	} {
		if got := r.ScoreAt(epoch.Add(c.after)); got != c.want {
			t.Errorf("after %v: %d, want %d", c.after, got, c.want)
		}
	}
	// Looking often does not decay more, and messages between do not put it off.
	often := r
	for i := range 30 {
		must(0, often.Apply(WorkerVerdict{Standing: Absent}, epoch.Add(time.Duration(i+1)*HalfLife/10)))
	}
	if often.Score != 12 || often.ScoreAt(epoch.Add(4*HalfLife)) != 6 {
		t.Errorf("%+v", often)
	}
	// A clock that jumped back.
	must(0, often.Apply(WorkerVerdict{Standing: Absent}, epoch.Add(-1000*time.Hour)))
	if often.Score != 12 || !often.Since.Equal(epoch.Add(3*HalfLife)) {
		t.Errorf("%+v", often)
	}
	// And hostile ones.
	for _, now := range []time.Time{{}, time.Unix(1<<62, 0), time.Unix(-1<<62, 0), time.Now()} {
		r := Record{Score: 10}
		must(0, r.Apply(WorkerVerdict{Standing: Absent}, now))
		if r.Score != 10 || r.Since.IsZero() {
			t.Errorf("%v: %+v", now, r)
		}
		must(r.MarshalBinary())
		must(json.Marshal(r))
	}
}
