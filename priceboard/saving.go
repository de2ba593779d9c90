package priceboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/computemarket/computemarket/internal/callback"
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
	Dropped     int    // how many did not fit its window, or its limit per party
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
	saved    uint64 // Board.changes as of the last save
	closed   bool
	closeErr error // what Close returned
}

func newKeeper() keeper {
	return keeper{closing: make(chan struct{}), turn: make(chan struct{}, 1)}
}

// Open returns a board that starts from what store has saved, and saves to it.
// The window of opts wins over the saved one: the newest prices that fit are
// kept, and of one party no more than [Options.MaxPerParty]. An empty store or a
// damaged snapshot makes an empty board and no error; [Board.LoadResult] tells
// which.
//
// The board owns the store from now on and closes it with [Board.Close]. If Open
// fails, the store is the caller's as before, with no claim that Open has made:
// close it, or open it again. Only if the Logger fails, once all is loaded, has
// Open closed it.
//
// Possible errors: [ErrOptions], also for a nil store; [ErrLocked], [ErrSchema],
// ctx's, and whatever hinders the store from reading.
func Open(ctx context.Context, store Store, opts *Options) (*Board, error) {
	if v := reflect.ValueOf(store); store == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, fmt.Errorf("%w: %w to open", ErrOptions, ErrNoStore)
	}
	b, err := New(opts)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var snap Snapshot
	err = callback.Run("Store.Load", func() (err error) { snap, err = store.Load(ctx); return err })
	b.store = store
	switch r := &b.loaded; {
	case err == nil:
		r.Outcome, r.SavedWindow = Restored, snap.Window
		b.restore(snap)
		r.Prices = b.prices.n
		r.Dropped = len(snap.Prices) - r.Prices
	case errors.Is(err, ErrNoSnapshot):
	case errors.Is(err, ErrCorrupt):
		r.Outcome, r.Err = Damaged, err
		if c, ok := errors.AsType[*CorruptError](err); ok {
			r.Aside = c.Aside
		}
	default:
		return nil, fmt.Errorf("load price board: %w", err)
	}
	if err := b.logLoaded(ctx); err != nil {
		return nil, errors.Join(err, callback.Run("Store.Close", store.Close))
	}
	return b, nil
}

func (b *Board) logLoaded(ctx context.Context) error {
	r := b.loaded
	if r.Outcome == Damaged {
		return b.log(ctx, slog.LevelWarn, "price board damaged, starts empty", slog.Any("error", r.Err))
	}
	return b.log(ctx, slog.LevelInfo, "loaded price board",
		slog.String("outcome", r.Outcome.String()), slog.Int("prices", r.Prices),
		slog.Int("dropped", r.Dropped), slog.Int("window", b.opts.Window))
}

// log calls the caller's logger. No lock is held, nor the token: a logger may ask
// the board, and save and close it.
func (b *Board) log(ctx context.Context, level slog.Level, msg string, attrs ...slog.Attr) error {
	return callback.Run("Logger", func() error { b.opts.Logger.LogAttrs(ctx, level, msg, attrs...); return nil })
}

// restore fills the new board b with the newest prices of s.
func (b *Board) restore(saved Snapshot) {
	s := saved.newest(b.opts.Window)
	unknown := len(s.Prices) - len(s.Parties)
	for i, price := range s.Prices {
		if i < unknown {
			b.queue.restore(price)
			b.prices.add(price)
		} else if left, full := b.queue.push(price, s.Parties[i-unknown]); full {
			b.prices.replace(left, price)
		} else {
			b.prices.add(price)
		}
	}
	if b.prices.n < len(saved.Prices) || saved.Window != uint64(b.opts.Window) {
		b.changes++ // what is saved is another board
	}
	b.shown.Load().set(b.prices.n, &b.prices.values)
}

// LoadResult tells what b started from.
func (b *Board) LoadResult() LoadResult {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.loaded
}

// Run saves b at each [Options.SaveInterval] in which it has changed, and once
// more when ctx is done. A save that fails at an interval is logged and tried
// again at the next. Without a store, Run waits for ctx.
//
// Run returns the error of the last save, or nil; [ErrClosed] if b is closed
// first.
func (b *Board) Run(ctx context.Context) error {
	b.keep()
	tick := time.NewTicker(b.opts.SaveInterval)
	defer tick.Stop()
	for {
		select {
		case <-b.closing:
			return ErrClosed
		case <-ctx.Done():
			err := b.Save(context.WithoutCancel(ctx))
			if b.store == nil && errors.Is(err, ErrNoStore) {
				return nil
			}
			return err
		case <-tick.C:
			b.saveAtInterval(ctx)
		}
	}
}

// saveAtInterval saves b if it has changed, and logs why it could not. If even
// the log fails there is nobody left to tell, and the next interval comes.
func (b *Board) saveAtInterval(ctx context.Context) {
	if b.store == nil {
		return
	}
	err := b.saveIf(ctx, b.changed)
	select {
	case <-b.closing: // no failure, whatever it is
	default:
		if err != nil && ctx.Err() == nil {
			b.log(ctx, slog.LevelWarn, "price board not saved", slog.Any("error", err))
		}
	}
}

// Save saves b now, changed or not. On nil the window as it was during the call
// is durable. Recording waits only while the window is copied.
//
// Possible errors: [ErrNoStore], [ErrClosed], ctx's, and whatever hinders the
// store from writing. After an error the store has what was saved before or what
// this call was to save, whole, and Save may be tried again.
func (b *Board) Save(ctx context.Context) error {
	b.keep()
	return b.saveIf(ctx, func() bool { return true })
}

// saveIf saves b in its turn, if due says so then.
func (b *Board) saveIf(ctx context.Context, due func() bool) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	n, err := 0, error(nil)
	is := due()
	if is {
		n, err = b.save(ctx)
	}
	b.end()
	if err != nil || !is {
		return err
	}
	return b.logSaved(ctx, n)
}

func (b *Board) logSaved(ctx context.Context, prices int) error {
	return b.log(ctx, slog.LevelInfo, "saved price board",
		slog.Int("prices", prices), slog.Int("window", b.opts.Window))
}

// Close saves b if it has changed and closes its store, which another board can
// then open, whether the save succeeds or not. The window stays readable, and
// what is recorded from now on is not saved. Close is idempotent and returns the
// same again; later saves return [ErrClosed].
func (b *Board) Close() error {
	b.keep()
	b.turn <- struct{}{}
	if b.closed {
		defer b.end()
		return b.closeErr
	}
	b.closed = true
	close(b.closing)
	n, save := 0, b.store != nil && b.changed()
	if save {
		n, b.closeErr = b.save(context.Background())
		save = b.closeErr == nil
	}
	if b.store != nil {
		b.closeErr = errors.Join(b.closeErr, callback.Run("Store.Close", b.store.Close))
	}
	err := b.closeErr
	b.end()
	if save {
		err = errors.Join(err, b.logSaved(context.Background(), n))
	}
	return err
}

// keep sees to it that b has a keeper: the zero Board makes it now.
func (b *Board) keep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready()
}

// begin waits for the token; end gives it back.
func (b *Board) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case b.closed:
		b.end()
		return ErrClosed
	case b.store == nil:
		b.end()
		return ErrNoStore
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

// save copies the window, hands it to the store and returns how many prices it
// has. The caller has the token.
func (b *Board) save(ctx context.Context) (prices int, err error) {
	bands, _ := b.Bands()
	snap := Snapshot{Window: uint64(b.opts.Window)}
	snap.Prices = make([]uint64, 0, bands.N) // not while writers wait
	if b.opts.MaxPerParty > 0 {
		snap.Parties = make([]string, 0, bands.N)
	}
	b.mu.Lock()
	changes := b.changes
	snap.Prices = b.queue.appendTo(snap.Prices)
	snap.Parties = b.queue.appendParties(snap.Parties)
	b.mu.Unlock()

	if err := callback.Run("Store.Save", func() error { return b.store.Save(ctx, snap) }); err != nil {
		return 0, fmt.Errorf("save price board: %w", err)
	}
	b.saved = changes
	return len(snap.Prices), nil
}
