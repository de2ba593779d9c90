package admission

// Invariant: a period belongs to at most one waiting tenant, tickets are given in
// the order of asking, and the work of a period is at most the trickle's share of
// it. So a tenant waits at most as many periods as tenants wait before it.

// turns lets one waiting tenant after the other trickle in while the mode is
// tight. The queue is only a number: a ticket is the next period that is nobody's,
// and it stands in the tenant's record.
type turns struct {
	period  int64
	inverse float64 // 1/share of capacity
	next    int64   // the next period that is nobody's
	spent   int64   // as a bucket's tat, on the trickle's rate
}

// maxTurns bounds how far ahead turns are given away, and so how many records
// wait.
const maxTurns = 1024

// scale turns a cost on the whole capacity into one on the trickle's share of it.
// What is more than a period has room in no turn.
func (q *turns) scale(cost int64) int64 {
	if f := float64(cost) * q.inverse; f < never/4 {
		return int64(f)
	}
	return never / 4
}

// wait returns 0 if r has its turn and the turn has room for cost. Otherwise it
// sees that r has a ticket, and returns how long r has to wait.
func (q *turns) wait(r *record, now, cost int64) int64 {
	period := now / q.period
	if int64(r.turn) == period && q.room(period, cost) {
		return 0
	}
	if int64(r.turn) <= period {
		turn := max(q.next, period)
		if turn-period >= maxTurns {
			return (period+1)*q.period - now
		}
		q.next = turn + 1
		r.turn = uint32(turn)
		if turn == period {
			// The present period was nobody's, and so nothing of it is spent.
			return 0
		}
	}
	return int64(r.turn)*q.period - now
}

func (q *turns) room(period, cost int64) bool {
	return max(q.spent, period*q.period)+cost <= (period+1)*q.period
}

// take charges cost, for which there was no wait.
func (q *turns) take(now, cost int64) { q.spent = max(q.spent, now/q.period*q.period) + cost }
