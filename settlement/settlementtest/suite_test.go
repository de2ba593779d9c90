package settlementtest_test

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"
	"sync/atomic"
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
	post func(settlement.Ledger, context.Context, settlement.Lease, []settlement.Transfer) ([]settlement.Result, error)
}

func (b brokenLedger) Post(ctx context.Context, lease settlement.Lease, ts []settlement.Transfer) ([]settlement.Result, error) {
	return b.post(b.Ledger, ctx, lease, ts)
}

func TestLedgerSuiteCatches(t *testing.T) {
	type postFunc = func(settlement.Ledger, context.Context, settlement.Lease, []settlement.Transfer) ([]settlement.Result, error)
	for name, c := range map[string]struct {
		clause string
		post   postFunc
	}{
		"debit without credit": {"DebitAndCredit", func(l settlement.Ledger, ctx context.Context, lease settlement.Lease, ts []settlement.Transfer) ([]settlement.Result, error) {
			ts = slices.Clone(ts)
			for i := range ts {
				if ts[i].To == "b" {
					ts[i].To = l.Issuer()
				}
			}
			return l.Post(ctx, lease, ts)
		}},
		"another content under the same id accepted": {"ConflictOnOtherContent", func(l settlement.Ledger, ctx context.Context, lease settlement.Lease, ts []settlement.Transfer) ([]settlement.Result, error) {
			r, err := l.Post(ctx, lease, ts)
			if err != nil && len(r) < len(ts) {
				return append(r, settlement.Duplicate), nil
			}
			return r, err
		}},
		"applies an id twice": {"OncePerID", func(l settlement.Ledger, ctx context.Context, lease settlement.Lease, ts []settlement.Transfer) ([]settlement.Result, error) {
			r, err := l.Post(ctx, lease, ts)
			for i := range r {
				if r[i] == settlement.Duplicate {
					again := ts[i]
					again.ID[0] ^= 0xff
					l.Post(ctx, lease, []settlement.Transfer{again})
				}
			}
			return r, err
		}},
		"goes on after a failure": {"StopsAtFirstFailure", func(l settlement.Ledger, ctx context.Context, lease settlement.Lease, ts []settlement.Transfer) ([]settlement.Result, error) {
			r, err := l.Post(ctx, lease, ts)
			if err != nil && len(r)+1 < len(ts) {
				l.Post(ctx, lease, ts[len(r)+1:])
			}
			return r, err
		}},
		"acknowledges without applying": {"IssueTransferBurn", func(l settlement.Ledger, ctx context.Context, lease settlement.Lease, ts []settlement.Transfer) ([]settlement.Result, error) {
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

type saveFunc = func(settlement.Store, context.Context, settlement.Lease, settlement.Change) error

type brokenStore struct {
	settlement.Store
	save saveFunc
}

func (b brokenStore) Save(ctx context.Context, lease settlement.Lease, c settlement.Change) error {
	return b.save(b.Store, ctx, lease, c)
}

func TestStoreSuiteCatches(t *testing.T) {
	for name, c := range map[string]struct {
		clause string
		save   saveFunc
	}{
		"archive lost": {"SaveTogether", func(s settlement.Store, ctx context.Context, lease settlement.Lease, c settlement.Change) error {
			c.Put = nil
			return s.Save(ctx, lease, c)
		}},
		"mode lost": {"SaveTogether", func(s settlement.Store, ctx context.Context, lease settlement.Lease, c settlement.Change) error {
			c.State.Mode = settlement.DryRun
			return s.Save(ctx, lease, c)
		}},
		"a delay that is over forgotten": {"WholeState", func(s settlement.Store, ctx context.Context, lease settlement.Lease, c settlement.Change) error {
			if c.State.Activation == settlement.After(0) {
				c.State.Activation = settlement.Activation{}
			}
			return s.Save(ctx, lease, c)
		}},
		"no fence": {"Fenced", func(s settlement.Store, ctx context.Context, _ settlement.Lease, c settlement.Change) error {
			lease, _, err := s.Load(ctx)
			return errors.Join(err, s.Save(ctx, lease, c))
		}},
		"a fence that compares the epoch alone": {"HolderCompared", func(s settlement.Store, ctx context.Context, lease settlement.Lease, c settlement.Change) error {
			latest, _, err := s.Load(ctx)
			if latest.Epoch == lease.Epoch {
				lease = latest
			}
			return errors.Join(err, s.Save(ctx, lease, c))
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

func books(fence bool) settlementtest.Open[settlementtest.Books] {
	return byName(func() settlementtest.Books {
		store := new(settlementtest.Store)
		ledger := new(settlementtest.Ledger)
		if fence {
			ledger.Fence = store
		}
		return settlementtest.Books{Ledger: ledger, Store: store}
	})
}

func TestFence(t *testing.T) { settlementtest.RunFence(t, books(true)) }

// looksFirst compares the lease and posts then, with nothing to hold the two
// together.
type looksFirst struct {
	settlement.Ledger
	store settlement.Store
	epoch bool // compares the epoch alone
}

func (l looksFirst) Post(ctx context.Context, lease settlement.Lease, ts []settlement.Transfer) ([]settlement.Result, error) {
	latest, _, err := l.store.Load(ctx)
	if l.epoch && latest.Epoch == lease.Epoch {
		latest = lease
	}
	if err == nil && !lease.IsZero() {
		err = lease.Check(latest)
	}
	if err != nil {
		return nil, err
	}
	runtime.Gosched()
	return l.Ledger.Post(ctx, settlement.Lease{}, ts)
}

func TestFenceSuiteCatches(t *testing.T) {
	clauses := settlementtest.FenceClauses()
	if !fails(t, clauses, "FencedPost", books(false)) {
		t.Error("FencedPost passes a ledger without a fence")
	}
	loose := func(epoch bool) settlementtest.Open[settlementtest.Books] {
		return byName(func() settlementtest.Books {
			store := new(settlementtest.Store)
			return settlementtest.Books{Ledger: looksFirst{new(settlementtest.Ledger), store, epoch}, Store: store}
		})
	}
	if !fails(t, clauses, "PostComparesHolder", loose(true)) {
		t.Error("PostComparesHolder passes a ledger that compares the epoch alone")
	}
	for range 100 { // a race
		if fails(t, clauses, "NothingMovesAfterTakeOver", loose(false)) {
			return
		}
	}
	t.Error("NothingMovesAfterTakeOver passes a ledger that looks before it posts, 100 times")
}

// torn debits and credits in two steps, and its Accounts shows the balances as
// they are at each step of the loop.
type torn struct {
	settlementtest.Ledger
	half atomic.Int64 // credits under way
}

func (l *torn) Post(ctx context.Context, lease settlement.Lease, ts []settlement.Transfer) (results []settlement.Result, err error) {
	for _, t := range ts {
		l.half.Store(int64(t.Amount))
		runtime.Gosched()
		l.half.Store(0)
		r, err := l.Ledger.Post(ctx, lease, []settlement.Transfer{t})
		if results = append(results, r...); err != nil {
			return results, err
		}
	}
	return results, nil
}

func (l *torn) Balance(ctx context.Context, account string) (uint64, error) {
	b, err := l.Ledger.Balance(ctx, account)
	if account != l.Issuer() {
		b -= min(b, uint64(l.half.Load()))
	}
	return b, err
}

func (l *torn) Accounts(ctx context.Context) iter.Seq2[settlement.Account, error] {
	return func(yield func(settlement.Account, error) bool) {
		for a := range l.Ledger.Accounts(ctx) {
			balance, err := l.Balance(ctx, a.Name)
			if !yield(settlement.Account{Name: a.Name, Balance: balance}, err) {
				return
			}
		}
	}
}

func TestLedgerSuiteCatchesTorn(t *testing.T) {
	open := byName(func() settlement.Ledger { return new(torn) })
	for _, clause := range []string{"AccountsAtOneMoment", "NeverHalf"} {
		caught := false
		for range 20 { // NeverHalf is a race
			caught = caught || fails(t, settlementtest.LedgerClauses(), clause, open)
			open = byName(func() settlement.Ledger { return new(torn) })
		}
		if !caught {
			t.Errorf("clause %s passes", clause)
		}
	}
}
