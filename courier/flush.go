package courier

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"
)

// Report is what a flush did.
type Report struct {
	Forwarded uint64 // delivered, rewarded and acknowledged
	Failed    uint64 // tried in vain as often as allowed, and still pending
	Rejected  uint64 // refused for good, now dead
	Expired   uint64 // over the lifetime, now dead
	Damaged   uint64 // without their bundle, now dead
	Remaining uint64 // pending in the store when the flush ended
}

// Flush forwards the pending receipts, those stored when it begins, and returns
// when each was forwarded or given up. Memory does not grow with their number.
// Failures of single receipts are not errors of the flush: they are in the
// report. Possible errors, each with the report of what was done until then:
//
//   - [ErrPeerDown]: see [Options.StopAfter];
//   - the context's: attempts in progress are ended, what was forwarded is still
//     acknowledged;
//   - those of the [Store], the [Bundles] and the [Rewarder].
//
// A flush that stopped early lets the next one begin where it stopped and come
// round to the rest, so receipts that always fail cannot keep the others back.
// Flushes at once share the work: none forwards a receipt that another has in
// hand or has done. No goroutine is left when Flush returns.
func (c *Courier) Flush(ctx context.Context, f Forwarder) (Report, error) {
	if f == nil {
		return Report{}, fmt.Errorf("%w: no forwarder", ErrInvalid)
	}
	fl := newFlush(ctx, c, f)
	c.enter(fl)
	defer c.leave(fl)
	if err := ctx.Err(); err != nil {
		fl.err = err
	} else {
		fl.helpers.Go(fl.scan)
		fl.helpers.Go(fl.watch)
		fl.settleAll()
		close(fl.finished)
		fl.helpers.Wait()
		c.resume.Store(fl.resume())
	}
	counts, err := c.store.Count(context.WithoutCancel(ctx))
	fl.report.Remaining = counts.Pending
	if fl.err != nil {
		err = fl.err
	}
	return fl.report, err
}

// scanRun is how many receipts the scan hands over at a time. It is at most two
// such runs ahead of the workers.
const scanRun = 64

// flush is one call of Flush: a scan of the pending list, workers that attempt,
// a watch over time, and the caller's own goroutine, which settles. One lock
// guards what they share, and nobody blocks who holds it.
type flush struct {
	c         *Courier
	ctx       context.Context
	forwarder Forwarder
	began     time.Time
	shared    bool // there was another flush meanwhile; guarded by c.mu
	helpers   sync.WaitGroup
	finished  chan struct{}

	mu      sync.Mutex // guards the rest
	idle    sync.Cond  // workers wait for a receipt
	room    sync.Cond  // the scan waits for the queue to get short
	outcome sync.Cond  // Flush waits for one, or for the end

	queue  []*try // queue[head:] is from the scan, still to be attempted
	head   int
	listed bool   // the scan has ended
	seq    uint64 // the last that was taken from the queue

	workers  []*worker
	sleeping int  // workers
	waking   bool // one of them has been told to look for a receipt
	inFlight int  // receipts that workers have in hand
	over     bool // no more will come

	waiting waiting     // for their next attempt
	due     []*try      // whose time has come
	retry   *time.Timer // for the next of waiting

	group []*try // to be settled
	free  []*try // to be used again

	failedFirst int // receipts in a row that failed at first, see StopAfter
	report      Report
	err         error // why no more attempts begin

	moves []Move // settle's memory, not shared
}

// A try is a receipt on its way through a flush.
type try struct {
	receipt Receipt
	n       int       // attempts
	due     time.Time // when the next one is

	to     State // where it goes, Acknowledged or Dead, when it need not be tried again
	cause  Cause
	reason string
}

func newFlush(ctx context.Context, c *Courier, f Forwarder) *flush {
	fl := &flush{c: c, ctx: ctx, forwarder: f, began: time.Now(), finished: make(chan struct{})}
	fl.idle.L, fl.room.L, fl.outcome.L = &fl.mu, &fl.mu, &fl.mu
	fl.retry = time.NewTimer(time.Hour)
	fl.retry.Stop()
	return fl
}

// scan walks the pending list and feeds the workers.
func (fl *flush) scan() {
	var err error
	run, n := fl.feed(nil), 0 // the first n of run are filled
	for r, e := range fl.pending() {
		if err = e; err != nil || run == nil {
			break
		}
		run[n].receipt = r
		if n++; n == len(run) {
			run, n = fl.feed(run), 0
		}
	}
	if run != nil {
		fl.feed(run[:n])
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.listed = true
	fl.outcome.Signal()
	if err != nil {
		fl.stop(err)
	}
}

// feed queues run, and returns as many blank tries as the next one may have, or
// nil when no more attempts will begin.
func (fl *flush) feed(run []*try) []*try {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for len(fl.queue)-fl.head > scanRun && fl.err == nil {
		fl.room.Wait()
	}
	if fl.err != nil {
		return nil
	}
	fl.queue = append(fl.queue[:0], fl.queue[fl.head:]...)
	fl.head = 0
	fl.queue = append(fl.queue, run...)
	fl.wake()
	run = run[:0]
	for range scanRun {
		t := new(try)
		if last := len(fl.free) - 1; last >= 0 {
			t, fl.free = fl.free[last], fl.free[:last]
			*t = try{}
		}
		run = append(run, t)
	}
	return run
}

// pending yields the pending receipts from where the last flush stopped to the
// end, then those before.
func (fl *flush) pending() iter.Seq2[Receipt, error] {
	return func(yield func(Receipt, error) bool) {
		from := fl.c.resume.Load()
		for r, err := range fl.c.store.List(fl.ctx, Pending, from) {
			if !yield(r, err) {
				return
			}
		}
		if from == 0 {
			return
		}
		for r, err := range fl.c.store.List(fl.ctx, Pending, 0) {
			if err == nil && r.Seq >= from || !yield(r, err) {
				return
			}
		}
	}
}

// resume is where the next flush should begin.
func (fl *flush) resume() uint64 {
	if fl.err == nil || fl.listed && fl.head == len(fl.queue) {
		return 0
	}
	return fl.seq
}

// settleAll settles what the workers bring, one group while the next gathers,
// until nothing more will come.
func (fl *flush) settleAll() {
	var group []*try
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for fl.gathered() {
		n := min(len(fl.group), fl.c.opts.GroupSize)
		group = append(group[:0], fl.group[:n]...)
		fl.group = append(fl.group[:0], fl.group[n:]...)
		fl.wake() // there is room
		fl.mu.Unlock()
		settled, err := fl.settle(group)
		fl.c.unclaim(group...)
		fl.mu.Lock()
		for _, t := range settled {
			fl.count(t)
		}
		fl.free = append(fl.free, group...)
		if err != nil {
			fl.stop(err)
		}
		if progress := fl.c.opts.Progress; progress != nil {
			report := fl.report
			fl.mu.Unlock()
			progress(report)
			fl.mu.Lock()
		}
	}
	fl.over = true
	fl.idle.Broadcast()
}

// gathered waits for something to settle. It reports false when nothing more
// will come.
func (fl *flush) gathered() bool {
	for len(fl.group) == 0 {
		ended := fl.err != nil ||
			fl.listed && fl.head == len(fl.queue) && len(fl.waiting)+len(fl.due) == 0
		if ended && fl.inFlight == 0 {
			return false
		}
		fl.outcome.Wait()
	}
	return true
}

func (fl *flush) count(t *try) {
	switch {
	case t.to == Acknowledged:
		fl.report.Forwarded++
	case t.cause == Rejected:
		fl.report.Rejected++
	case t.cause == Expired:
		fl.report.Expired++
	case t.cause == Damaged:
		fl.report.Damaged++
	}
}

// attempted decides what becomes of a receipt after an attempt.
func (fl *flush) attempted(t *try, err error) {
	if err == nil {
		fl.failedFirst = 0
		fl.settleAs(t, Acknowledged, 0, "")
		return
	}
	if e := fl.ctx.Err(); e != nil {
		fl.stop(e) // before its consequences
	}
	if _, ok := errors.AsType[damage](err); ok {
		fl.settleAs(t, Dead, Damaged, cut(err.Error()))
		return
	}
	if errors.Is(err, ErrRejected) {
		fl.failedFirst = 0 // the peer is there
		fl.settleAs(t, Dead, Rejected, cut(err.Error()))
		return
	}
	if e, ok := errors.AsType[storeError](err); ok {
		fl.stop(e.error)
	}
	if fl.err != nil {
		fl.drop(t)
		return
	}
	if t.n == 1 {
		fl.failedFirst++
	}
	if t.n >= fl.c.opts.MaxAttempts {
		fl.report.Failed++
		fl.drop(t)
	} else {
		fl.later(t)
	}
	if fl.failedFirst >= fl.c.opts.StopAfter {
		fl.stop(fmt.Errorf("%w: %d receipts in a row, the last: %w", ErrPeerDown, fl.failedFirst, err))
	}
}

func (fl *flush) settleAs(t *try, to State, cause Cause, reason string) {
	t.to, t.cause, t.reason = to, cause, reason
	fl.group = append(fl.group, t)
	fl.outcome.Signal()
}

// drop leaves t to the next flush.
func (fl *flush) drop(t *try) {
	fl.c.unclaim(t)
	fl.free = append(fl.free, t)
	fl.outcome.Signal()
}

// stop lets no attempt begin any more, for the first reason it is given.
func (fl *flush) stop(err error) {
	if fl.err != nil {
		return
	}
	fl.err = err
	fl.c.unclaim(fl.waiting...)
	fl.c.unclaim(fl.due...)
	fl.waiting, fl.due = nil, nil
	fl.room.Signal()
	fl.outcome.Signal()
}
