package receipttest_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

// mems gives one model for each name, as a disk would.
func mems() receipttest.Open {
	byName := map[string]*receipttest.Mem{}
	return func(name string) (receipt.Store, error) {
		if byName[name] == nil {
			byName[name] = new(receipttest.Mem)
		}
		return byName[name], nil
	}
}

func TestMem(t *testing.T) { receipttest.Run(t, damageables(damaged{})) }

// damaged is a model of which records can be damaged, and the faults of a store
// that meets them.
type damaged struct {
	*receipttest.Mem
	bad     map[receipt.Key]uint64 // and their numbers
	counted map[receipt.Key]bool
	n       *int

	ends, free, absent, everyPass, uncounted, numberAgain bool
}

// damageables gives one for each name, with the faults of plan.
func damageables(plan damaged) receipttest.Open {
	byName := map[string]damaged{}
	return func(name string) (receipt.Store, error) {
		d, ok := byName[name]
		if !ok {
			d = plan
			d.Mem, d.bad = new(receipttest.Mem), map[receipt.Key]uint64{}
			byName[name] = d
		}
		d.counted, d.n = map[receipt.Key]bool{}, new(int)
		return d, nil
	}
}

func (d damaged) Damages() []string { return []string{"gone", "still gone"} }
func (d damaged) Corrupt() int      { return *d.n }

func (d damaged) Damage(ctx context.Context, key receipt.Key, _ string) error {
	rec, err := d.Mem.Get(ctx, key)
	d.bad[key] = rec.Seq
	return err
}

func (d damaged) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	if d.free {
		return d.Mem.Append(ctx, rs)
	}
	sound := slices.DeleteFunc(slices.Clone(rs), func(r receipt.Receipt) bool { return d.bad[r.Key] > 0 })
	st, err := d.Mem.Append(ctx, sound)
	if st == nil {
		return nil, err
	}
	for i := range rs {
		if d.bad[rs[i].Key] > 0 {
			st = slices.Insert(st, i, receipt.Corrupt)
		}
	}
	return st, receipt.Refusal(rs, st)
}

func (d damaged) Get(ctx context.Context, key receipt.Key) (receipt.Record, error) {
	if d.bad[key] == 0 {
		rec, err := d.Mem.Get(ctx, key)
		return d.shift(rec), err
	}
	if d.absent {
		return receipt.Record{}, receipt.ErrNotFound
	}
	return receipt.Record{}, receipt.ErrCorrupt
}

// shift gives the record behind a damaged one the number of that.
func (d damaged) shift(rec receipt.Record) receipt.Record {
	for _, seq := range d.bad {
		if d.numberAgain && rec.Seq > seq {
			rec.Seq--
		}
	}
	return rec
}

func (d damaged) After(ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error] {
	return func(yield func(receipt.Record, error) bool) {
		for rec, err := range d.Mem.After(ctx, seq) {
			if d.bad[rec.Key] > 0 {
				if !d.uncounted && (d.everyPass || !d.counted[rec.Key]) {
					*d.n++
				}
				d.counted[rec.Key] = true
				if d.ends {
					yield(receipt.Record{}, receipt.ErrCorrupt)
					return
				}
				continue
			}
			if !yield(d.shift(rec), err) {
				return
			}
		}
	}
}

func clause(t *testing.T, name string) receipttest.Clause {
	t.Helper()
	i := slices.IndexFunc(receipttest.Clauses(), func(c receipttest.Clause) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no clause %s", name)
	}
	return receipttest.Clauses()[i]
}

func TestSuiteCatchesDamage(t *testing.T) {
	for name, c := range map[string]struct {
		clause string
		plan   damaged
	}{
		"ends the iteration":          {"Damaged", damaged{ends: true}},
		"takes the damaged for free":  {"Damaged", damaged{free: true}},
		"says it is absent":           {"Damaged", damaged{absent: true}},
		"counts it in every pass":     {"Damaged", damaged{everyPass: true}},
		"does not count it":           {"Damaged", damaged{uncounted: true}},
		"promotes the damaged":        {"DamagedDryRun", damaged{free: true}},
		"gives its number to another": {"DamagedLast", damaged{numberAgain: true}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := clause(t, c.clause).Check(t.Context(), damageables(c.plan)); err == nil {
				t.Errorf("clause %s passes", c.clause)
			} else {
				t.Log(err)
			}
		})
	}
}

// A store that cannot be damaged is not held to what it cannot be asked.
func TestDamageIsOptional(t *testing.T) {
	for _, name := range []string{"Damaged", "DamagedDryRun", "DamagedLast"} {
		if err := clause(t, name).Check(t.Context(), mems()); !errors.Is(err, receipttest.ErrNotDamageable) {
			t.Errorf("%s: %v, want ErrNotDamageable", name, err)
		}
	}
}

// broken changes one answer of the model.
type broken struct {
	receipt.Store
	append func(s receipt.Store, ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error)
	after  func(s receipt.Store, ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error]
}

func (b broken) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	if b.append == nil {
		return b.Store.Append(ctx, rs)
	}
	return b.append(b.Store, ctx, rs)
}

func (b broken) After(ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error] {
	if b.after == nil {
		return b.Store.After(ctx, seq)
	}
	return b.after(b.Store, ctx, seq)
}

// Each broken store must fail the clause that is named.
func TestSuiteCatches(t *testing.T) {
	for name, c := range map[string]struct {
		clause string
		broken broken
	}{
		"conflict taken for a duplicate": {"Conflict", broken{append: func(s receipt.Store, ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
			st, err := s.Append(ctx, rs)
			if i := slices.Index(st, receipt.Conflict); i >= 0 {
				st[i], err = receipt.Duplicate, nil
			}
			return st, err
		}}},
		"promotion lost": {"Promotion", broken{append: func(s receipt.Store, ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
			for _, r := range rs {
				if old, err := s.Get(ctx, r.Key); err == nil && old.DryRun {
					return []receipt.Status{receipt.Duplicate}, nil
				}
			}
			return s.Append(ctx, rs)
		}}},
		"no validation": {"InvalidWritesNothing", broken{append: func(s receipt.Store, ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
			st, err := s.Append(ctx, rs)
			if err != nil && st == nil {
				s.Append(ctx, rs[:1])
			}
			return st, err
		}}},
		"acknowledges without recording": {"InsertGetAfter", broken{append: func(s receipt.Store, ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
			st := make([]receipt.Status, len(rs))
			for i := range st {
				st[i] = receipt.Inserted
			}
			return st, nil
		}}},
		"ignores the cursor": {"InsertGetAfter", broken{after: func(s receipt.Store, ctx context.Context, _ uint64) iter.Seq2[receipt.Record, error] {
			return s.After(ctx, 0)
		}}},
		"ignores the context": {"AfterStops", broken{after: func(s receipt.Store, _ context.Context, seq uint64) iter.Seq2[receipt.Record, error] {
			return s.After(context.Background(), seq)
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			open := mems()
			err := clause(t, c.clause).Check(t.Context(), func(name string) (receipt.Store, error) {
				s, err := open(name)
				c.broken.Store = s
				return c.broken, err
			})
			if err == nil {
				t.Errorf("clause %s passes", c.clause)
			}
		})
	}
}
