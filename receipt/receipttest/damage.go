package receipttest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/computemarket/computemarket/receipt"
)

// Damageable is a second interface of the stores that an [Open] gives. A store
// that has it is also held to what receipt.Store promises of damaged records; for
// another one these clauses are skipped.
//
// Have it on a wrapper in the test, beside the way into what your store has
// written: its file, its database, its table.
type Damageable interface {
	receipt.Store

	// Damages names the ways in which a record can be damaged that the store has
	// to survive, such as a flipped bit or a value changed by hand. After each of
	// them nobody can tell what the receipt said; damage that the store mends is
	// not for here.
	Damages() []string

	// Damage damages what is stored of the receipt with the key, in the way with
	// that name. The suite calls it on an open store, and closes and opens the
	// store before it looks.
	Damage(ctx context.Context, key receipt.Key, way string) error

	// Corrupt returns how many damaged records this store has told its
	// receipt.Metrics of. A store that is opened again begins at zero.
	Corrupt() int
}

// Counter is a receipt.Metrics that remembers how many damaged records it was
// told of. The zero Counter is ready.
type Counter struct{ n atomic.Int64 }

// Corrupt implements receipt.Metrics.
func (c *Counter) Corrupt(n int) { c.n.Add(int64(n)) }

// N returns how many it was told of.
func (c *Counter) N() int { return int(c.n.Load()) }

// ErrNotDamageable is the answer of a clause on damage for a store that is not
// [Damageable]: it says nothing about the store.
var ErrNotDamageable = errors.New("receipttest: the store under test cannot be damaged")

// withDamage has, for each way, a new store with the receipts, in which that at
// index bad is damaged. It calls f twice, each time with the store just opened,
// and with the damaged record as it was.
func withDamage(ctx context.Context, open Open, name string, rs []receipt.Receipt, bad int,
	f func(s Damageable, was receipt.Record, again bool) error,
) error {
	var ways []string
	var was receipt.Record
	first := func(name string, way int) error {
		return with(name, open, func(s receipt.Store) error {
			d, ok := s.(Damageable)
			if !ok {
				return ErrNotDamageable
			}
			ways = d.Damages()
			if len(ways) == 0 {
				return ErrNotDamageable
			}
			_, err := s.Append(ctx, rs)
			if err == nil {
				was, err = s.Get(ctx, rs[bad].Key)
			}
			if err != nil {
				return err
			}
			return d.Damage(ctx, rs[bad].Key, ways[way])
		})
	}
	for way := 0; way == 0 || way < len(ways); way++ {
		name := fmt.Sprintf("%s-%d", name, way)
		err := first(name, way)
		if errors.Is(err, ErrNotDamageable) {
			return err
		}
		for _, again := range []bool{false, true} {
			if err == nil {
				err = with(name, open, func(s receipt.Store) error { return f(s.(Damageable), was, again) })
			}
			if err != nil {
				return fmt.Errorf("damage %q, opened again %v: %w", ways[way], again, err)
			}
		}
	}
	return nil
}

// A damaged record stops nobody but those who ask for it, and is counted once
// for each time the store is opened.
func damaged(ctx context.Context, open Open) error {
	rs := []receipt.Receipt{numbered(0), numbered(1), dry(numbered(2)), numbered(3)}
	const bad = 1
	fresh := []receipt.Receipt{numbered(10), numbered(11)}
	return withDamage(ctx, open, "damaged", rs, bad, func(s Damageable, was receipt.Record, again bool) error {
		sound, next := []receipt.Receipt{rs[0], rs[2], rs[3]}, fresh[0]
		if again {
			sound, next = append(sound, fresh[0]), fresh[1]
		}
		for range 2 {
			if err := errors.Join(wantLog(ctx, s, sound...), wantCorrupt(ctx, s, rs[bad])); err != nil {
				return err
			}
		}
		if err := wantAppend(ctx, s, []receipt.Receipt{rs[0], rs[bad], next},
			receipt.Duplicate, receipt.Corrupt, receipt.Inserted); err != nil {
			return err
		}
		if err := wantLog(ctx, s, append(sound, next)...); err != nil {
			return err
		}
		if n := s.Corrupt(); n != 1 {
			return fmt.Errorf("one damaged record was counted as %d", n)
		}
		return nil
	})
}

// wantCorrupt checks that the key of r is neither free nor taken.
func wantCorrupt(ctx context.Context, s receipt.Store, r receipt.Receipt) error {
	if rec, err := s.Get(ctx, r.Key); !errors.Is(err, receipt.ErrCorrupt) {
		return fmt.Errorf("Get of the damaged receipt: %+v, %v, want ErrCorrupt", rec, err)
	}
	return errors.Join(
		wantAppend(ctx, s, []receipt.Receipt{r}, receipt.Corrupt),
		wantAppend(ctx, s, []receipt.Receipt{dry(r)}, receipt.Corrupt))
}

// A dry run that is damaged is not promoted: nobody can tell that it was one.
func damagedDryRun(ctx context.Context, open Open) error {
	rs := []receipt.Receipt{dry(numbered(0)), dry(numbered(1))}
	real := numbered(1)
	return withDamage(ctx, open, "damaged-dry", rs, 1, func(s Damageable, _ receipt.Record, _ bool) error {
		return errors.Join(wantCorrupt(ctx, s, real), wantLog(ctx, s, rs[0]))
	})
}

// The number of a damaged record, even the last, is given to no other: a
// consumer may have passed it.
func damagedLast(ctx context.Context, open Open) error {
	rs := []receipt.Receipt{numbered(0), numbered(1)}
	return withDamage(ctx, open, "damaged-last", rs, 1, func(s Damageable, was receipt.Record, again bool) error {
		if !again {
			return nil // opened twice, and what was damaged is perhaps elsewhere by now
		}
		next := numbered(2)
		if err := wantAppend(ctx, s, []receipt.Receipt{next}, receipt.Inserted); err != nil {
			return err
		}
		rec, err := s.Get(ctx, next.Key)
		if err != nil || rec.Seq <= was.Seq {
			return fmt.Errorf("the next number is %d, %v; a damaged record has %d", rec.Seq, err, was.Seq)
		}
		return errors.Join(wantCorrupt(ctx, s, rs[1]), wantLog(ctx, s, rs[0], next))
	})
}
