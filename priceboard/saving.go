package priceboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Outcome is what a board started from.
type Outcome uint8

const (
	Fresh    Outcome = iota // nothing was saved, or there is no store
	Restored                // a snapshot was loaded
	Damaged                 // the snapshot was unreadable; the board started empty
)

// String returns "fresh", "restored" or "damaged".
func (o Outcome) String() string {
	switch o {
	case Fresh:
		return "fresh"
	case Restored:
		return "restored"
	case Damaged:
		return "damaged"
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// LoadResult tells how [Open] found the store.
type LoadResult struct {
	Outcome     Outcome
	Prices      int    // how many prices the board started with
	Dropped     int    // how many older ones did not fit its window
	SavedWindow uint64 // the window of the board that saved them
	Aside       string // where a damaged file is now, if the store is a file
	Err         error  // why it counts as damaged; wraps ErrCorrupt
}

// keeper is the part of a board that saves it.
type keeper struct {
	store  Store // nil for a board in memory
	loaded LoadResult

	closing chan struct{} // closed by Close
	turn    chan struct{} // holds a token while a save or Close is under way

	// With the token:
	saved   uint64   // Board.changes as of the last save
	scratch []uint64 // prices on their way to the store
	closed  bool
}

func newKeeper() keeper {
	return keeper{closing: make(chan struct{}), turn: make(chan struct{}, 1)}
}

// Open returns a board that starts from what store has saved, and saves to it.
// The window of opts wins over the saved one: the newest prices that fit are
// kept. An empty store or a damaged snapshot makes an empty board and no error;
// [Board.LoadResult] tells which.
//
// The board owns the store from now on and closes it with [Board.Close]; if Open
// fails, for another reason than ErrInUse, it has closed the store.
//
// Possible errors: [ErrOptions], [ErrNoStore], [ErrInUse], and whatever hinders
// the store from reading.
func Open(ctx context.Context, store Store, opts *Options) (*Board, error) {
	if store == nil {
		return nil, ErrNoStore
	}
	b, err := New(opts)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	snap, err := store.Load(ctx)
	if errors.Is(err, ErrInUse) {
		return nil, err // the claim, and so the closing, is another's
	}
	b.store = store
	r := &b.loaded
	log := b.opts.Logger
	switch {
	case err == nil:
		r.Outcome, r.SavedWindow = Restored, snap.Window
		r.Prices = min(len(snap.Prices), b.opts.Window)
		r.Dropped = len(snap.Prices) - r.Prices
		b.restore(snap.Prices[r.Dropped:])
		if r.Dropped > 0 || snap.Window != uint64(b.opts.Window) {
			b.changes++ // what is saved is another board
		}
	case errors.Is(err, ErrNoSnapshot):
	case errors.Is(err, ErrCorrupt):
		r.Outcome, r.Err = Damaged, err
		if c, ok := errors.AsType[*CorruptError](err); ok {
			r.Aside = c.Aside
		}
		log.LogAttrs(ctx, slog.LevelWarn, "price board damaged, starts empty",
			slog.Any("error", err))
		return b, nil
	default:
		return nil, errors.Join(fmt.Errorf("load price board: %w", err), store.Close())
	}
	log.LogAttrs(ctx, slog.LevelInfo, "loaded price board",
		slog.String("outcome", r.Outcome.String()), slog.Int("prices", r.Prices),
		slog.Int("dropped", r.Dropped), slog.Int("window", b.opts.Window))
	return b, nil
}

// restore fills the new board b.
func (b *Board) restore(prices []uint64) {
	for _, p := range prices {
		b.queue.restore(p)
		b.prices.add(p)
	}
	b.shown.set(b.prices.n, &b.prices.values)
}

// LoadResult tells what b started from.
func (b *Board) LoadResult() LoadResult { return b.loaded }

// Run saves b at each [Options.SaveInterval] in which it has changed, and once
// more when ctx is done. A save that fails at an interval is logged and tried
// again at the next. Without a store, Run waits for ctx.
//
// Run returns the error of the last save, or nil; [ErrClosed] if b is closed
// first.
func (b *Board) Run(ctx context.Context) error {
	if b.store == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(b.opts.SaveInterval)
	defer tick.Stop()
	for {
		select {
		case <-b.closing:
			return ErrClosed
		case <-ctx.Done():
			return b.Save(context.WithoutCancel(ctx))
		case <-tick.C:
			err := b.saveIfChanged(ctx)
			if err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
				b.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "price board not saved",
					slog.Any("error", err))
			}
		}
	}
}

// Save saves b now, changed or not. On nil the window as it was during the call
// is durable. Recording waits only while the window is copied.
//
// Possible errors: [ErrNoStore], [ErrClosed], ctx's, and whatever hinders the
// store from writing; what was saved before is then still there, and Save may be
// tried again.
func (b *Board) Save(ctx context.Context) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	defer b.end()
	return b.save(ctx)
}

// saveIfChanged is Save for a board that has changed since the last.
func (b *Board) saveIfChanged(ctx context.Context) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	defer b.end()
	if !b.changed() {
		return nil
	}
	return b.save(ctx)
}

// Close saves b if it has changed and closes its store, which another board can
// then open. The window stays readable, and what is recorded from now on is not
// saved. Close is idempotent; later saves return [ErrClosed].
func (b *Board) Close() error {
	b.turn <- struct{}{}
	defer b.end()
	if b.closed {
		return nil
	}
	b.closed = true
	close(b.closing)
	if b.store == nil {
		return nil
	}
	var err error
	if b.changed() {
		err = b.save(context.Background())
	}
	return errors.Join(err, b.store.Close())
}

// begin waits for the token; end gives it back.
func (b *Board) begin(ctx context.Context) error {
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case b.store == nil:
		b.end()
		return ErrNoStore
	case b.closed:
		b.end()
		return ErrClosed
	}
	return nil
}

func (b *Board) end() { <-b.turn }

// changed reports whether there is something to save. The caller has the token.
func (b *Board) changed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changes != b.saved
}

// save copies the window and hands it to the store. The caller has the token.
func (b *Board) save(ctx context.Context) error {
	n, _, _, _ := b.shown.get()
	b.scratch = slices.Grow(b.scratch[:0], n) // not while writers wait
	b.mu.Lock()
	changes := b.changes
	b.scratch = b.queue.appendTo(b.scratch)
	b.mu.Unlock()

	snap := Snapshot{Window: uint64(b.opts.Window), Prices: b.scratch}
	if err := b.store.Save(ctx, snap); err != nil {
		return fmt.Errorf("save price board: %w", err)
	}
	b.saved = changes
	b.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "saved price board",
		slog.Int("prices", len(snap.Prices)), slog.Int("window", b.opts.Window))
	return nil
}
