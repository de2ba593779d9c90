package settlementtest_test

import (
	"context"
	"slices"
	"testing"

	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

// byName gives one model for each name, as a disk would.
func byName[T any](make func() T) settlementtest.Open[T] {
	all := map[string]T{}
	return func(name string) (T, error) {
		if _, ok := all[name]; !ok {
			all[name] = make()
		}
		return all[name], nil
	}
}

func ledgers() settlementtest.Open[settlement.Ledger] {
	return byName(func() settlement.Ledger { return new(settlementtest.Ledger) })
}

func stores() settlementtest.Open[settlement.Store] {
	return byName(func() settlement.Store { return new(settlementtest.Store) })
}

func TestLedger(t *testing.T) { settlementtest.RunLedger(t, ledgers()) }

func TestStore(t *testing.T) { settlementtest.RunStore(t, stores()) }

// fails reports whether the named clause catches the broken implementation.
func fails[T any](t *testing.T, clauses []settlementtest.Clause[T], name string, open settlementtest.Open[T]) bool {
	i := slices.IndexFunc(clauses, func(c settlementtest.Clause[T]) bool { return c.Name == name })
	return clauses[i].Check(t.Context(), open) != nil
}

type brokenLedger struct {
	settlement.Ledger
	post func(settlement.Ledger, context.Context, []settlement.Transfer) ([]settlement.Result, error)
}

func (b brokenLedger) Post(ctx context.Context, ts []settlement.Transfer) ([]settlement.Result, error) {
	return b.post(b.Ledger, ctx, ts)
}

func TestLedgerSuiteCatches(t *testing.T) {
	type postFunc = func(settlement.Ledger, context.Context, []settlement.Transfer) ([]settlement.Result, error)
	for name, c := range map[string]struct {
		clause string
		post   postFunc
	}{
		"debit without credit": {"DebitAndCredit", func(l settlement.Ledger, ctx context.Context, ts []settlement.Transfer) ([]settlement.Result, error) {
			ts = slices.Clone(ts)
			for i := range ts {
				if ts[i].To == "b" {
					ts[i].To = l.Issuer()
				}
			}
			return l.Post(ctx, ts)
		}},
		"another content under the same id accepted": {"ConflictOnOtherContent", func(l settlement.Ledger, ctx context.Context, ts []settlement.Transfer) ([]settlement.Result, error) {
			r, err := l.Post(ctx, ts)
			if err != nil && len(r) < len(ts) {
				return append(r, settlement.Duplicate), nil
			}
			return r, err
		}},
		"applies an id twice": {"OncePerID", func(l settlement.Ledger, ctx context.Context, ts []settlement.Transfer) ([]settlement.Result, error) {
			r, err := l.Post(ctx, ts)
			for i := range r {
				if r[i] == settlement.Duplicate {
					again := ts[i]
					again.ID[0] ^= 0xff
					l.Post(ctx, []settlement.Transfer{again})
				}
			}
			return r, err
		}},
		"goes on after a failure": {"StopsAtFirstFailure", func(l settlement.Ledger, ctx context.Context, ts []settlement.Transfer) ([]settlement.Result, error) {
			r, err := l.Post(ctx, ts)
			if err != nil && len(r)+1 < len(ts) {
				l.Post(ctx, ts[len(r)+1:])
			}
			return r, err
		}},
		"acknowledges without applying": {"IssueTransferBurn", func(l settlement.Ledger, ctx context.Context, ts []settlement.Transfer) ([]settlement.Result, error) {
			r := make([]settlement.Result, len(ts))
			for i := range r {
				r[i] = settlement.Applied
			}
			return r, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			open := ledgers()
			caught := fails(t, settlementtest.LedgerClauses(), c.clause, func(name string) (settlement.Ledger, error) {
				l, err := open(name)
				return brokenLedger{l, c.post}, err
			})
			if !caught {
				t.Errorf("clause %s passes", c.clause)
			}
		})
	}
}

type brokenStore struct {
	settlement.Store
	save func(settlement.Store, context.Context, settlement.State, []settlement.Failure, []uint64) error
}

func (b brokenStore) Save(ctx context.Context, st settlement.State, put []settlement.Failure, drop []uint64) error {
	return b.save(b.Store, ctx, st, put, drop)
}

func TestStoreSuiteCatches(t *testing.T) {
	for name, c := range map[string]struct {
		clause string
		save   func(settlement.Store, context.Context, settlement.State, []settlement.Failure, []uint64) error
	}{
		"archive lost": {"SaveTogether", func(s settlement.Store, ctx context.Context, st settlement.State, _ []settlement.Failure, drop []uint64) error {
			return s.Save(ctx, st, nil, drop)
		}},
		"mode lost": {"SaveTogether", func(s settlement.Store, ctx context.Context, st settlement.State, put []settlement.Failure, drop []uint64) error {
			st.Mode = settlement.DryRun
			return s.Save(ctx, st, put, drop)
		}},
		"no fence": {"Fenced", func(s settlement.Store, ctx context.Context, st settlement.State, put []settlement.Failure, drop []uint64) error {
			for err := s.Save(ctx, st, put, drop); err != nil; err = s.Save(ctx, st, put, drop) {
				st.Epoch++
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			open := stores()
			caught := fails(t, settlementtest.StoreClauses(), c.clause, func(name string) (settlement.Store, error) {
				s, err := open(name)
				return brokenStore{s, c.save}, err
			})
			if !caught {
				t.Errorf("clause %s passes", c.clause)
			}
		})
	}
}
