// Package settlementtest holds an in-memory ledger and engine state, and the
// suites that any implementation of settlement.Ledger and settlement.Store
// passes.
package settlementtest

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/computemarket/computemarket/settlement"
)

// Ledger is a settlement.Ledger in memory: the plain model of what the others
// do on disk. The zero Ledger is empty and ready; its issuer is "issuer".
type Ledger struct {
	// Fence, if it is not nil, has the leases that Post compares.
	Fence *Store

	mu        sync.Mutex        // guards what follows
	balances  map[string]uint64 // the issuer's: what is outstanding
	transfers map[settlement.ID]settlement.Transfer
}

var _ settlement.Ledger = (*Ledger)(nil)

// Issuer implements settlement.Ledger.
func (*Ledger) Issuer() string { return "issuer" }

// Post implements settlement.Ledger.
func (l *Ledger) Post(ctx context.Context, lease settlement.Lease, transfers []settlement.Transfer) ([]settlement.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Fence != nil && !lease.IsZero() {
		l.Fence.mu.Lock()
		defer l.Fence.mu.Unlock()
		if err := l.Fence.check(lease); err != nil {
			return nil, err
		}
	}
	if l.balances == nil {
		l.balances = map[string]uint64{}
		l.transfers = map[settlement.ID]settlement.Transfer{}
	}
	var results []settlement.Result
	for i := range transfers {
		r, err := l.post(&transfers[i])
		if err != nil {
			return results, err
		}
		results = append(results, r)
	}
	return results, nil
}

func (l *Ledger) post(t *settlement.Transfer) (settlement.Result, error) {
	if err := t.Validate(); err != nil {
		return 0, err
	}
	if old, ok := l.transfers[t.ID]; ok {
		return t.Again(&old)
	}
	from, to, err := t.Move(l.Issuer(), l.balances[t.From], l.balances[t.To])
	if err != nil {
		return 0, err
	}
	l.balances[t.From], l.balances[t.To] = from, to
	l.transfers[t.ID] = *t
	return settlement.Applied, nil
}

// Balance implements settlement.Ledger.
func (l *Ledger) Balance(ctx context.Context, account string) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.balances[account], nil
}

// Accounts implements settlement.Ledger.
func (l *Ledger) Accounts(ctx context.Context) iter.Seq2[settlement.Account, error] {
	return func(yield func(settlement.Account, error) bool) {
		l.mu.Lock()
		balances := maps.Clone(l.balances)
		l.mu.Unlock()
		delete(balances, l.Issuer())
		for _, name := range slices.Sorted(maps.Keys(balances)) {
			if err := ctx.Err(); err != nil {
				yield(settlement.Account{}, err)
				return
			}
			if !yield(settlement.Account{Name: name, Balance: balances[name]}, nil) {
				return
			}
		}
	}
}
