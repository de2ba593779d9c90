package match

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
)

// Loop turns the crossing orders of a [Book] into receipts: it proposes
// matches, has them finalized, appends their receipts to the log, and only when
// those are durable takes the orders out of the book. Whatever fails on the way
// leaves the orders where they were and pays nobody.
//
// One Loop serves a Book at a time. A Loop comes from [NewLoop]; the zero Loop does not
// run.
type Loop struct {
	book *Book
	sink Log
	o    LoopOptions

	lanes   lanes
	reports reports

	// What follows is Run's alone.
	proposed   []Match
	fresh      []flight
	gone       []Resting
	finalizing int         // Finalize calls under way
	judged     chan flight // those that ended
	ready      []flight    // final, waiting for the next append
	appending  bool        // while it is set, the next four belong to the append
	batch      []flight    // being appended, or to be appended again
	receipts   []receipt.Receipt
	lost       []lost // of the batch, closed by somebody else
	tries      int    // appends of this batch
	appended   chan appendResult
	retryAt    time.Duration // no append of the batch before
	pause      time.Duration
	askAt      time.Duration // nothing is proposed before: the engine could not tell its mode

	spare         []flight // empty, for the next batch
	spareReceipts []receipt.Receipt
}

// flight is a match on its way to a receipt.
type flight struct {
	match  Match
	dryRun bool          // the mode when it was proposed
	began  time.Duration // of the time that passes by the clock

	err            error // Finalize's
	badBid, badAsk bool  // its verdict
}

// NewLoop returns a loop over a book that writes to a log. It starts nothing:
// call Run. Possible errors: [ErrOptions], a book or log that is nil, a Book
// that is not from [NewBook], an option out of range.
func NewLoop(book *Book, log Log, opts *LoopOptions) (*Loop, error) {
	switch {
	case book == nil:
		return nil, fmt.Errorf("%w: no book", ErrOptions)
	case book.changed == nil:
		return nil, errNoBook
	case log == nil:
		return nil, fmt.Errorf("%w: no log", ErrOptions)
	}
	var o LoopOptions
	if opts != nil {
		o = *opts
	}
	if err := o.defaults(); err != nil {
		return nil, err
	}
	return &Loop{
		book: book, sink: log, o: o,
		judged:   make(chan flight),
		appended: make(chan appendResult, 1),
	}, nil
}

// Run matches until ctx ends, and returns nil then; all that it started has
// ended. Work that was finished by then is still appended, for up to
// [LoopOptions.Grace]. A receipt of which it is not known whether it was
// recorded keeps its units reserved, and the next Run appends it again first;
// everything else is back in the book.
//
// Possible errors: [ErrRunning]; [ErrOptions] from a Loop that is not from
// [NewLoop].
func (l *Loop) Run(ctx context.Context) error {
	if l.book == nil {
		return errNoLoop
	}
	if !l.book.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer l.book.running.Store(false)

	// Appends outlive ctx by the grace, see below.
	actx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var workers sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()

	l.retryAt, l.askAt = 0, 0
	now := make(chan time.Time)
	close(now)
	for ctx.Err() == nil {
		var due <-chan time.Time
		if wait, ok := l.turn(ctx, actx, &workers); ok && wait <= 0 {
			due = now
		} else if ok {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-l.book.changed:
		case f := <-l.judged:
			l.judge(ctx, f)
		case a := <-l.appended:
			l.finish(actx, a)
		case <-due:
		}
		l.judgeAll(ctx)
	}
	for l.finalizing > 0 {
		l.judge(ctx, <-l.judged)
	}
	workers.Wait()
	grace := time.AfterFunc(l.o.Grace, cancel)
	defer grace.Stop()
	l.stop(actx)
	return nil
}

// turn does what there is to do, and returns how long there is nothing more but
// to wait for others; it is false if nothing waits for the clock. Of a long list it does some, so that neither lane waits
// while the other has, say, a million orders that expire.
func (l *Loop) turn(ctx, actx context.Context, workers *sync.WaitGroup) (wait time.Duration, ok bool) {
	now := l.now()
	passed := l.lanes.tick(now)
	var can [len(admission.Lanes)]bool // the lanes of which nothing is left that has expired
	more := false
	for i, lane := range admission.Lanes {
		can[i] = !l.expire(lane, now)
		more = l.book.wake(lane, passed) || !can[i] || more
	}
	l.start(ctx, workers, l.pass(can, passed))
	l.append(actx, passed)
	if more || l.free() > 0 && passed >= l.askAt && l.book.pending() {
		return 0, true // also if the append has just taken what was ready
	}
	return l.next(now, passed)
}

// stop brings what is in flight to an end.
func (l *Loop) stop(actx context.Context) {
	for failed := false; l.appending || len(l.batch)+len(l.ready) > 0; failed = l.pause > 0 {
		if !l.appending {
			if failed || actx.Err() != nil {
				break // there is no time to wait for a log that fails
			}
			l.append(actx, math.MaxInt64)
		}
		l.finish(actx, <-l.appended)
	}
	for _, f := range l.ready { // never handed to the log, so certainly not paid
		l.release(f.match)
	}
	clear(l.ready)
	l.ready = l.ready[:0]
	for _, lane := range admission.Lanes {
		for l.book.wake(lane, math.MaxInt64) {
		}
	}
	if n := len(l.batch); n > 0 {
		l.log(slog.LevelWarn, "match loop ends with receipts not known to be recorded", "receipts", n)
	}
	l.lanes.rest()
	l.reportRest()
}

// free is how many matches may be proposed now.
func (l *Loop) free() int {
	free := l.o.Batch - len(l.ready)
	if l.o.Finalize != nil && free > 0 {
		free = l.o.Parallel - l.finalizing
	}
	return max(0, free)
}

// expire takes out what has expired, as far as one turn goes.
func (l *Loop) expire(lane admission.Lane, now time.Time) (more bool) {
	l.gone, more = l.book.expire(l.gone[:0], now, []admission.Lane{lane})
	if l.o.OnExpired != nil {
		l.tell("OnExpired", len(l.gone), func(i int) { l.o.OnExpired(l.gone[i]) })
	}
	clear(l.gone)
	return more
}

// release puts both sides of a match back.
func (l *Loop) release(m Match) {
	l.check(l.book.Release(m, Bid))
	l.check(l.book.Release(m, Ask))
}

// check reports what cannot happen while the loop is the only one to close its
// matches.
func (l *Loop) check(err error) {
	if err != nil {
		l.report(slog.LevelError, "match lost", "err", err)
	}
}

// next tells when the clock is due to be looked at; it is false if nothing waits
// for it. It is never long: a clock may be set.
func (l *Loop) next(now time.Time, passed time.Duration) (wait time.Duration, ok bool) {
	const longest = time.Second
	wait = longest
	sooner := func(d time.Duration, waits bool) {
		if waits {
			wait, ok = min(wait, d), true
		}
	}
	expiry, expires := l.book.NextExpiry()
	sooner(expiry.Sub(now.Round(0)), expires)
	wake, waits := l.book.nextWake()
	sooner(wake-passed, waits)
	sooner(l.retryAt-passed, !l.appending && len(l.batch) > 0)
	sooner(l.askAt-passed, l.askAt > passed)
	hungry, waits := l.lanes.next(l.o.StarveAfter)
	sooner(hungry-passed, waits)
	// At least a moment, lest a clock that stands still make this a busy loop.
	return max(wait, time.Millisecond), ok
}

// Stats describes a lane for operators.
func (l *Loop) Stats(lane admission.Lane) LaneStats {
	if l.book == nil {
		return LaneStats{}
	}
	now := l.now()
	s := LaneStats{Stats: l.book.Stats(lane)}
	if s.OldestID != "" {
		s.Oldest = max(0, now.Sub(s.OldestSince))
	}
	if lane.Valid() {
		s.Waiting, s.Starving = l.lanes.waiting(lane, now, l.o.StarveAfter)
	}
	return s
}
