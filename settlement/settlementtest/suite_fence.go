package settlementtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/computemarket/computemarket/settlement"
)

// Books are a ledger and the store whose leases it compares, as when both lie in
// one database.
type Books struct {
	Ledger settlement.Ledger
	Store  settlement.Store
	// Done closes both, if they are to be closed. Optional.
	Done func() error
}

// Close calls Done.
func (b Books) Close() error {
	if b.Done == nil {
		return nil
	}
	return b.Done()
}

// RunFence checks that a ledger refuses the posts of an engine whose lease was
// taken over, each clause in a subtest of its own. A ledger that shares no
// database with the engine's store need not pass it.
func RunFence(t *testing.T, open Open[Books]) { run(t, FenceClauses(), open) }

// FenceClauses returns all clauses of the suite.
func FenceClauses() []Clause[Books] {
	return []Clause[Books]{
		{"FencedPost", fencedPost},
		{"PostComparesHolder", postComparesHolder},
		{"NothingMovesAfterTakeOver", nothingMovesAfterTakeOver},
	}
}

// wantNoPost posts under a lease that is not the latest: one transfer, several,
// and one that was applied before beside one that was not.
func wantNoPost(ctx context.Context, l settlement.Ledger, lease settlement.Lease, old settlement.Transfer) error {
	for _, ts := range []transfers{
		{move(900, "a", "b", 1)},
		{move(900, "a", "b", 1), move(901, "a", "c", 1)},
		{old, move(900, "a", "b", 1)},
		{move(900, "a", "b", 1), move(900, "a", "b", 1)},
	} {
		results, err := l.Post(ctx, lease, ts)
		if err := wantFenced("Post", err); err != nil {
			return err
		}
		if len(results) > 0 {
			return fmt.Errorf("Post of a fenced engine: %v", results)
		}
	}
	return nil
}

func fencedPost(ctx context.Context, open Open[Books]) error {
	return with("post", open, func(b Books) error {
		first := issue(b.Ledger, 1, "a", 100)
		if err := wantPost(ctx, b.Ledger, transfers{first}, nil, applied); err != nil {
			return err
		}
		old, _, err := b.Store.Acquire(ctx)
		if err != nil {
			return err
		}
		if r, err := b.Ledger.Post(ctx, old, transfers{move(2, "a", "b", 1)}); err != nil || len(r) != 1 || r[0] != applied {
			return fmt.Errorf("Post under the latest lease: %v, %w", r, err)
		}
		young, _, err := b.Store.Acquire(ctx)
		if err != nil {
			return err
		}
		if err := wantNoPost(ctx, b.Ledger, old, first); err != nil {
			return err
		}
		if r, err := b.Ledger.Post(ctx, young, transfers{move(3, "a", "b", 1), move(2, "a", "b", 1)}); err != nil || len(r) != 2 {
			return fmt.Errorf("Post under the latest lease: %v, %w", r, err)
		}
		if err := b.Store.Release(ctx, young, settlement.State{}); err != nil {
			return err
		}
		return errors.Join(
			wantNoPost(ctx, b.Ledger, young, first),
			wantPost(ctx, b.Ledger, transfers{issue(b.Ledger, 4, "a", 1)}, nil, applied), // no engine
			wantBalances(ctx, b.Ledger, map[string]uint64{"a": 99, "b": 2}),
		)
	})
}

func postComparesHolder(ctx context.Context, open Open[Books]) error {
	return with("post-holder", open, func(b Books) error {
		first := issue(b.Ledger, 1, "a", 100)
		if err := wantPost(ctx, b.Ledger, transfers{first}, nil, applied); err != nil {
			return err
		}
		lease, _, err := b.Store.Acquire(ctx)
		if err != nil {
			return err
		}
		other, older := lease, lease
		other.Holder += "'"
		older.Epoch--
		return errors.Join(
			wantNoPost(ctx, b.Ledger, other, first),
			wantNoPost(ctx, b.Ledger, older, first),
			wantBalances(ctx, b.Ledger, map[string]uint64{"a": 100, "b": 0}),
		)
	})
}

// nothingMovesAfterTakeOver: what the old engine posts while another acquires
// has moved when Acquire returns, or never moves.
func nothingMovesAfterTakeOver(ctx context.Context, open Open[Books]) error {
	return with("race", open, func(b Books) error {
		const rounds, posters = 5, 4
		if err := wantPost(ctx, b.Ledger, transfers{issue(b.Ledger, 1, "a", 1<<40)}, nil, applied); err != nil {
			return err
		}
		lease, _, err := b.Store.Acquire(ctx)
		if err != nil {
			return err
		}
		var number atomic.Int64
		number.Store(1000)
		for range rounds {
			var wg sync.WaitGroup
			under := lease
			posted := make(chan struct{}, 1)
			for range posters {
				wg.Go(func() {
					for {
						n := int(number.Add(1))
						if _, err := b.Ledger.Post(ctx, under, transfers{move(n, "a", "b", 1)}); err != nil {
							return
						}
						select {
						case posted <- struct{}{}:
						default:
						}
					}
				})
			}
			<-posted
			var moved uint64
			if lease, _, err = b.Store.Acquire(ctx); err == nil {
				moved, err = b.Ledger.Balance(ctx, "b")
			}
			wg.Wait()
			if err != nil {
				return err
			}
			if later, err := b.Ledger.Balance(ctx, "b"); err != nil || later != moved {
				return fmt.Errorf("%d had moved when Acquire returned, %d later, %w", moved, later, err)
			}
		}
		return Conserved(ctx, b.Ledger)
	})
}
