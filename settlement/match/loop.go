package match

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
)

// Log is where receipts become durable. A receipt.Store is one, and its
// contract is what counts here: all statuses returned are durable, and with an
// error but no statuses the receipts may or may not have been recorded.
type Log interface {
	Append(ctx context.Context, receipts []receipt.Receipt) ([]receipt.Status, error)
}

// Engine is what the loop needs of a *settlement.Engine. Both methods are safe
// for concurrent use and return at once.
type Engine interface {
	Mode() settlement.Mode
	// Wake tells the engine that the log has grown.
	Wake()
}

// Clock tells the time. Nothing but expiry, delays, the age of orders and a
// receipt's IssuedAt depends on it.
type Clock interface {
	Now() time.Time
}

// Metrics is told what an operator should know. Implementations are safe for
// concurrent use.
type Metrics interface {
	// Matched: a match became final, and its receipt durable, so long after it
	// was proposed.
	Matched(dryRun bool, took time.Duration)

	// PersistFailed: an append to the log failed, or refused one receipt.
	PersistFailed()
}

// FailurePolicy says what becomes of the bid when its match is not final.
type FailurePolicy uint8

const (
	// ReturnBid puts the units back where they were, for the next pass after
	// [LoopOptions.ReturnAfter].
	ReturnBid FailurePolicy = iota
	// DropBid cancels the bid.
	DropBid
)

// LoopOptions tune a [Loop]. The zero value is ready to use: every match is
// final at once, and every receipt a dry run.
type LoopOptions struct {
	// Finalize runs the work of a match, verifies it, and returns nil if the
	// match is final. It is called from many goroutines, for the lanes' matches
	// in turn. When its ctx ends, the node is shutting down: return soon; after
	// an error the orders are as if they had never met. An error that wraps
	// [ErrBadBid] or [ErrBadAsk] cancels that order. A panic is caught, and is
	// that match's failure: see [PanicError]. Defaults to nil: no work.
	Finalize func(ctx context.Context, m Match) error

	// Parallel is the most Finalize calls at a time. Defaults to GOMAXPROCS.
	Parallel int

	// Batch is the most receipts in one append. Defaults to 1024.
	Batch int

	// OnFailure says what becomes of the bid when Finalize fails. The ask
	// always goes back. Defaults to ReturnBid.
	OnFailure FailurePolicy

	// ReturnAfter is how long a returned bid waits, so that two orders that
	// fail together do not do so in a tight loop. Defaults to 1 s.
	ReturnAfter time.Duration

	// IndustrialEvery is how often industry has its turn while consumers could
	// take everything: one match in so many. Defaults to 8.
	IndustrialEvery int

	// StarveAfter is how long a lane that could match may get nothing before
	// the loop warns. Defaults to 1 min.
	StarveAfter time.Duration

	// RetryMin and RetryMax bound the pause after a failed append; it doubles
	// from one to the other. Default to 50 ms and 5 s.
	RetryMin, RetryMax time.Duration

	// Grace is how long Run may still take to append receipts of finished work
	// after ctx has ended and the last Finalize has returned. Defaults to 5 s.
	Grace time.Duration

	// Engine settles the receipts. Its mode is asked when matches are proposed:
	// what it is then decides whether their receipts are dry runs. Defaults to
	// nil: every receipt is a dry run.
	Engine Engine

	// OnFinal, OnFailed and OnExpired are told what became of orders. They are
	// called one at a time, from Run, which waits: be short. A price board is
	// wired by an OnFinal that records m.Price. A panic in one of them leaves
	// Run; what was in flight then stays reserved, so begin with a new Book and
	// [Resume]. Optional.
	OnFinal   func(m Match, r receipt.Receipt)
	OnFailed  func(m Match, err error)
	OnExpired func(r Resting)

	Clock   Clock        // defaults to the system's
	Metrics Metrics      // defaults to none
	Logger  *slog.Logger // defaults to discarding
}

func (o *LoopOptions) defaults() error {
	for _, d := range []*time.Duration{&o.ReturnAfter, &o.StarveAfter, &o.RetryMin, &o.RetryMax, &o.Grace} {
		if *d < 0 {
			return fmt.Errorf("match: negative duration %v", *d)
		}
	}
	if o.Parallel < 0 || o.Batch < 0 || o.IndustrialEvery < 0 {
		return errors.New("match: negative count")
	}
	if o.OnFailure > DropBid {
		return fmt.Errorf("match: unknown failure policy %d", o.OnFailure)
	}
	o.Parallel = cmp.Or(o.Parallel, runtime.GOMAXPROCS(0))
	o.Batch = cmp.Or(o.Batch, 1024)
	o.ReturnAfter = cmp.Or(o.ReturnAfter, time.Second)
	o.IndustrialEvery = cmp.Or(o.IndustrialEvery, 8)
	o.StarveAfter = cmp.Or(o.StarveAfter, time.Minute)
	o.RetryMin = cmp.Or(o.RetryMin, 50*time.Millisecond)
	o.RetryMax = max(o.RetryMin, cmp.Or(o.RetryMax, 5*time.Second))
	o.Grace = cmp.Or(o.Grace, 5*time.Second)
	if o.Engine == nil {
		o.Engine = noEngine{}
	}
	if o.OnFinal == nil {
		o.OnFinal = func(Match, receipt.Receipt) {}
	}
	if o.OnFailed == nil {
		o.OnFailed = func(Match, error) {}
	}
	if o.OnExpired == nil {
		o.OnExpired = func(Resting) {}
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

type noEngine struct{}

func (noEngine) Mode() settlement.Mode { return settlement.DryRun }
func (noEngine) Wake()                 {}

type noMetrics struct{}

func (noMetrics) Matched(bool, time.Duration) {}
func (noMetrics) PersistFailed()              {}

// Loop turns the crossing orders of a [Book] into receipts: it proposes
// matches, has them finalized, appends their receipts to the log, and only when
// those are durable takes the orders out of the book. Whatever fails on the way
// leaves the orders where they were and pays nobody.
//
// One Loop serves a Book.
type Loop struct {
	book *Book
	log  Log
	o    LoopOptions

	running atomic.Bool
	lanes   lanes

	// What follows is Run's alone.
	proposed   []Match
	gone       []Resting
	finalizing int         // Finalize calls under way
	judged     chan flight // those that ended
	returning  []returned  // bids that wait out ReturnAfter, the first to go first
	ready      []flight    // final, waiting for the next append
	batch      []flight    // being appended, or to be appended again
	receipts   []receipt.Receipt
	appending  bool
	tries      int // appends of this batch
	appended   chan appendResult
	retryAt    time.Time // no append of the batch before
	pause      time.Duration

	spare         []flight // empty, for the next batch
	spareReceipts []receipt.Receipt
}

// flight is a match on its way to a receipt.
type flight struct {
	match  Match
	dryRun bool // the mode when it was proposed
	began  time.Time
	err    error // Finalize's
}

// returned is a bid that goes back into the book.
type returned struct {
	match Match
	due   time.Time
}

// NewLoop returns a loop over a book that writes to a log. It starts nothing:
// call Run. Possible errors: an option out of range.
func NewLoop(book *Book, log Log, opts *LoopOptions) (*Loop, error) {
	var o LoopOptions
	if opts != nil {
		o = *opts
	}
	if err := o.defaults(); err != nil {
		return nil, err
	}
	return &Loop{
		book: book, log: log, o: o,
		judged:   make(chan flight, o.Parallel),
		appended: make(chan appendResult, 1),
	}, nil
}

// Run matches until ctx ends, and returns nil then; all that it started has
// ended. Work that was finished by then is still appended, for up to
// [LoopOptions.Grace]. A receipt of which it is not known whether it was
// recorded keeps its units reserved, and the next Run appends it again first;
// everything else is back in the book.
//
// Possible errors: [ErrRunning].
func (l *Loop) Run(ctx context.Context) error {
	if !l.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer l.running.Store(false)

	// Appends outlive ctx by the grace, see below.
	actx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var workers sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()

	l.retryAt = time.Time{}
	for ctx.Err() == nil {
		now := l.o.Clock.Now()
		l.expire(now)
		l.giveBack(now)
		l.start(ctx, &workers, l.pass(now))
		l.append(actx, now)
		if l.free() > 0 && l.book.pending() {
			continue // the append took what was ready; there is room for more
		}
		var due <-chan time.Time
		if d, ok := l.next(now); ok {
			timer.Reset(d)
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
	}
	workers.Wait()
	grace := time.AfterFunc(l.o.Grace, cancel)
	defer grace.Stop()
	l.stop(ctx, actx)
	return nil
}

// stop brings what is in flight to an end.
func (l *Loop) stop(ctx, actx context.Context) {
	for l.finalizing > 0 {
		l.judge(ctx, <-l.judged)
	}
	for failed := false; l.appending || len(l.batch)+len(l.ready) > 0; failed = l.pause > 0 {
		if !l.appending {
			if failed || actx.Err() != nil {
				break // there is no time to wait for a log that fails
			}
			l.append(actx, l.retryAt)
		}
		l.finish(actx, <-l.appended)
	}
	for _, f := range l.ready { // never handed to the log, so certainly not paid
		l.release(f.match)
	}
	l.ready = l.ready[:0]
	for _, r := range l.returning {
		l.check(l.book.Release(r.match, Bid))
	}
	l.returning = nil
	if n := len(l.batch); n > 0 {
		l.o.Logger.Warn("match loop ends with receipts not known to be recorded", "receipts", n)
	}
}

// free is how many matches may be proposed now.
func (l *Loop) free() int {
	free := l.o.Batch - len(l.ready) - l.finalizing
	if l.o.Finalize != nil {
		free = min(free, l.o.Parallel-l.finalizing)
	}
	return free
}

// start hands new matches to Finalize.
func (l *Loop) start(ctx context.Context, workers *sync.WaitGroup, ms []Match) {
	if len(ms) == 0 {
		return
	}
	dryRun, now := l.o.Engine.Mode() != settlement.Real, l.o.Clock.Now()
	for _, m := range ms {
		f := flight{match: m, dryRun: dryRun, began: now}
		if l.o.Finalize == nil {
			l.ready = append(l.ready, f)
			continue
		}
		l.finalizing++
		workers.Go(func() {
			f.err = errExit
			defer func() { l.judged <- f }() // never blocks: there is room for Parallel
			f.err = l.finalize(ctx, f.match)
		})
	}
}

// finalize runs the caller's code. A panic there is that match's failure: one
// bad job must not take the other matches down with it.
func (l *Loop) finalize(ctx context.Context, m Match) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p := &PanicError{Value: v, Stack: debug.Stack()}
			l.o.Logger.Error("finalize panicked", "bid", m.Bid, "ask", m.Ask, "panic", v, "stack", string(p.Stack))
			err = p
		}
	}()
	return l.o.Finalize(ctx, m)
}

// judge takes Finalize's answer.
func (l *Loop) judge(ctx context.Context, f flight) {
	l.finalizing--
	if f.err == nil {
		l.ready = append(l.ready, f)
		return
	}
	if ctx.Err() != nil { // shutting down is nobody's fault
		l.release(f.match)
		return
	}
	l.o.Logger.Info("match not final", "bid", f.match.Bid, "ask", f.match.Ask, "err", f.err)
	if errors.Is(f.err, ErrBadAsk) {
		l.check(l.book.Drop(f.match, Ask))
	} else {
		l.check(l.book.Release(f.match, Ask))
	}
	if l.o.OnFailure == DropBid || errors.Is(f.err, ErrBadBid) {
		l.check(l.book.Drop(f.match, Bid))
	} else {
		l.returning = append(l.returning, returned{f.match, l.o.Clock.Now().Add(l.o.ReturnAfter)})
	}
	l.o.OnFailed(f.match, f.err)
}

// giveBack returns the bids that have waited long enough.
func (l *Loop) giveBack(now time.Time) {
	n := 0
	for n < len(l.returning) && !l.returning[n].due.After(now) {
		l.check(l.book.Release(l.returning[n].match, Bid))
		n++
	}
	l.returning = append(l.returning[:0], l.returning[n:]...)
}

func (l *Loop) expire(now time.Time) {
	l.gone = l.book.Expire(l.gone[:0], now)
	for _, r := range l.gone {
		l.o.OnExpired(r)
	}
	clear(l.gone)
}

func (l *Loop) release(m Match) {
	l.check(l.book.Release(m, Bid))
	l.check(l.book.Release(m, Ask))
}

// check logs what cannot happen while the loop is the only one to close its
// matches.
func (l *Loop) check(err error) {
	if err != nil {
		l.o.Logger.Error("match lost", "err", err)
	}
}

// next tells how long there is nothing to do but wait for others.
func (l *Loop) next(now time.Time) (time.Duration, bool) {
	var at time.Time
	sooner := func(t time.Time, ok bool) {
		if ok && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	sooner(l.book.NextExpiry())
	if len(l.returning) > 0 {
		sooner(l.returning[0].due, true)
	}
	sooner(l.retryAt, len(l.batch) > 0 && !l.appending)
	sooner(l.lanes.next(l.o.StarveAfter))
	// At least a moment, lest a clock that stands still make this a busy loop.
	return max(at.Sub(now), time.Millisecond), !at.IsZero()
}

// Stats describes a lane for operators.
func (l *Loop) Stats(lane admission.Lane) LaneStats {
	now := l.o.Clock.Now()
	s := LaneStats{Stats: l.book.Stats(lane)}
	if !s.OldestSince.IsZero() {
		s.Oldest = max(0, now.Sub(s.OldestSince))
	}
	if lane.Valid() {
		s.Waiting, s.Starving = l.lanes.waiting(lane, now, l.o.StarveAfter)
	}
	return s
}
