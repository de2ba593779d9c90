package settlement

import (
	"context"
	"fmt"
	"sync"

	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/internal/elapsed"
	"github.com/computemarket/computemarket/internal/group"
	"github.com/computemarket/computemarket/receipt"
)

// Engine settles the receipts of one log on one ledger. Create it with [Open].
// All methods are safe for concurrent use. A panic or a runtime.Goexit in a
// Ledger, Store, receipt.Store or Clock is the error of the call that met it;
// one in Metrics or Logger is nobody's.
type Engine struct {
	receipts receipt.Store
	ledger   Ledger
	store    Store
	opts     Options
	passes   *group.Group[*pass]
	wake     chan struct{}
	events   events // what Metrics and Logger are still to be told

	// turn holds a token while the state is being changed: one batch of a pass,
	// or one call such as Stop, which therefore waits for a batch at most.
	// Whoever has it owns what follows.
	turn   chan struct{}
	batch  batch
	watch  elapsed.Watch
	unsure bool  // a write of the state has begun and not come back
	ended  error // a lease without a term was taken over: there is no way back

	mu      sync.Mutex // guards what follows; changed only with the token
	lease   Lease      // zero on standby
	state   State
	owed    uint64 // receipts owed with cursor < number <= counted
	counted uint64
}

// Open returns the engine whose state is in store, on standby: it has read the
// state and may not write. [Engine.Run] takes the lead and settles; [Engine.Lead]
// only takes the lead. opts may be nil. Possible errors: [ErrOptions], and those
// of Store.Load.
func Open(ctx context.Context, receipts receipt.Store, ledger Ledger, store Store, opts *Options) (*Engine, error) {
	o, err := opts.withDefaults()
	switch {
	case err != nil:
		return nil, err
	case receipts == nil || ledger == nil || store == nil:
		return nil, fmt.Errorf("%w: receipts, ledger and store are required", ErrOptions)
	}
	e := &Engine{
		receipts: receipts,
		ledger:   ledger,
		store:    store,
		opts:     o,
		wake:     make(chan struct{}, 1),
		turn:     make(chan struct{}, 1),
	}
	e.passes = group.New(1<<20, func(*pass) int { return 1 }, e.runPass)
	err = callback.Run("Store.Load", func() (err error) {
		_, e.state, err = store.Load(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	e.counted = e.state.Cursor
	return e, nil
}

var errZero = fmt.Errorf("%w: the zero Engine; see Open", ErrOptions)

// Mode returns the mode in which receipts are made now: Real, or one in which
// they are dry runs. An engine on standby answers DryRun: whoever makes receipts
// asks the one that leads.
func (e *Engine) Mode() Mode {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease.IsZero() {
		return DryRun
	}
	return e.state.Mode
}

// Leads reports whether the engine may write.
func (e *Engine) Leads() bool { return !e.held().IsZero() }

// held returns the lease: zero on standby.
func (e *Engine) held() Lease {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lease
}

func (e *Engine) snapshot() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

// Wake makes Run look for what is owed now. It never blocks.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// inTurn calls f with the token: alone among all that change the state. What f
// has for Metrics and Logger they hear from whoever called the engine, when
// nothing is held any more: see events.
func (e *Engine) inTurn(ctx context.Context, name string, f func() error) error {
	if e.store == nil {
		return errZero
	}
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-e.turn }()
	err := callback.Run(name, f)
	if e.unsure { // the store panicked in the middle of a write
		e.unsure = false
		e.standBy("a write of the state did not end", err)
	}
	return err
}

// leading is inTurn for an engine that leads: it has caught up with the clock
// when f is called. It returns ErrStandby if another engine leads.
func (e *Engine) leading(ctx context.Context, name string, f func() error) error {
	return e.inTurn(ctx, name, func() error {
		if !e.Leads() {
			return ErrStandby
		}
		if err := e.observe(ctx); err != nil {
			return err
		}
		return f()
	})
}

// observe lets the time pass that the clock says has passed, and activates an
// armed engine whose delay is over. What is left of the delay reaches the store
// with the next batch; if it is lost on the way, the engine activates later.
func (e *Engine) observe(ctx context.Context) error {
	passed := e.watch.Look(e.opts.Clock.Now())
	s := e.snapshot()
	left, byTime := s.Activation.Remaining()
	if s.Mode != Armed || !byTime {
		return nil
	}
	if left > passed {
		s.Activation = After(left - passed)
		e.adopt(s, 0)
		return nil
	}
	return e.activate(ctx, s)
}

func (e *Engine) activate(ctx context.Context, s State) error {
	s.Mode, s.Reason, s.Activation = Real, "", Activation{}
	if err := e.save(ctx, Change{State: s}, 0); err != nil {
		return fmt.Errorf("activate: %w", err)
	}
	e.Wake()
	return nil
}

// save writes a change durably and then makes it the engine's. n receipts of
// e.batch are done with.
func (e *Engine) save(ctx context.Context, c Change, n int) error {
	e.unsure = true
	err := e.store.Save(ctx, e.held(), c)
	e.unsure = false
	if err != nil {
		// Going on from the state before could settle what is in the archive,
		// or take a change of mode back.
		e.lostBy(err, ErrFenced, ErrUnknown)
		return err
	}
	e.adopt(c.State, n)
	for _, f := range c.Put {
		e.events.add(func() { e.opts.Metrics.Failed(f.Reason) })
		e.events.add(func() {
			e.opts.Logger.Error("receipt not settled", "key", f.Receipt.Key, "seq", f.Seq,
				"buyer", f.Receipt.Buyer, "amount", f.Receipt.QuotePrice, "reason", f.Reason, "err", f.Detail)
		})
	}
	return nil
}

// advance is save for progress, which need not wait for the disk.
func (e *Engine) advance(ctx context.Context, next State, n int) error {
	if err := e.store.Advance(ctx, e.held(), next); err != nil {
		e.lostBy(err, ErrFenced)
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
	e.modeChanged(last.Mode, next)
}

func (e *Engine) modeChanged(from Mode, s State) {
	if from == s.Mode {
		return
	}
	e.events.add(func() { e.opts.Metrics.ModeChanged(s.Mode) })
	e.events.add(func() {
		e.opts.Logger.Warn("settlement mode", "from", from, "to", s.Mode, "reason", s.Reason)
	})
}
