package admission

import "sync/atomic"

// Invariant: a period belongs to at most one waiting tenant, tickets are given in
// the order of asking, and the work of a period is at most the trickle's share of
// it. So a tenant waits at most as many periods as tenants wait before it.

// turns lets one waiting tenant after the other trickle in while the mode is
// tight. The queue is only a number: a ticket is the next period that is nobody's,
// and it stands in the tenant's record.
type turns struct {
	period int64
	share  float64
	next   atomic.Int64 // the next period that is nobody's
	spent  atomic.Int64 // as a bucket's tat, on the trickle's rate
}

// maxTurns bounds how far ahead turns are given away, and so how many records
// wait.
const maxTurns = 1024

// take charges cost if r has its turn and the turn has room. Otherwise it sees
// that r has a ticket, and returns how long it has to wait. fits is false if no
// turn has room for so much.
func (q *turns) take(r *record, now, cost int64) (charged, wait int64, fits bool) {
	charged = q.scale(cost)
	if charged > q.period {
		return 0, 0, false
	}
	period := now / q.period
	for {
		turn := r.turn.Load()
		if int64(turn) == period && q.spend(period, charged) {
			return charged, 0, true
		}
		if int64(turn) <= period {
			ticket := q.ticket(period)
			if ticket == 0 {
				return 0, (period+1)*q.period - now, true
			}
			r.turn.CompareAndSwap(turn, uint32(ticket))
			continue
		}
		return 0, int64(turn)*q.period - now, true
	}
}

func (q *turns) scale(cost int64) int64 { return int64(min(float64(cost)/q.share, never/4)) }

// ticket gives away the next free period, or 0 if too many wait.
func (q *turns) ticket(period int64) int64 {
	for {
		old := q.next.Load()
		turn := max(old, period)
		if turn-period >= maxTurns {
			return 0
		}
		if q.next.CompareAndSwap(old, turn+1) {
			return turn
		}
	}
}

func (q *turns) spend(period, cost int64) bool {
	for {
		old := q.spent.Load()
		after := max(old, period*q.period) + cost
		if after > (period+1)*q.period {
			return false
		}
		if q.spent.CompareAndSwap(old, after) {
			return true
		}
	}
}

func (q *turns) give(cost int64) { q.spent.Add(-cost) }
