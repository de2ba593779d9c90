package couriertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/computemarket/computemarket/courier"
)

// Damageable is a second interface of the stores that an [Open] gives. A store
// that has it is also held to what courier.Store promises of damaged receipts;
// for another one these clauses are skipped. [Model] is one.
//
// Have it on a wrapper in the test, beside the way into what your store has
// written: its file, its database, its table.
type Damageable interface {
	courier.Store

	// Damages names the ways in which a receipt can be damaged that the store has
	// to survive, such as a flipped bit or a value changed by hand. After each of
	// them the store can still tell which ID and which bundle it was, and nothing
	// else for certain.
	Damages() []string

	// Damage damages what is stored of the receipt with the ID, in the way with
	// that name. The suite calls it on an open store, and looks at once and after
	// it has closed and opened the store again.
	Damage(ctx context.Context, id courier.ID, way string) error
}

// ErrNotDamageable is the answer of a clause on damage for a store that is not
// [Damageable]: it says nothing about the store.
var ErrNotDamageable = errors.New("couriertest: the store under test cannot be damaged")

// damagedIn is which of as many receipts in the same list is damaged.
const damagedIn, beside = 2, 5

// withDamage has, for each way and each list, a new store with five receipts in
// that list, of which one is damaged. It calls f with the store as it is, and
// again once it was closed and opened; all are the receipts as they were.
func withDamage(ctx context.Context, dir string, open Open,
	f func(s Damageable, all []courier.Receipt, again bool) error,
) error {
	ways := 1
	for way := 0; way < ways; way++ {
		for state := courier.Pending; state <= courier.Dead; state++ {
			place := filepath.Join(dir, fmt.Sprint(way, "-", state))
			if err := os.Mkdir(place, 0o755); err != nil {
				return err
			}
			name := fmt.Sprint("way ", way)
			err := with(func(ctx context.Context, s courier.Store) error {
				d, ok := s.(Damageable)
				if !ok || len(d.Damages()) == 0 {
					return ErrNotDamageable
				}
				ways, name = len(d.Damages()), d.Damages()[way]
				all, err := stood(ctx, s, state)
				if err != nil {
					return err
				}
				if err := d.Damage(ctx, all[damagedIn].ID, name); err != nil {
					return fmt.Errorf("Damage: %w", err)
				}
				if err := f(d, all, false); err != nil {
					return err
				}
				if err := shut(s); err != nil {
					return err
				}
				return with(func(_ context.Context, s courier.Store) error { return f(s.(Damageable), all, true) })(ctx, place, open)
			})(ctx, place, open)
			if errors.Is(err, ErrNotDamageable) {
				return err
			}
			if err != nil {
				return fmt.Errorf("a receipt that was %v, damaged by %q: %w", state, name, err)
			}
		}
	}
	return nil
}

// stood returns receipts that are stored in the list of a state.
func stood(ctx context.Context, s courier.Store, state courier.State) ([]courier.Receipt, error) {
	all, err := fill(ctx, s, 0, beside)
	if err != nil || state == courier.Pending {
		return all, err
	}
	if err := apply(ctx, s, len(all), to(state, all...)...); err != nil {
		return nil, err
	}
	for i := range all {
		if all[i], err = s.Get(ctx, all[i].ID); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// damagedAside: whoever lists a damaged receipt goes on without it, and it is
// counted aside, once. Its ID is neither free nor a repetition, and its bundle
// is still needed.
func damagedAside(ctx context.Context, dir string, open Open) error {
	return withDamage(ctx, dir, open, func(s Damageable, all []courier.Receipt, again bool) error {
		bad, state := all[damagedIn], all[damagedIn].State
		sound := append(append([]courier.Receipt{}, all[:damagedIn]...), all[damagedIn+1:]...)
		for range 2 {
			if err := expect(ctx, s, state, 0, sound...); err != nil {
				return err
			}
			if err := wantCorrupt(ctx, s, bad); err != nil {
				return err
			}
		}
		want := courier.Counts{Aside: 1}
		*listed(&want, state) = uint64(len(sound))
		return errors.Join(counts(ctx, s, want), stillNeeded(ctx, s, bad))
	})
}

// damagedMove: a receipt that is damaged after it was read is not moved, and
// keeps no other from moving.
func damagedMove(ctx context.Context, dir string, open Open) error {
	return withDamage(ctx, dir, open, func(s Damageable, all []courier.Receipt, again bool) error {
		if again {
			return wantCorrupt(ctx, s, all[damagedIn]) // the others have moved
		}
		next := courier.Acknowledged
		if all[0].State == next {
			next = courier.Dead
		}
		if err := apply(ctx, s, len(all)-1, to(next, all...)...); err != nil {
			return err
		}
		return errors.Join(wantCorrupt(ctx, s, all[damagedIn]), expect(ctx, s, all[0].State, 0))
	})
}

// damagedLast: the Seq of a damaged receipt is given to no other, and the queue
// goes on.
func damagedLast(ctx context.Context, dir string, open Open) error {
	return withDamage(ctx, dir, open, func(s Damageable, all []courier.Receipt, again bool) error {
		last := all[len(all)-1].Seq
		if again {
			last++ // that was given below
		} else if err := apply(ctx, s, 2, to(courier.Gone, all[damagedIn+1:]...)...); err != nil {
			return err // the damaged one is the last that is there
		}
		i := len(all)
		if again {
			i++
		}
		next, err := s.Append(ctx, receipt(i))
		if err != nil {
			return fmt.Errorf("Append beside a damaged receipt: %w", err)
		}
		if next.Seq <= last {
			return fmt.Errorf("the Seq %d was given, before it %d", next.Seq, last)
		}
		return errors.Join(get(ctx, s, next), wantCorrupt(ctx, s, all[damagedIn]))
	})
}

func wantCorrupt(ctx context.Context, s courier.Store, r courier.Receipt) error {
	if got, err := s.Get(ctx, r.ID); !errors.Is(err, courier.ErrCorrupt) {
		return fmt.Errorf("Get of the damaged receipt: %+v, %v, want ErrCorrupt", got, err)
	}
	if got, err := s.Append(ctx, r); !errors.Is(err, courier.ErrCorrupt) {
		return fmt.Errorf("Append of the damaged receipt: %+v, %v, want ErrCorrupt", got, err)
	}
	r.Sender += "x"
	if got, err := s.Append(ctx, r); !errors.Is(err, courier.ErrCorrupt) {
		return fmt.Errorf("Append of other content under the ID of the damaged receipt: %+v, %v, want ErrCorrupt", got, err)
	}
	return nil
}

// stillNeeded checks that the bundle of a damaged receipt, which nobody knows to
// be delivered, stays.
func stillNeeded(ctx context.Context, s courier.Store, r courier.Receipt) error {
	index, ok := s.(courier.BundleIndex)
	if !ok || r.State == courier.Acknowledged || !r.Carried {
		return nil
	}
	if needed, err := index.Needs(ctx, r.Bundle); !needed || err != nil {
		return fmt.Errorf("Needs = %v, %v for the bundle of a damaged receipt", needed, err)
	}
	return nil
}

// listed is the count of a state's list.
func listed(c *courier.Counts, s courier.State) *uint64 {
	switch s {
	case courier.Acknowledged:
		return &c.Acknowledged
	case courier.Dead:
		return &c.Dead
	}
	return &c.Pending
}
