package receipttest_test

import (
	"context"
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

func TestMem(t *testing.T) { receipttest.Run(t, mems()) }

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
			i := slices.IndexFunc(receipttest.Clauses(), func(cl receipttest.Clause) bool { return cl.Name == c.clause })
			err := receipttest.Clauses()[i].Check(t.Context(), func(name string) (receipt.Store, error) {
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
