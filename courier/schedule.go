package courier

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// A try is a receipt on its way through a flush.
type try struct {
	receipt Receipt
	old     bool          // of the round that an earlier flush began
	turn    uint64        // its number among those of the flush, from 1
	n       int           // attempts
	due     time.Duration // when the next one is, since the flush began

	to     State // where it goes, Acknowledged or Dead, when it need not be tried again
	cause  Cause
	reason string

	credit credit
}

// credit is what became of the reward for a receipt that was forwarded.
type credit uint8

const (
	creditDone    credit = iota // or none is due
	creditFailed                // was tried, and failed
	creditUntried               // was not tried, since others failed
)

// A schedule is what a flush decides: whose turn is next and when, what is in
// hand, when to stop, and where the next flush begins. It has no lock, no
// channel and no clock of its own: one goroutine at a time uses it, and now is
// the time since the flush began.
//
// A receipt goes this way:
//
//	offer ─▶ queue ─▶ next ─▶ attempted ─▶ done ─▶ group ─▶ settled
//	                   ▲          │
//	                   └─ waiting ┘ until it is due again, or given up
//
// Its turn begins with the first attempt. Turns begin in the order of offer,
// and whoever begins an attempt takes alternately of those that are due again
// and of those that are new, while there are both.
type schedule struct {
	maxAttempts, maxWaiting, stopAfter, groupSize int
	backoff                                       func(attempt int) time.Duration

	queue   []*try // queue[head:] is offered, its turn still to come
	head    int
	listed  bool    // no more will be offered
	again   bool    // the last that was taken had been tried before
	waiting waiting // for their next attempt
	inHand  int     // taken by next, and not yet attempted
	done    []*try  // to be settled

	round   round // when the flush began
	turns   uint64
	last    stop // the turn that began last
	untried stop // the first whose reward was never tried

	failed int // turns in a row that failed at first, and nothing succeeded
	report Report
	err    error // why no more attempts begin
}

// stop is where in its round a turn was.
type stop struct {
	turn uint64 // 0: none
	seq  uint64
	old  bool
}

// scanRun is how many receipts the scan offers at a time. It is at most two such
// runs ahead.
const scanRun = 64

// room reports whether the scan may offer another run.
func (s *schedule) room() bool { return len(s.queue)-s.head <= scanRun }

// offer adds receipts that are still to have their turn.
func (s *schedule) offer(run []*try) {
	s.queue = append(s.queue[:0], s.queue[s.head:]...)
	s.head = 0
	s.queue = append(s.queue, run...)
}

// next returns the receipt to attempt now, which is then in hand, or nil.
func (s *schedule) next(now time.Duration) *try {
	again, fresh := s.ready(now)
	if !again && !fresh {
		return nil
	}
	s.inHand++
	s.again = again && (!fresh || !s.again)
	if s.again {
		return heap.Pop(&s.waiting).(*try)
	}
	t := s.queue[s.head]
	s.head++
	s.turns++
	t.turn = s.turns
	s.last = t.stop()
	return t
}

// ready tells of which kind there is one to attempt now.
func (s *schedule) ready(now time.Duration) (again, fresh bool) {
	if s.err != nil || len(s.done) >= s.groupSize {
		return false, false
	}
	again = len(s.waiting) > 0 && s.waiting[0].due <= now
	fresh = s.head < len(s.queue) && len(s.waiting) < s.maxWaiting
	return again, fresh
}

// skipped: another flush has t.
func (s *schedule) skipped(*try) { s.inHand-- }

// attempted decides what becomes of t, whose attempt is over. It reports whether
// t is still this flush's: it will be settled, or waits.
func (s *schedule) attempted(t *try, now time.Duration, err error) (kept bool) {
	s.inHand--
	t.n++
	if e, ok := errors.AsType[final](err); ok || err == nil {
		t.to, t.cause, t.reason = Acknowledged, 0, ""
		if err != nil {
			t.to, t.cause, t.reason = Dead, e.cause, cut(e.Error())
		}
		if err == nil || e.cause == Rejected {
			s.failed = 0 // the peer is there
		}
		s.done = append(s.done, t)
		return true
	}
	if s.err != nil {
		return false
	}
	if t.n == 1 {
		s.failed++
	}
	if kept = t.n < s.maxAttempts; kept {
		t.due = after(now, s.backoff(t.n))
		heap.Push(&s.waiting, t)
	} else {
		s.report.Failed++
	}
	return kept
}

// down returns why the flush should stop, given that its last attempt failed
// with err: as many turns in a row have as Options.StopAfter says, or all would.
func (s *schedule) down(err error) error {
	own, ok := errors.AsType[ownFault](err)
	switch {
	case ok && (own.all || s.failed >= s.stopAfter):
		return own.error
	case s.failed < s.stopAfter:
		return nil
	}
	return fmt.Errorf("%w: %d receipts in a row, the last: %w", ErrPeerDown, s.failed, err)
}

// group takes what is to be settled next, in the order of turns, so that the
// first turn of a flush is the first to be settled of its group.
func (s *schedule) group(group []*try) []*try {
	n := min(len(s.done), s.groupSize)
	group = append(group[:0], s.done[:n]...)
	s.done = append(s.done[:0], s.done[n:]...)
	slices.SortFunc(group, func(a, b *try) int { return cmp.Compare(a.turn, b.turn) })
	return group
}

// settled is told of each receipt of a group.
func (s *schedule) settled(t *try) {
	switch {
	case t.credit == creditFailed:
		s.report.Failed++
	case t.credit == creditUntried:
		if s.untried.turn == 0 || t.turn < s.untried.turn {
			s.untried = t.stop()
		}
	case t.to == Acknowledged:
		s.report.Forwarded++
	case t.cause == Rejected:
		s.report.Rejected++
	case t.cause == Expired:
		s.report.Expired++
	case t.cause == Damaged:
		s.report.Damaged++
	}
}

// halt lets no attempt begin any more, for the first reason it is given, and
// returns those that waited for their next one.
func (s *schedule) halt(err error) (dropped []*try) {
	if s.err != nil {
		return nil
	}
	s.err = err
	dropped, s.waiting = s.waiting, nil
	return dropped
}

// over reports that nothing is in hand and no more will be.
func (s *schedule) over() bool {
	ended := s.err != nil || s.listed && s.head == len(s.queue) && len(s.waiting) == 0
	return ended && s.inHand == 0 && len(s.done) == 0
}

// rest is what the next flush should begin with.
func (s *schedule) rest(last uint64) round {
	at, skip := s.last, uint64(1)
	if s.untried.turn > 0 {
		at, skip = s.untried, 0
	}
	switch {
	case s.untried.turn == 0 && s.err == nil:
		return round{} // all had their turn
	case at.turn == 0:
		return s.round
	case at.old:
		last = s.round.last
	}
	return round{at.seq + skip, last}
}

func (t *try) stop() stop { return stop{t.turn, t.receipt.Seq, t.old} }

// after returns now + wait, or the greatest duration there is.
func after(now, wait time.Duration) time.Duration {
	if wait > math.MaxInt64-now {
		return math.MaxInt64
	}
	return now + wait
}

// final is the error of an attempt after which no other is made: t is Dead.
type final struct {
	error
	cause Cause
}

func (f final) Unwrap() error { return f.error }

// ownFault is a failure of this side, not of the peer; all says that every other
// receipt would fail alike.
type ownFault struct {
	error
	all bool
}

func (e ownFault) Unwrap() error { return e.error }

// waiting is a heap, the first due on top.
type waiting []*try

func (w waiting) Len() int           { return len(w) }
func (w waiting) Less(i, j int) bool { return w[i].due < w[j].due }
func (w waiting) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *waiting) Push(t any)        { *w = append(*w, t.(*try)) }

func (w *waiting) Pop() any {
	last := len(*w) - 1
	t := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	return t
}
