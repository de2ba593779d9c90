// Package priceboardtest holds the suite that every [priceboard.Store] must pass,
// and a store in memory for the tests of what uses a board.
package priceboardtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/computemarket/computemarket/priceboard"
)

// Place is where a store under test keeps its snapshot.
type Place struct {
	// Open returns a new handle on the place, as a process that starts would.
	Open func() priceboard.Store

	// Damage makes what is saved unreadable. It is called while no handle is
	// open. If nil, the clauses on damage are left out.
	Damage func() error

	// Kept returns how many damaged snapshots the place has kept aside. It
	// comes with Damage.
	Kept func() (int, error)
}

// Run shows that a store keeps what [priceboard.Store] promises: a subtest for
// each clause, each in a new, empty place.
func Run(t *testing.T, newPlace func(t *testing.T) Place) {
	t.Helper()
	for _, c := range clauses {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			if c.damages && p.Damage == nil {
				t.Skip("this place cannot be damaged")
			}
			if err := c.check(t.Context(), p); err != nil {
				t.Error(err)
			}
		})
	}
}

// clauses are checks that return what is wrong, so that a broken store can be
// shown to fail them.
var clauses = []struct {
	name    string
	damages bool
	check   func(context.Context, Place) error
}{
	{"an empty place has no snapshot", false, checkEmpty},
	{"what is saved comes back", false, checkRoundTrip},
	{"parties come back with their prices", false, checkParties},
	{"a save replaces all of the last", false, checkReplace},
	{"the caller owns the prices", false, checkOwnership},
	{"one handle holds the place", false, checkClaim},
	{"save claims the place", false, checkSaveClaims},
	{"close is final and idempotent", false, checkClose},
	{"a done context changes nothing", false, checkContext},
	{"an invalid snapshot changes nothing", false, checkInvalid},
	{"concurrent saves leave one of them", false, checkConcurrent},
	{"damage is told once and out of the way", true, checkDamage},
	{"what is damaged is kept", true, checkKept},
	{"a board lives on it", false, checkBoard},
}

// Snapshots that differ in window, length and every price.
var (
	first  = priceboard.Snapshot{Window: 7, Prices: []uint64{5, 0, math.MaxUint64, 5, 1}}
	second = priceboard.Snapshot{Window: 100, Prices: []uint64{9, 8}}
)

// load opens the place, loads and closes.
func load(ctx context.Context, p Place) (priceboard.Snapshot, error) {
	h := p.Open()
	s, err := h.Load(ctx)
	if cerr := h.Close(); cerr != nil {
		return s, fmt.Errorf("Close: %w", cerr)
	}
	return s, err
}

// save opens the place, saves and closes.
func save(ctx context.Context, p Place, s priceboard.Snapshot) error {
	h := p.Open()
	if err := h.Save(ctx, s); err != nil {
		h.Close()
		return fmt.Errorf("Save: %w", err)
	}
	return h.Close()
}

// holds checks that the place holds want.
func holds(ctx context.Context, p Place, want priceboard.Snapshot) error {
	got, err := load(ctx, p)
	if err != nil {
		return fmt.Errorf("Load: %w", err)
	}
	if got.Window != want.Window || !slices.Equal(got.Prices, want.Prices) || !slices.Equal(got.Parties, want.Parties) {
		return fmt.Errorf("loaded %s, want %s", begin(got), begin(want))
	}
	return nil
}

// begin is s as far as a reader wants to know.
func begin(s priceboard.Snapshot) string {
	return fmt.Sprintf("window %d, %d prices %v, %d parties %q", s.Window, len(s.Prices),
		s.Prices[:min(5, len(s.Prices))], len(s.Parties), s.Parties[:min(5, len(s.Parties))])
}

// wants checks that err is want.
func wants(what string, err, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("%s: error %v, want %v", what, err, want)
	}
	return nil
}

func checkEmpty(ctx context.Context, p Place) error {
	for range 2 { // looking does not fill it
		_, err := load(ctx, p)
		if err := wants("Load", err, priceboard.ErrNoSnapshot); err != nil {
			return err
		}
	}
	return nil
}

func checkRoundTrip(ctx context.Context, p Place) error {
	many := make([]uint64, 100_000)
	for i := range many {
		many[i] = uint64(i) * 0x9e3779b97f4a7c15
	}
	for _, s := range []priceboard.Snapshot{
		first,
		{Window: 1},
		{Window: math.MaxUint64, Prices: []uint64{3, 2, 1}}, // order is kept
		{Window: 1, Prices: []uint64{0}},
		{Window: 100_000, Prices: many},
	} {
		if err := save(ctx, p, s); err != nil {
			return err
		}
		for range 2 { // loading does not use it up
			if err := holds(ctx, p, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkParties(ctx context.Context, p Place) error {
	for _, parties := range [][]string{{"a", "b", "a", "", "c"}, {"", ""}, {"a\x00b"}, nil} {
		s := priceboard.Snapshot{Window: 9, Prices: []uint64{1, 2, 3, 4, 5}, Parties: parties}
		if err := save(ctx, p, s); err != nil {
			return err
		}
		if err := holds(ctx, p, s); err != nil {
			return err
		}
	}
	return nil
}

func checkReplace(ctx context.Context, p Place) error {
	h := p.Open()
	_, err := h.Load(ctx)
	if err := wants("Load", err, priceboard.ErrNoSnapshot); err != nil {
		return err
	}
	for _, s := range []priceboard.Snapshot{first, second, first, second} { // shorter, longer, and not what was first
		if err := h.Save(ctx, s); err != nil {
			return fmt.Errorf("Save: %w", err)
		}
	}
	if err := h.Close(); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	return holds(ctx, p, second)
}

func checkOwnership(ctx context.Context, p Place) error {
	mine := clone(first)
	h := p.Open()
	if err := h.Save(ctx, mine); err != nil {
		return fmt.Errorf("Save: %w", err)
	}
	if !slices.Equal(mine.Prices, first.Prices) {
		return errors.New("Save changed the prices")
	}
	clear(mine.Prices) // the board uses them again
	if err := h.Close(); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	got, err := load(ctx, p)
	if err != nil {
		return fmt.Errorf("Load: %w", err)
	}
	if !slices.Equal(got.Prices, first.Prices) {
		return fmt.Errorf("Save kept the caller's slice: loaded %v, want %v", got.Prices, first.Prices)
	}
	clear(got.Prices)
	return holds(ctx, p, first)
}

func checkClaim(ctx context.Context, p Place) error {
	if err := save(ctx, p, first); err != nil {
		return err
	}
	a, b := p.Open(), p.Open()
	defer a.Close()
	defer b.Close()
	if _, err := a.Load(ctx); err != nil {
		return fmt.Errorf("Load: %w", err)
	}
	if _, err := b.Load(ctx); !errors.Is(err, priceboard.ErrLocked) {
		return wants("Load beside another board", err, priceboard.ErrLocked)
	}
	if err := b.Save(ctx, second); !errors.Is(err, priceboard.ErrLocked) {
		return wants("Save beside another board", err, priceboard.ErrLocked)
	}
	if _, err := a.Load(ctx); !errors.Is(err, priceboard.ErrLocked) {
		return wants("a second Load on one handle", err, priceboard.ErrLocked)
	}
	if err := b.Close(); err != nil { // it has no claim to release
		return fmt.Errorf("Close: %w", err)
	}
	if _, err := load(ctx, p); !errors.Is(err, priceboard.ErrLocked) {
		return wants("Load after a refused handle was closed", err, priceboard.ErrLocked)
	}
	if err := a.Close(); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	return holds(ctx, p, first)
}

func checkSaveClaims(ctx context.Context, p Place) error {
	h := p.Open()
	defer h.Close()
	if err := h.Save(ctx, first); err != nil {
		return fmt.Errorf("Save: %w", err)
	}
	if _, err := load(ctx, p); !errors.Is(err, priceboard.ErrLocked) {
		return wants("Load beside a board that saves", err, priceboard.ErrLocked)
	}
	if _, err := h.Load(ctx); !errors.Is(err, priceboard.ErrLocked) {
		return wants("Load after Save on one handle", err, priceboard.ErrLocked)
	}
	return nil
}

func checkClose(ctx context.Context, p Place) error {
	h := p.Open()
	if err := h.Save(ctx, first); err != nil {
		return fmt.Errorf("Save: %w", err)
	}
	for range 3 {
		if err := h.Close(); err != nil {
			return fmt.Errorf("Close: %w", err)
		}
	}
	if _, err := h.Load(ctx); !errors.Is(err, priceboard.ErrClosed) {
		return wants("Load after Close", err, priceboard.ErrClosed)
	}
	if err := h.Save(ctx, second); !errors.Is(err, priceboard.ErrClosed) {
		return wants("Save after Close", err, priceboard.ErrClosed)
	}
	if err := p.Open().Close(); err != nil { // of a handle that did nothing
		return fmt.Errorf("Close: %w", err)
	}
	return holds(ctx, p, first)
}

func checkContext(ctx context.Context, p Place) error {
	if err := save(ctx, p, first); err != nil {
		return err
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := save(done, p, second); !errors.Is(err, context.Canceled) {
		return wants("Save", err, context.Canceled)
	}
	h := p.Open()
	if _, err := h.Load(done); !errors.Is(err, context.Canceled) {
		return wants("Load", err, context.Canceled)
	}
	// The load that did nothing has claimed nothing, and may be tried again.
	if err := holds(ctx, p, first); err != nil {
		return err
	}
	if _, err := h.Load(ctx); err != nil {
		return fmt.Errorf("Load after one with a done context: %w", err)
	}
	if err := h.Close(); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	return holds(ctx, p, first)
}

func checkInvalid(ctx context.Context, p Place) error {
	if err := save(ctx, p, first); err != nil {
		return err
	}
	for _, s := range []priceboard.Snapshot{
		{}, {Prices: []uint64{1}}, {Window: 2, Prices: []uint64{1, 2, 3}},
		{Window: 2, Prices: []uint64{1}, Parties: []string{"a", "b"}},
	} {
		if err := save(ctx, p, s); !errors.Is(err, priceboard.ErrSnapshot) {
			return wants(fmt.Sprintf("Save of %+v", s), err, priceboard.ErrSnapshot)
		}
	}
	return holds(ctx, p, first)
}

func checkConcurrent(ctx context.Context, p Place) error {
	h := p.Open()
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for g := range errs {
		wg.Go(func() {
			s := priceboard.Snapshot{Window: 1000, Prices: slices.Repeat([]uint64{uint64(g)}, 100*(g+1))}
			for range 5 {
				errs[g] = errors.Join(errs[g], h.Save(ctx, s))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(append(errs, h.Close())...); err != nil {
		return err
	}
	got, err := load(ctx, p)
	if err != nil {
		return fmt.Errorf("Load: %w", err)
	}
	if len(got.Prices) == 0 || !slices.Equal(got.Prices, slices.Repeat(got.Prices[:1], 100*int(got.Prices[0]+1))) {
		return fmt.Errorf("loaded %d prices of no single save", len(got.Prices))
	}
	return nil
}

func checkDamage(ctx context.Context, p Place) error {
	if err := save(ctx, p, first); err != nil {
		return err
	}
	if err := p.Damage(); err != nil {
		return fmt.Errorf("Damage: %w", err)
	}
	h := p.Open()
	defer h.Close()
	if s, err := h.Load(ctx); !errors.Is(err, priceboard.ErrCorrupt) {
		return fmt.Errorf("Load of damage: %+v, error %v, want %v", s, err, priceboard.ErrCorrupt)
	}
	if _, err := load(ctx, p); !errors.Is(err, priceboard.ErrLocked) {
		return wants("Load beside the board that met the damage", err, priceboard.ErrLocked)
	}
	if err := h.Close(); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	_, err := load(ctx, p)
	if err := wants("the next Load", err, priceboard.ErrNoSnapshot); err != nil {
		return err
	}
	if err := save(ctx, p, second); err != nil {
		return err
	}
	return holds(ctx, p, second)
}

// checkKept damages two snapshots in a row: the second does not take the place of
// the first, nor does what is saved later.
func checkKept(ctx context.Context, p Place) error {
	if p.Kept == nil {
		return errors.New("the Place has Damage and no Kept")
	}
	for round := range 2 {
		if err := save(ctx, p, first); err != nil {
			return err
		}
		if err := p.Damage(); err != nil {
			return fmt.Errorf("Damage: %w", err)
		}
		_, err := load(ctx, p)
		if err := wants("Load of damage", err, priceboard.ErrCorrupt); err != nil {
			return err
		}
		if err := save(ctx, p, second); err != nil {
			return err
		}
		if err := holds(ctx, p, second); err != nil {
			return err
		}
		if n, err := p.Kept(); err != nil || n != round+1 {
			return fmt.Errorf("%d damaged snapshots are kept (error %v), want %d", n, err, round+1)
		}
	}
	return nil
}

func checkBoard(ctx context.Context, p Place) error {
	for life := range 3 {
		b, err := priceboard.Open(ctx, p.Open(), &priceboard.Options{Window: 4})
		if err != nil {
			return fmt.Errorf("Open: %w", err)
		}
		if got, want := b.LoadResult().Prices, min(3*life, 4); got != want {
			return fmt.Errorf("life %d began with %d prices, want %d", life, got, want)
		}
		for i := range 3 {
			b.Record(uint64(10*life + i))
		}
		if err := b.Close(); err != nil {
			return fmt.Errorf("Close: %w", err)
		}
	}
	return holds(ctx, p, priceboard.Snapshot{Window: 4, Prices: []uint64{12, 20, 21, 22}})
}
