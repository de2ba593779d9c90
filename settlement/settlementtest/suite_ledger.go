package settlementtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/computemarket/computemarket/settlement"
)

// RunLedger checks every clause of settlement.Ledger, each in a subtest of its
// own.
func RunLedger(t *testing.T, open Open[settlement.Ledger]) { run(t, LedgerClauses(), open) }

// LedgerClauses returns all clauses of the suite.
func LedgerClauses() []Clause[settlement.Ledger] {
	return []Clause[settlement.Ledger]{
		{"IssueTransferBurn", issueTransferBurn},
		{"DebitAndCredit", debitAndCredit},
		{"OncePerID", oncePerID},
		{"OncePerIDInOneCall", oncePerIDInOneCall},
		{"ConflictOnOtherContent", conflictOnOtherContent},
		{"StopsAtFirstFailure", stopsAtFirstFailure},
		{"Insufficient", insufficient},
		{"Overflow", overflow},
		{"InvalidTransfers", invalidTransfers},
		{"BurnOnlyWhatIsThere", burnOnlyWhatIsThere},
		{"AccountsInOrder", accountsInOrder},
		{"AccountsAtOneMoment", accountsAtOneMoment},
		{"NeverHalf", neverHalf},
		{"ZeroAmount", zeroAmount},
		{"HostileNames", hostileNames},
		{"LedgerCancelled", ledgerCancelled},
		{"CallerMayReuseSlice", callerMayReuseSlice},
		{"LargePost", largePost},
		{"ConcurrentPosts", concurrentPosts},
		{"LedgerReopen", ledgerReopen},
	}
}

func id(n int) (id settlement.ID) {
	binary.BigEndian.PutUint64(id[24:], uint64(n))
	return id
}

// move is transfer number n.
func move(n int, from, to string, amount uint64) settlement.Transfer {
	return settlement.Transfer{ID: id(n), From: from, To: to, Amount: amount, Tag: fmt.Sprintf("tag-%d", n)}
}

func issue(l settlement.Ledger, n int, to string, amount uint64) settlement.Transfer {
	return move(n, l.Issuer(), to, amount)
}

// wantPost posts and checks the results, the error, and conservation.
func wantPost(ctx context.Context, l settlement.Ledger, ts []settlement.Transfer, want error, results ...settlement.Result) error {
	got, err := l.Post(ctx, none, ts)
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		return fmt.Errorf("Post: error %v, want %v", err, want)
	}
	if len(got) != len(results) {
		return fmt.Errorf("Post: %v, want %v", got, results)
	}
	for i := range results {
		if got[i] != results[i] {
			return fmt.Errorf("Post: %v, want %v", got, results)
		}
	}
	return Conserved(ctx, l)
}

func wantBalances(ctx context.Context, l settlement.Ledger, want map[string]uint64) error {
	for name, balance := range want {
		if got, err := l.Balance(ctx, name); err != nil || got != balance {
			return fmt.Errorf("balance of %q is %d, %v, want %d", name, got, err, balance)
		}
	}
	return nil
}

const (
	applied   = settlement.Applied
	duplicate = settlement.Duplicate
)

type transfers = []settlement.Transfer

// none is the lease of callers who are no engine.
var none settlement.Lease

func issueTransferBurn(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("issue", open, func(l settlement.Ledger) error {
		return errors.Join(
			wantBalances(ctx, l, map[string]uint64{"a": 0, l.Issuer(): 0}),
			wantPost(ctx, l, transfers{issue(l, 1, "a", 100)}, nil, applied),
			wantBalances(ctx, l, map[string]uint64{"a": 100, "b": 0, l.Issuer(): 100}),
			wantPost(ctx, l, transfers{move(2, "a", "b", 30)}, nil, applied),
			wantBalances(ctx, l, map[string]uint64{"a": 70, "b": 30, l.Issuer(): 100}),
			wantPost(ctx, l, transfers{move(3, "b", l.Issuer(), 10)}, nil, applied),
			wantBalances(ctx, l, map[string]uint64{"a": 70, "b": 20, l.Issuer(): 90}),
		)
	})
}

func debitAndCredit(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("debit", open, func(l settlement.Ledger) error {
		ts := transfers{issue(l, 1, "a", 5)}
		results := []settlement.Result{applied}
		for i := range 5 {
			ts = append(ts, move(2+i, "a", "b", 1))
			results = append(results, applied)
		}
		return errors.Join(
			wantPost(ctx, l, ts, nil, results...),
			wantBalances(ctx, l, map[string]uint64{"a": 0, "b": 5}),
		)
	})
}

func oncePerID(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("once", open, func(l settlement.Ledger) error {
		return errors.Join(
			wantPost(ctx, l, transfers{issue(l, 1, "a", 100)}, nil, applied),
			wantPost(ctx, l, transfers{move(2, "a", "b", 30)}, nil, applied),
			wantPost(ctx, l, transfers{move(2, "a", "b", 30)}, nil, duplicate),
			wantBalances(ctx, l, map[string]uint64{"a": 70, "b": 30}),
			// A Duplicate, although there would be too little for a second.
			wantPost(ctx, l, transfers{move(3, "a", "b", 60)}, nil, applied),
			wantPost(ctx, l, transfers{move(3, "a", "b", 60), move(4, "a", "b", 1)}, nil, duplicate, applied),
			wantBalances(ctx, l, map[string]uint64{"a": 9, "b": 91}),
		)
	})
}

func oncePerIDInOneCall(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("once-in-one", open, func(l settlement.Ledger) error {
		i, m := issue(l, 1, "a", 10), move(2, "a", "b", 3)
		return errors.Join(
			wantPost(ctx, l, transfers{i, i, m, m, m}, nil, applied, duplicate, applied, duplicate, duplicate),
			wantBalances(ctx, l, map[string]uint64{"a": 7, "b": 3}),
		)
	})
}

func conflictOnOtherContent(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("conflict", open, func(l settlement.Ledger) error {
		if err := wantPost(ctx, l, transfers{issue(l, 1, "a", 100), move(2, "a", "b", 1)}, nil, applied, applied); err != nil {
			return err
		}
		tagged := move(2, "a", "b", 1)
		tagged.Tag = "other"
		others := transfers{move(2, "a", "b", 2), move(2, "a", "c", 1), move(2, "b", "a", 1), tagged}
		for _, other := range others {
			if err := wantPost(ctx, l, transfers{other}, settlement.ErrConflict); err != nil {
				return err
			}
		}
		return errors.Join(
			wantPost(ctx, l, transfers{move(3, "a", "b", 1), move(3, "a", "b", 2)}, settlement.ErrConflict, applied),
			wantBalances(ctx, l, map[string]uint64{"a": 98, "b": 2, "c": 0}),
		)
	})
}

func stopsAtFirstFailure(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("stops", open, func(l settlement.Ledger) error {
		return errors.Join(
			wantPost(ctx, l, transfers{
				issue(l, 1, "a", 10), move(2, "a", "b", 4), move(3, "a", "b", 7), move(4, "a", "b", 1),
			}, settlement.ErrInsufficient, applied, applied),
			wantBalances(ctx, l, map[string]uint64{"a": 6, "b": 4}),
			// The failed one has left nothing behind: it applies later.
			wantPost(ctx, l, transfers{issue(l, 5, "a", 1), move(3, "a", "b", 7)}, nil, applied, applied),
			wantBalances(ctx, l, map[string]uint64{"a": 0, "b": 11}),
		)
	})
}

func insufficient(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("insufficient", open, func(l settlement.Ledger) error {
		return errors.Join(
			wantPost(ctx, l, transfers{move(1, "a", "b", 1)}, settlement.ErrInsufficient),
			wantPost(ctx, l, transfers{issue(l, 2, "a", 10), move(3, "a", "b", 11)}, settlement.ErrInsufficient, applied),
			wantPost(ctx, l, transfers{move(3, "a", "b", 10)}, nil, applied),
		)
	})
}

func overflow(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("overflow", open, func(l settlement.Ledger) error {
		return errors.Join(
			wantPost(ctx, l, transfers{issue(l, 1, "a", math.MaxUint64)}, nil, applied),
			wantPost(ctx, l, transfers{issue(l, 2, "a", 1)}, settlement.ErrOverflow),
			wantPost(ctx, l, transfers{issue(l, 2, "b", 1)}, settlement.ErrOverflow),
			wantBalances(ctx, l, map[string]uint64{"a": math.MaxUint64, "b": 0, l.Issuer(): math.MaxUint64}),
			wantPost(ctx, l, transfers{move(3, "a", "b", math.MaxUint64), move(4, "b", l.Issuer(), 1), issue(l, 2, "a", 1)},
				nil, applied, applied, applied),
			wantBalances(ctx, l, map[string]uint64{"a": 1, "b": math.MaxUint64 - 1}),
		)
	})
}

func invalidTransfers(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("invalid", open, func(l settlement.Ledger) error {
		if err := wantPost(ctx, l, transfers{issue(l, 1, "a", 100)}, nil, applied); err != nil {
			return err
		}
		long := strings.Repeat("x", settlement.MaxAccountBytes+1)
		tag := move(2, "a", "b", 1)
		tag.Tag = strings.Repeat("x", settlement.MaxTagBytes+1)
		for _, c := range []struct {
			t    settlement.Transfer
			want error
		}{
			{move(2, "", "b", 1), settlement.ErrAccount},
			{move(2, "a", "", 1), settlement.ErrAccount},
			{move(2, "a", long, 1), settlement.ErrAccount},
			{move(2, "a", "\xff", 1), settlement.ErrAccount},
			{move(2, "a", "a", 1), settlement.ErrSelfTransfer},
			{move(2, l.Issuer(), l.Issuer(), 1), settlement.ErrSelfTransfer},
			{tag, settlement.ErrTag},
		} {
			if err := wantPost(ctx, l, transfers{c.t}, c.want); err != nil {
				return err
			}
		}
		return wantBalances(ctx, l, map[string]uint64{"a": 100, "b": 0})
	})
}

func burnOnlyWhatIsThere(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("burn", open, func(l settlement.Ledger) error {
		return errors.Join(
			wantPost(ctx, l, transfers{issue(l, 1, "a", 5)}, nil, applied),
			wantPost(ctx, l, transfers{move(2, "a", l.Issuer(), 6)}, settlement.ErrInsufficient),
			wantPost(ctx, l, transfers{move(2, "b", l.Issuer(), 1)}, settlement.ErrInsufficient),
			wantPost(ctx, l, transfers{move(2, "a", l.Issuer(), 5)}, nil, applied),
			wantBalances(ctx, l, map[string]uint64{"a": 0, l.Issuer(): 0}),
		)
	})
}

func accountsInOrder(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("accounts", open, func(l settlement.Ledger) error {
		var ts transfers
		var results []settlement.Result
		for i, name := range []string{"b", "a", "zz", "z", "A", "ä"} {
			ts = append(ts, issue(l, i+1, name, uint64(i+1)))
			results = append(results, applied)
		}
		if err := wantPost(ctx, l, ts, nil, results...); err != nil {
			return err
		}
		n := 0
		for range l.Accounts(ctx) {
			n++
		}
		if n != len(ts) {
			return fmt.Errorf("%d accounts, want %d", n, len(ts))
		}
		for range l.Accounts(ctx) {
			break // must release what it holds
		}
		return wantPost(ctx, l, transfers{issue(l, 99, "b", 1)}, nil, applied)
	})
}

// accountsAtOneMoment: the balances are those from when the iteration began,
// whatever is posted while it goes on, also where there are more accounts than
// a store reads at once.
func accountsAtOneMoment(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("moment", open, func(l settlement.Ledger) error {
		const n = 10_000
		var ts transfers
		for i := range n {
			ts = append(ts, issue(l, i+1, fmt.Sprintf("%05d", i), 2))
		}
		if r, err := l.Post(ctx, none, ts); err != nil || len(r) != n {
			return fmt.Errorf("%d results of %d, %w", len(r), n, err)
		}
		var sum uint64
		met := 0
		for a, err := range l.Accounts(ctx) {
			if err != nil {
				return err
			}
			sum += a.Balance
			met++
			if met == 1 { // from the last, which is still to come, to the first, which was
				ts := transfers{move(n+1, fmt.Sprintf("%05d", n-1), "00000", 2), issue(l, n+2, "99999", 7)}
				if _, err := l.Post(ctx, none, ts); err != nil {
					return err
				}
			}
		}
		if sum != 2*n || met != n {
			return fmt.Errorf("%d accounts with %d in all, want %d with %d", met, sum, n, 2*n)
		}
		return Conserved(ctx, l)
	})
}

// neverHalf: no reader sees a debit without its credit.
func neverHalf(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("half", open, func(l settlement.Ledger) error {
		if err := wantPost(ctx, l, transfers{issue(l, 1, "a", 1000)}, nil, applied); err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() {
			for i := range 100 {
				there, back := move(2+2*i, "a", "b", 1000), move(3+2*i, "b", "a", 1000)
				if _, err := l.Post(ctx, none, transfers{there, back}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		for {
			if err := Conserved(ctx, l); err != nil {
				<-done
				return err
			}
			select {
			case err := <-done:
				return errors.Join(err, Conserved(ctx, l))
			default:
			}
		}
	})
}

func zeroAmount(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("zero", open, func(l settlement.Ledger) error {
		return errors.Join(
			wantPost(ctx, l, transfers{move(1, "a", "b", 0)}, nil, applied),
			wantPost(ctx, l, transfers{move(1, "a", "b", 0)}, nil, duplicate),
			wantPost(ctx, l, transfers{move(1, "a", "c", 0)}, settlement.ErrConflict),
			wantPost(ctx, l, nil, nil),
		)
	})
}

func hostileNames(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("hostile", open, func(l settlement.Ledger) error {
		names := []string{"\x00", "\x00\x00", " ", "'; DROP TABLE accounts; --", "%", "_", "\u202e", "💶",
			strings.Repeat("ü", settlement.MaxAccountBytes/2)}
		want := map[string]uint64{}
		for i, name := range names {
			if err := wantPost(ctx, l, transfers{issue(l, i+1, name, uint64(i+1))}, nil, applied); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
			want[name] = uint64(i + 1)
		}
		return wantBalances(ctx, l, want)
	})
}

func ledgerCancelled(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("cancelled", open, func(l settlement.Ledger) error {
		dead, cancel := context.WithCancel(ctx)
		cancel()
		if results, err := l.Post(dead, none, transfers{issue(l, 1, "a", 1)}); !errors.Is(err, context.Canceled) || len(results) != 0 {
			return fmt.Errorf("Post: %v, %v, want context.Canceled", results, err)
		}
		if _, err := l.Balance(dead, "a"); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("Balance: %v, want context.Canceled", err)
		}
		return wantBalances(ctx, l, map[string]uint64{"a": 0})
	})
}

func callerMayReuseSlice(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("reuse", open, func(l settlement.Ledger) error {
		ts := transfers{issue(l, 1, "a", 1)}
		if err := wantPost(ctx, l, ts, nil, applied); err != nil {
			return err
		}
		ts[0].Amount++ // a ledger that kept the slice would see an equal transfer
		return wantPost(ctx, l, ts, settlement.ErrConflict)
	})
}

func largePost(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("large", open, func(l settlement.Ledger) error {
		const n = 10_000
		ts := transfers{issue(l, 1, "a", n)}
		for i := range n {
			ts = append(ts, move(2+i, "a", fmt.Sprintf("b%d", i%100), 1))
		}
		results, err := l.Post(ctx, none, ts)
		if err != nil || len(results) != len(ts) {
			return fmt.Errorf("%d results of %d: %w", len(results), len(ts), err)
		}
		return errors.Join(Conserved(ctx, l), wantBalances(ctx, l, map[string]uint64{"a": 0, "b7": n / 100}))
	})
}

func concurrentPosts(ctx context.Context, open Open[settlement.Ledger]) error {
	return with("concurrent", open, func(l settlement.Ledger) error {
		const callers, n = 8, 60
		if err := wantPost(ctx, l, transfers{issue(l, 1, "a", n)}, nil, applied); err != nil {
			return err
		}
		var mu sync.Mutex
		var failures []error
		times := map[settlement.ID]int{}
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for i := range n {
					t := move(2+i, "a", "b", 1)
					results, err := l.Post(ctx, none, transfers{t})
					mu.Lock()
					if err != nil {
						failures = append(failures, err)
					} else if results[0] == applied {
						times[t.ID]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for id, k := range times {
			if k != 1 {
				failures = append(failures, fmt.Errorf("%s was Applied %d times", id, k))
			}
		}
		return errors.Join(errors.Join(failures...), Conserved(ctx, l),
			wantBalances(ctx, l, map[string]uint64{"a": 0, "b": n}))
	})
}

func ledgerReopen(ctx context.Context, open Open[settlement.Ledger]) error {
	err := with("reopen", open, func(l settlement.Ledger) error {
		return wantPost(ctx, l, transfers{issue(l, 1, "a", 10), move(2, "a", "b", 4)}, nil, applied, applied)
	})
	if err != nil {
		return err
	}
	return with("reopen", open, func(l settlement.Ledger) error {
		return errors.Join(
			wantBalances(ctx, l, map[string]uint64{"a": 6, "b": 4, l.Issuer(): 10}),
			wantPost(ctx, l, transfers{move(2, "a", "b", 4)}, nil, duplicate),
			wantPost(ctx, l, transfers{move(2, "a", "b", 5)}, settlement.ErrConflict),
			wantPost(ctx, l, transfers{move(3, "a", "b", 6)}, nil, applied),
		)
	})
}
