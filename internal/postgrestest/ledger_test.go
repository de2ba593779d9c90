package postgrestest

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

func newLedger(ctx context.Context, db *sql.DB) (*settlementsql.Ledger, error) {
	if err := settlementsql.Migrate(ctx, db); err != nil {
		return nil, errors.Join(errSetup, err)
	}
	l, err := settlementsql.NewLedger(ctx, db, nil)
	if err != nil {
		return nil, errors.Join(errSetup, err)
	}
	return l, nil
}

func TestLedgerModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	if err := checkLedgerModel(t.Context(), openDB(t, sharedServer(t), newSchema()), seed, 600); err != nil {
		t.Fatal(err)
	}
}

// checkLedgerModel posts random batches, some of which were posted before, and
// compares every answer and all balances with those of the model.
func checkLedgerModel(ctx context.Context, db *sql.DB, seed uint64, batches int) error {
	l, err := newLedger(ctx, db)
	if err != nil {
		return err
	}
	model, rng := new(settlementtest.Ledger), rand.New(rand.NewPCG(seed, 0))
	names := []string{"issuer", "a", "b", "c", "d", "e"}
	amounts := []uint64{0, 1, 2, 3, 10, 10, 1 << 40, math.MaxUint64 / 2, math.MaxUint64}
	var posted []settlement.Transfer
	for i := range batches {
		batch := make([]settlement.Transfer, 1+rng.IntN(5))
		for j := range batch {
			if len(posted) > 0 && rng.IntN(6) == 0 {
				batch[j] = posted[rng.IntN(len(posted))]
				continue
			}
			t := settlement.Transfer{From: names[rng.IntN(len(names))], To: names[rng.IntN(len(names))], Tag: "t"}
			t.Amount = amounts[rng.IntN(len(amounts)-3*min(rng.IntN(8), 1))]
			binary.BigEndian.PutUint32(t.ID[rng.IntN(2):], uint32(rng.IntN(40*batches)))
			batch[j] = t
			posted = append(posted, t)
		}
		want, wantErr := model.Post(ctx, settlement.Lease{}, batch)
		got, gotErr := l.Post(ctx, settlement.Lease{}, batch)
		if !slices.Equal(got, want) || !sameRefusal(gotErr, wantErr) {
			return fmt.Errorf("batch %d %+v: %v, %w, want %v, %w", i, batch, got, gotErr, want, wantErr)
		}
		for _, name := range names {
			want, _ := model.Balance(ctx, name)
			if got, err := l.Balance(ctx, name); err != nil || got != want {
				return fmt.Errorf("batch %d: %q has %d, %w, want %d", i, name, got, err, want)
			}
		}
		if err := l.Check(ctx); err != nil {
			return err
		}
	}
	return settlementtest.Conserved(ctx, l)
}

func sameRefusal(got, want error) bool {
	for _, sentinel := range []error{
		settlement.ErrInsufficient, settlement.ErrOverflow, settlement.ErrConflict, settlement.ErrInvalid,
	} {
		if errors.Is(want, sentinel) {
			return errors.Is(got, sentinel)
		}
	}
	return (got == nil) == (want == nil)
}

func TestLedgerContended(t *testing.T) {
	if err := checkLedgerContended(t.Context(), openDB(t, sharedServer(t), newSchema())); err != nil {
		t.Fatal(err)
	}
}

// checkLedgerContended posts from many callers, in batches that go in all
// directions between few accounts, that hold an id twice or name a new account,
// and that others post too.
func checkLedgerContended(ctx context.Context, db *sql.DB) error {
	l, err := newLedger(ctx, db)
	if err != nil {
		return err
	}
	const callers, rounds, accounts = 8, 12, 6
	name := func(i int) string { return fmt.Sprintf("account-%d", i%accounts) }
	for i := range accounts {
		if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: settlement.ID{1, byte(i)}, From: "issuer", To: name(i), Amount: 1000}}); err != nil {
			return err
		}
	}
	batch := func(caller, round int) (ts []settlement.Transfer) {
		for i := range 1 + (caller+round)%4 {
			t := settlement.Transfer{ID: settlement.ID{2, byte(caller / 2), byte(round), byte(i)}, From: name(caller/2 + i), To: name(caller/2 + i + round%5 + 1), Amount: 1}
			if t.From == t.To {
				t.To = fmt.Sprintf("new-%d", round)
			}
			ts = append(ts, t)
		}
		return append(ts, ts[0]) // each of them is looked at
	}
	var mu sync.Mutex
	var failures []error
	applied := map[settlement.ID]settlement.Transfer{}
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for round := range rounds {
				ts := batch(caller, round)
				results, err := l.Post(ctx, settlement.Lease{}, ts)
				mu.Lock()
				if err != nil {
					failures = append(failures, err)
				}
				for i, r := range results {
					if _, twice := applied[ts[i].ID]; twice && r == settlement.Applied {
						failures = append(failures, fmt.Errorf("%s was Applied twice", ts[i].ID))
					}
					if r == settlement.Applied {
						applied[ts[i].ID] = ts[i]
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	want := map[string]uint64{}
	for i := range accounts {
		want[name(i)] = 1000
	}
	for _, t := range applied {
		want[t.From]--
		want[t.To]++
	}
	for name, balance := range want {
		if got, err := l.Balance(ctx, name); err != nil || got != balance {
			failures = append(failures, fmt.Errorf("%q has %d, %w, want %d", name, got, err, balance))
		}
	}
	return errors.Join(errors.Join(failures...), l.Check(ctx))
}

// More accounts than a page, changed while they are shown.
func TestAccountsAsTheyStood(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	l, err := newLedger(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	const n = 9000
	var ts []settlement.Transfer
	for i := range n {
		ts = append(ts, settlement.Transfer{ID: settlement.ID{1, byte(i), byte(i >> 8)}, From: "issuer", To: fmt.Sprintf("a%04d", i), Amount: 2})
	}
	if _, err := l.Post(ctx, settlement.Lease{}, ts); err != nil {
		t.Fatal(err)
	}
	met := 0
	for a, err := range l.Accounts(ctx) {
		if err != nil || a.Balance != 2 || a.Name != fmt.Sprintf("a%04d", met) {
			t.Fatal(met, a, err)
		}
		if met%1000 == 0 {
			late := settlement.Transfer{ID: settlement.ID{2, byte(met), byte(met >> 8)}, From: "issuer", To: fmt.Sprintf("a%04d", n-1), Amount: 1}
			other := settlement.Transfer{ID: settlement.ID{3, byte(met), byte(met >> 8)}, From: "issuer", To: fmt.Sprintf("b%d", met), Amount: 1}
			if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{late, other}); err != nil {
				t.Fatal(err)
			}
		}
		met++
	}
	if met != n {
		t.Errorf("%d accounts, want %d", met, n)
	}
	for range l.Accounts(ctx) {
		break // and the connection is free again
	}
	if err := settlementtest.Conserved(ctx, l); err != nil {
		t.Error(err)
	}
	if open := db.Stats().InUse; open != 0 {
		t.Errorf("%d connections are still in use", open)
	}
}
