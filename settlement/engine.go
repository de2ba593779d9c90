package settlement

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/computemarket/computemarket/internal/group"
	"github.com/computemarket/computemarket/receipt"
)

// Engine settles the receipts of one log on one ledger. All methods are safe
// for concurrent use.
type Engine struct {
	receipts receipt.Store
	ledger   Ledger
	store    Store
	opts     Options
	passes   *group.Group[*pass]
	wake     chan struct{}

	// turn holds a token while the state is being changed: one batch of a pass,
	// or one call such as DryRun, which therefore waits for a batch at most.
	turn  chan struct{}
	batch batch     // with the token
	stale error     // with the token: a Save whose outcome is unknown
	high  time.Time // with the token: the latest the clock has shown

	mu      sync.Mutex // guards what follows; changed only with the token
	state   State
	owed    uint64 // receipts owed with cursor < number <= counted
	counted uint64
}

// Open returns the engine whose state is in store, in the mode in which it was
// left. It settles nothing by itself: call [Engine.Run] or [Engine.Settle].
// opts may be nil. Possible errors: [ErrOptions], and those of Store.Acquire.
func Open(ctx context.Context, receipts receipt.Store, ledger Ledger, store Store, opts *Options) (*Engine, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	state, err := store.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		receipts: receipts,
		ledger:   ledger,
		store:    store,
		opts:     o,
		wake:     make(chan struct{}, 1),
		turn:     make(chan struct{}, 1),
		high:     o.Clock.Now(),
		state:    state,
		counted:  state.Cursor,
	}
	e.passes = group.New(1<<20, func(*pass) int { return 1 }, func(ps []*pass) {
		done, err := e.pass(ps[0].ctx)
		for _, p := range ps {
			p.done, p.err = done, err
		}
	})
	return e, nil
}

// Mode returns the mode the engine is in. A receipt that is made now is a dry
// run unless it is Real.
func (e *Engine) Mode() Mode { return e.snapshot().Mode }

func (e *Engine) snapshot() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

// Pass is what one pass did.
type Pass struct {
	Applied   int // receipts that moved credits
	Duplicate int // receipts that had moved them before
	Failed    int // receipts that went into the archive
}

type pass struct {
	ctx  context.Context
	done Pass
	err  error
}

// Settle settles all that was owed when it was called, and returns when that is
// durable. In another mode than Real it settles nothing; an Armed engine whose
// delay has passed becomes Real first. Calls at the same time share a pass and
// its result.
//
// A receipt that cannot be settled is no error: Pass.Failed counts it, and the
// archive has it. Possible errors: those of the log, the ledger and the store,
// and that of ctx; what was settled before it stays settled. After [ErrFenced],
// [ErrPoisoned], [ErrClosed], [ErrStale] and [ErrLedger] another try is useless.
func (e *Engine) Settle(ctx context.Context) (Pass, error) {
	for {
		p := &pass{ctx: ctx}
		if err := e.passes.Do(ctx, p); err != nil {
			return Pass{}, err
		}
		if isCancel(p.err) && ctx.Err() == nil {
			continue // the pass was led by a caller who gave up
		}
		return p.done, p.err
	}
}

func isCancel(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (e *Engine) pass(ctx context.Context) (Pass, error) {
	var sum Pass
	for {
		done, more, err := e.step(ctx)
		sum.Applied += done.Applied
		sum.Duplicate += done.Duplicate
		sum.Failed += done.Failed
		if err != nil || !more {
			return sum, err
		}
	}
}

// Wake makes Run look for what is owed now. It never blocks.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run settles what is owed, again and again: when woken, at each interval, and
// when an armed engine's delay has passed. It returns nil when ctx ends, and
// otherwise the error after which trying again is useless; other errors are
// logged and tried again, ever more slowly.
func (e *Engine) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	retries := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-e.wake:
		}
		_, err := e.Settle(ctx)
		wait := e.opts.Interval
		switch {
		case ctx.Err() != nil:
			return nil
		case isFinal(err):
			return err
		case err != nil:
			e.opts.Logger.Error("settlement pass failed", "err", err, "retry", retries)
			wait <<= min(retries, 6)
			retries++
		default:
			retries = 0
			if s := e.snapshot(); s.Mode == Armed && s.Activation.Height == 0 {
				wait = max(min(wait, s.Activation.Remaining), time.Millisecond)
			}
		}
		timer.Reset(wait)
	}
}

func isFinal(err error) bool {
	for _, final := range []error{
		ErrFenced, ErrPoisoned, ErrClosed, ErrStale, ErrLedger, receipt.ErrPoisoned, receipt.ErrClosed,
	} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// begin takes the token, and catches up with the clock.
func (e *Engine) begin(ctx context.Context) error {
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := e.stale
	if err == nil {
		err = e.observe(ctx)
	}
	if err != nil {
		e.end()
		return err
	}
	return nil
}

func (e *Engine) end() { <-e.turn }

// save writes the state durably and then makes it the engine's. n receipts of
// e.batch are done with. With the token.
func (e *Engine) save(ctx context.Context, next State, put []Failure, drop []uint64, n int) error {
	err := e.store.Save(ctx, next, put, drop)
	if errors.Is(err, ErrUnknown) {
		// Going on from the state before could settle what is in the archive,
		// or take a change of mode back.
		err = fmt.Errorf("%w: %w", ErrStale, err)
		e.stale = err
	}
	if err != nil {
		return err
	}
	e.adopt(next, n)
	for i := range put {
		f := &put[i]
		e.opts.Metrics.Failed(f.Reason)
		e.opts.Logger.Error("receipt not settled", "key", f.Receipt.Key, "seq", f.Seq,
			"buyer", f.Receipt.Buyer, "amount", f.Receipt.QuotePrice, "reason", f.Reason, "err", f.Detail)
	}
	return nil
}

// advance is save for progress, which need not wait for the disk.
func (e *Engine) advance(ctx context.Context, next State, n int) error {
	if err := e.store.Advance(ctx, next); err != nil {
		return err
	}
	e.adopt(next, n)
	return nil
}

func (e *Engine) adopt(next State, n int) {
	e.mu.Lock()
	last := e.state
	e.state = next
	for i := range e.batch.owed[:n] {
		if e.batch.owed[i].Seq <= e.counted {
			e.owed--
		}
	}
	if e.counted <= next.Cursor {
		e.counted, e.owed = next.Cursor, 0
	}
	e.mu.Unlock()
	if last.Mode != next.Mode {
		e.opts.Metrics.ModeChanged(next.Mode)
		e.opts.Logger.Warn("settlement mode", "from", last.Mode, "to", next.Mode, "reason", next.Reason)
	}
}

// observe lets the time pass that the clock has gone beyond where it was, and
// activates an armed engine whose delay is over. With the token. What is left of
// the delay reaches the store with the next batch; if it is lost, the engine
// activates later.
func (e *Engine) observe(ctx context.Context) error {
	now := e.opts.Clock.Now()
	passed := max(now.Sub(e.high), 0)
	s := e.snapshot()
	if s.Mode == Armed && s.Activation.Height == 0 {
		if s.Activation.Remaining -= passed; s.Activation.Remaining > 0 {
			e.adopt(s, 0)
		} else if err := e.activate(ctx, s); err != nil {
			return err
		}
	}
	if passed > 0 {
		e.high = now
	}
	return nil
}

func (e *Engine) activate(ctx context.Context, s State) error {
	s.Mode, s.Reason, s.Activation = Real, "", Activation{}
	if err := e.save(ctx, s, nil, nil, 0); err != nil {
		return fmt.Errorf("activate: %w", err)
	}
	e.Wake()
	return nil
}
