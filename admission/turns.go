package admission

import "time"

// Invariant: a period's work is that of one buyer and at most the trickle's share
// of it. Of the buyers that wait, the one that has waited longest comes next. It
// loses its place if it does not ask when it was told to, so that nobody waits
// longer than a period and a grace for one who is gone, however many those are.

// turns lets one waiting buyer after the other trickle in while the mode is tight.
//
// Who waits has a ticket, kept in its record; tickets are given in the order of
// asking. The waiting all ask again when a period begins at the latest, as they
// were told, and so whoever has not done so a grace later is gone.
type turns struct {
	period  int64
	grace   int64
	inverse float64 // 1/share of capacity

	first, next int64           // tickets from first up to next wait
	due         [maxTurns]int64 // when each of them is to ask again

	taken int64 // the last period whose turn was taken
	owner int64 // the ticket of who did, 0 for nobody's
	spent int64 // as a bucket's tat, on the trickle's rate
}

// maxTurns bounds how many wait. It is a power of two.
const maxTurns = 1024

func (q *turns) init(o *Options) {
	q.period, q.inverse = int64(o.TricklePeriod), 1/o.TrickleShare
	q.grace = min(q.period/8, int64(time.Second))
	q.first, q.next = 1, 1
}

// scale turns a cost on the whole capacity into one on the trickle's share of it.
// What is more than a period has room in no turn.
func (q *turns) scale(cost int64) int64 {
	if f := float64(cost) * q.inverse; f < never/4 {
		return int64(f)
	}
	return never / 4
}

// wait returns 0 if r has its turn and the turn has room for cost. Otherwise it
// returns when r is to ask again, having seen that r waits. A stranger, and who
// finds too many waiting, has no place to keep and gets what nobody waits for.
func (q *turns) wait(r *record, now, cost int64) (until int64) {
	period := now / q.period
	if q.taken == period && q.owner != 0 && q.owner == r.turn && q.spent+cost <= (period+1)*q.period {
		return 0
	}
	q.lapse(now)
	if q.waits(r) {
		q.due[r.turn%maxTurns] = now
	} else if r.key != 0 && q.next-q.first < maxTurns {
		r.turn = q.next
		q.next++
		q.due[r.turn%maxTurns] = now
	}
	before := q.next // tickets before it come first
	if q.waits(r) {
		before = r.turn
	}
	until = (period + 1) * q.period
	if q.taken < period {
		gone := int64(0)
		for t := q.first; t < before; t++ {
			gone = max(gone, q.due[t%maxTurns]+q.grace+1)
		}
		if gone == 0 {
			until = 0
		} else {
			until = min(until, gone)
		}
	}
	if q.waits(r) {
		q.due[r.turn%maxTurns] = max(until, now)
	}
	return until
}

func (q *turns) waits(r *record) bool { return r.turn >= q.first }

// lapse takes the places of those who are gone.
func (q *turns) lapse(now int64) {
	for q.first < q.next && q.due[q.first%maxTurns]+q.grace < now {
		q.first++
	}
}

// take charges cost to r, for which there was no wait.
func (q *turns) take(r *record, now, cost int64) {
	if period := now / q.period; q.taken != period {
		q.taken, q.spent = period, period*q.period
		q.owner = 0
		if q.waits(r) {
			q.owner = r.turn
			q.first++
		}
	}
	q.spent += cost
}

// pass lets the next one have r's turn, which r cannot use because something else
// refuses its job.
func (q *turns) pass(r *record, now int64) {
	if q.taken < now/q.period && q.waits(r) {
		q.first++
	}
}
