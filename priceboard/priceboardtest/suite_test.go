package priceboardtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/computemarket/computemarket/priceboard"
)

func memory(*testing.T) Place {
	m := new(Memory)
	return Place{
		Open:   m.Open,
		Damage: func() error { m.Damage(); return nil },
		Kept:   func() (int, error) { return len(m.Aside()), nil },
	}
}

func TestMemory(t *testing.T) { Run(t, memory) }

func TestFile(t *testing.T) {
	Run(t, func(t *testing.T) Place {
		path := filepath.Join(t.TempDir(), "price_board.v1.bin")
		return Place{
			Open: func() priceboard.Store { return priceboard.File(path, nil) },
			Damage: func() error {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				data[len(data)/2] ^= 1
				return os.WriteFile(path, data, 0o644)
			},
			Kept: func() (int, error) {
				names, err := filepath.Glob(path + ".corrupt*")
				return len(names), err
			},
		}
	})
}

// TestWithoutDamage: a place that cannot be damaged passes without those clauses.
func TestWithoutDamage(t *testing.T) {
	Run(t, func(t *testing.T) Place { return Place{Open: memory(t).Open} })
}

// TestDamageIsDone: and one that can be is damaged, in each of those clauses.
func TestDamageIsDone(t *testing.T) {
	places := 0
	Run(t, func(t *testing.T) Place {
		p := memory(t)
		damage, done := p.Damage, false
		p.Damage = func() error {
			if !done {
				places++
			}
			done = true
			return damage()
		}
		return p
	})
	if places != 2 {
		t.Errorf("%d places were damaged, want 2", places)
	}
}

// A broken is a handle of a Memory with one promise broken.
type broken struct {
	priceboard.Store
	load  func(ctx context.Context, inner priceboard.Store) (priceboard.Snapshot, error)
	save  func(ctx context.Context, inner priceboard.Store, s priceboard.Snapshot) error
	close func(inner priceboard.Store) error
}

func (b *broken) Load(ctx context.Context) (priceboard.Snapshot, error) {
	if b.load != nil {
		return b.load(ctx, b.Store)
	}
	return b.Store.Load(ctx)
}

func (b *broken) Save(ctx context.Context, s priceboard.Snapshot) error {
	if b.save != nil {
		return b.save(ctx, b.Store, s)
	}
	return b.Store.Save(ctx, s)
}

func (b *broken) Close() error {
	if b.close != nil {
		return b.close(b.Store)
	}
	return b.Store.Close()
}

// TestBrokenStores: for each clause there is a store that breaks it, and is
// caught by it.
func TestBrokenStores(t *testing.T) {
	ctx := context.Background()
	breaks := map[string]func() *broken{
		"an empty place has no snapshot": func() *broken { // an empty snapshot instead of the sentinel
			return &broken{load: func(ctx context.Context, in priceboard.Store) (priceboard.Snapshot, error) {
				s, err := in.Load(ctx)
				if err == priceboard.ErrNoSnapshot {
					return priceboard.Snapshot{Window: 1}, nil
				}
				return s, err
			}}
		},
		"what is saved comes back": func() *broken { // loses the order
			return &broken{save: func(ctx context.Context, in priceboard.Store, s priceboard.Snapshot) error {
				s = clone(s)
				for i, j := 0, len(s.Prices)-1; i < j; i, j = i+1, j-1 {
					s.Prices[i], s.Prices[j] = s.Prices[j], s.Prices[i]
				}
				return in.Save(ctx, s)
			}}
		},
		"parties come back with their prices": func() *broken { // knows version 1 only
			return &broken{save: func(ctx context.Context, in priceboard.Store, s priceboard.Snapshot) error {
				s.Parties = nil
				return in.Save(ctx, s)
			}}
		},
		"a save replaces all of the last": func() *broken { // writes over the file without cutting it
			var last []uint64
			return &broken{save: func(ctx context.Context, in priceboard.Store, s priceboard.Snapshot) error {
				s = clone(s)
				if len(last) > len(s.Prices) && s.Window >= uint64(len(last)) {
					s.Prices = append(s.Prices, last[len(s.Prices):]...)
				}
				last = s.Prices
				return in.Save(ctx, s)
			}}
		},
		"the caller owns the prices": func() *broken { // writes when it is closed
			var kept *priceboard.Snapshot
			return &broken{
				save: func(ctx context.Context, in priceboard.Store, s priceboard.Snapshot) error {
					kept = &s
					return in.Save(ctx, s)
				},
				close: func(in priceboard.Store) error {
					if kept != nil {
						in.Save(ctx, *kept)
					}
					return in.Close()
				},
			}
		},
		"one handle holds the place": func() *broken { // loads again
			var first priceboard.Snapshot
			return &broken{load: func(ctx context.Context, in priceboard.Store) (priceboard.Snapshot, error) {
				s, err := in.Load(ctx)
				if errors.Is(err, priceboard.ErrLocked) && first.Window > 0 {
					return clone(first), nil
				}
				first = clone(s)
				return s, err
			}}
		},
		"save claims the place": func() *broken { // holds nothing between saves
			return &broken{save: func(ctx context.Context, in priceboard.Store, s priceboard.Snapshot) error {
				err := in.Save(ctx, s)
				in.(*handle).m.owner = nil
				return err
			}}
		},
		"close is final and idempotent": func() *broken { // a second close is an error
			closed := false
			return &broken{close: func(in priceboard.Store) error {
				if closed {
					return priceboard.ErrClosed
				}
				closed = true
				return in.Close()
			}}
		},
		"a done context changes nothing": func() *broken { // ignores it
			return &broken{save: func(ctx context.Context, in priceboard.Store, s priceboard.Snapshot) error {
				return in.Save(context.WithoutCancel(ctx), s)
			}}
		},
		"an invalid snapshot changes nothing": func() *broken { // makes it fit
			return &broken{save: func(ctx context.Context, in priceboard.Store, s priceboard.Snapshot) error {
				s.Window = max(s.Window, uint64(len(s.Prices)), 1)
				return in.Save(ctx, s)
			}}
		},
		"concurrent saves leave one of them": func() *broken { // window and prices in two steps
			return &broken{save: func(ctx context.Context, in priceboard.Store, s priceboard.Snapshot) error {
				m := in.(*handle).m
				m.mu.Lock()
				var before []uint64
				if m.saved != nil {
					before = m.saved.Prices
				}
				m.mu.Unlock()
				if len(before) > 0 && len(before) != len(s.Prices) {
					s.Prices = append(append([]uint64{}, before[:1]...), s.Prices...)
				}
				return in.Save(ctx, s)
			}}
		},
		"damage is told once and out of the way": func() *broken { // takes it for nothing
			return &broken{load: func(ctx context.Context, in priceboard.Store) (priceboard.Snapshot, error) {
				s, err := in.Load(ctx)
				if errors.Is(err, priceboard.ErrCorrupt) {
					err = priceboard.ErrNoSnapshot
				}
				return s, err
			}}
		},
		"what is damaged is kept": func() *broken { // throws it away
			return &broken{load: func(ctx context.Context, in priceboard.Store) (priceboard.Snapshot, error) {
				s, err := in.Load(ctx)
				in.(*handle).m.aside = nil
				return s, err
			}}
		},
		"a board lives on it": func() *broken { // claims are never released
			return &broken{close: func(priceboard.Store) error { return nil }}
		},
	}
	for _, c := range clauses {
		mk := breaks[c.name]
		if mk == nil {
			t.Errorf("%s: nothing breaks it", c.name)
			continue
		}
		p := memory(t)
		open := p.Open
		p.Open = func() priceboard.Store {
			b := mk()
			b.Store = open()
			return b
		}
		err := c.check(ctx, p)
		if err == nil {
			t.Errorf("%s: a store that breaks it was not caught", c.name)
		}
		t.Logf("%s: %v", c.name, err)
	}
}

// TestMoreBrokenStores: some clauses have a second side, and a store that breaks
// just that.
func TestMoreBrokenStores(t *testing.T) {
	told, damaged := false, false
	for _, broke := range []struct {
		clause, how string
		open        func() *broken
	}{
		{"a done context changes nothing", "Load claims before it looks", func() *broken {
			return &broken{load: func(ctx context.Context, in priceboard.Store) (priceboard.Snapshot, error) {
				if err := ctx.Err(); err != nil {
					in.(*handle).m.owner = in.(*handle)
					return priceboard.Snapshot{}, err
				}
				return in.Load(ctx)
			}}
		}},
		{"a done context changes nothing", "Load can be called but once", func() *broken {
			called := false
			return &broken{load: func(ctx context.Context, in priceboard.Store) (priceboard.Snapshot, error) {
				if called {
					return priceboard.Snapshot{}, priceboard.ErrLocked
				}
				called = true
				return in.Load(ctx)
			}}
		}},
		{"damage is told once and out of the way", "it stays where it is", func() *broken {
			return &broken{load: func(ctx context.Context, in priceboard.Store) (priceboard.Snapshot, error) {
				s, err := in.Load(ctx)
				if told = told || errors.Is(err, priceboard.ErrCorrupt); told && errors.Is(err, priceboard.ErrNoSnapshot) {
					err = priceboard.ErrCorrupt
				}
				return s, err
			}}
		}},
		{"damage is told once and out of the way", "nothing is saved after it", func() *broken {
			return &broken{
				load: func(ctx context.Context, in priceboard.Store) (priceboard.Snapshot, error) {
					s, err := in.Load(ctx)
					damaged = damaged || errors.Is(err, priceboard.ErrCorrupt)
					return s, err
				},
				save: func(ctx context.Context, in priceboard.Store, s priceboard.Snapshot) error {
					if damaged {
						return nil
					}
					return in.Save(ctx, s)
				},
			}
		}},
		{"save claims the place", "and Load loads once more", func() *broken {
			return &broken{load: func(ctx context.Context, in priceboard.Store) (priceboard.Snapshot, error) {
				s, err := in.Load(ctx)
				if h := in.(*handle); h.m.owner == h && errors.Is(err, priceboard.ErrLocked) {
					return clone(*h.m.saved), nil
				}
				return s, err
			}}
		}},
	} {
		found := false
		for _, c := range clauses {
			if c.name != broke.clause {
				continue
			}
			found = true
			p := memory(t)
			open := p.Open
			p.Open = func() priceboard.Store {
				b := broke.open()
				b.Store = open()
				return b
			}
			if err := c.check(t.Context(), p); err == nil {
				t.Errorf("%s: a store is not caught: %s", c.name, broke.how)
			}
		}
		if !found {
			t.Errorf("no clause %q", broke.clause)
		}
	}
}

// dropping is a store that keeps the first Save of all and drops the others, and
// whose errors are wrapped, as those of most stores are.
func dropping(p Place) Place {
	open, saved := p.Open, false
	wrap := func(err error) error {
		if err != nil {
			err = fmt.Errorf("dropping: %w", err)
		}
		return err
	}
	p.Open = func() priceboard.Store {
		return &broken{
			Store: open(),
			load: func(ctx context.Context, in priceboard.Store) (priceboard.Snapshot, error) {
				s, err := in.Load(ctx)
				return s, wrap(err)
			},
			save: func(ctx context.Context, in priceboard.Store, s priceboard.Snapshot) error {
				if !saved {
					err := in.Save(ctx, s)
					saved = err == nil
					return wrap(err)
				}
				return nil
			},
		}
	}
	return p
}

// TestDroppedSaves: a store that drops all Saves but the first is caught by the
// clause that says so, though it wraps its errors.
func TestDroppedSaves(t *testing.T) {
	const clause = "a save replaces all of the last"
	for _, c := range clauses {
		if c.name != clause {
			continue
		}
		if err := c.check(t.Context(), dropping(memory(t))); err == nil {
			t.Errorf("%s: not caught", clause)
		}
		return
	}
	t.Errorf("no clause %q", clause)
}

// TestWrappedErrors: a store may wrap the errors that it returns.
func TestWrappedErrors(t *testing.T) {
	Run(t, func(t *testing.T) Place {
		p := memory(t)
		open := p.Open
		p.Open = func() priceboard.Store {
			return &broken{
				Store: open(),
				load: func(ctx context.Context, in priceboard.Store) (priceboard.Snapshot, error) {
					s, err := in.Load(ctx)
					if err != nil {
						err = fmt.Errorf("wrapped: %w", err)
					}
					return s, err
				},
			}
		}
		return p
	})
}

// TestMemoryKeepsWhatIsDamaged: also when nobody loads it before the next save.
func TestMemoryKeepsWhatIsDamaged(t *testing.T) {
	m := new(Memory)
	p := Place{Open: m.Open}
	for _, s := range []priceboard.Snapshot{first, second} {
		if err := save(t.Context(), p, s); err != nil {
			t.Fatal(err)
		}
		m.Damage()
	}
	if _, err := load(t.Context(), p); !errors.Is(err, priceboard.ErrCorrupt) {
		t.Errorf("Load: %v", err)
	}
	got := m.Aside()
	if len(got) != 2 || !slices.Equal(got[0].Prices, first.Prices) || !slices.Equal(got[1].Prices, second.Prices) {
		t.Errorf("aside: %v", got)
	}
}

// TestMemoryFail: the fault of a Memory reaches the board, and passes.
func TestMemoryFail(t *testing.T) {
	m := new(Memory)
	b, err := priceboard.Open(t.Context(), m.Open(), nil)
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	m.Fail(full)
	b.Record(1)
	if err := b.Save(t.Context()); !errors.Is(err, full) {
		t.Errorf("Save: %v", err)
	}
	if _, ok := m.Saved(); ok {
		t.Error("something was saved")
	}
	m.Fail(nil)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	s, ok := m.Saved()
	data, err := s.MarshalBinary()
	if !ok || err != nil || !bytes.HasPrefix(data, []byte("PBRD")) {
		t.Errorf("%+v, %v, %v", s, ok, err)
	}
}
