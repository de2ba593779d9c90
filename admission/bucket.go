package admission

// Invariant: tat is at most now+limit after every take and fill, and it moves by
// at least the cost of all work taken and not given back. So what was taken since
// the start is at most the time passed plus limit.

// bucket is a token bucket kept as one number: the moment at which everything
// taken so far would be worked off, the theoretical arrival time of the generic
// cell rate algorithm (ITU-T I.371, virtual scheduling). Costs are nanoseconds
// of the bucket's own rate.
type bucket struct{ tat int64 }

// wait returns how long the bucket needs until cost fits under limit: at most 0
// if it fits now.
func (b *bucket) wait(now, cost, limit int64) int64 {
	return max(b.tat, now) + cost - now - limit
}

// take charges cost, for which there was no wait.
func (b *bucket) take(now, cost int64) { b.tat = max(b.tat, now) + cost }

// fill charges cost as far as it fits under limit, and returns what it charged.
func (b *bucket) fill(now, cost, limit int64) (charged int64) {
	charged = max(min(cost, -b.wait(now, 0, limit)), 0)
	if charged > 0 {
		b.take(now, charged)
	}
	return charged
}

// give returns cost that was taken or filled. Credit for time already past is
// lost, as max(tat, now) forgets it.
func (b *bucket) give(cost int64) { b.tat -= cost }
