package admission

import "sync/atomic"

// Invariant: tat is at most now+limit after every take and fill, and it moves by
// at least the cost of all work taken and not given back. So what was taken since
// the start is at most the time passed plus limit.

// bucket is a token bucket kept as one number: the moment at which everything
// taken so far would be worked off, the theoretical arrival time of the generic
// cell rate algorithm (ITU-T I.371, virtual scheduling). Costs are nanoseconds
// of the bucket's own rate.
type bucket struct{ tat atomic.Int64 }

// take charges cost if the bucket is then at most limit ahead of now. It returns
// 0, or how long the bucket needs until it would conform.
func (b *bucket) take(now, cost, limit int64) (wait int64) {
	for {
		t := b.tat.Load()
		after := max(t, now) + cost
		if wait := after - now - limit; wait > 0 {
			return wait
		}
		if b.tat.CompareAndSwap(t, after) {
			return 0
		}
	}
}

// fill charges cost as far as it fits under limit, and returns what it charged.
func (b *bucket) fill(now, cost, limit int64) (charged int64) {
	for {
		t := b.tat.Load()
		from := max(t, now)
		charged := max(min(cost, now+limit-from), 0)
		if charged == 0 || b.tat.CompareAndSwap(t, from+charged) {
			return charged
		}
	}
}

// give returns cost that was taken or filled. Credit for time already past is
// lost, as max(t, now) forgets it.
func (b *bucket) give(cost int64) {
	if cost > 0 {
		b.tat.Add(-cost)
	}
}
