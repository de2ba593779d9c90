package postgrestest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
)

var errSetup = errors.New("the test could not begin")

func TestTakeOver(t *testing.T) {
	db := openDB(t, sharedServer(t), newSchema())
	if err := checkTakeOver(t.Context(), db); err != nil {
		t.Fatal(err)
	}
}

// checkTakeOver lets a second engine wait for the lease of a first one, which
// then goes on as if it had been paused.
func checkTakeOver(ctx context.Context, db *sql.DB) error {
	const lease = 600 * time.Millisecond
	opts := &settlementsql.StoreOptions{Lease: lease, Name: "first"}
	first, err := openMarket(ctx, db, opts)
	if err == nil {
		_, err = first.receipts.Append(ctx, []receipt.Receipt{numbered(1), numbered(2), numbered(3)})
	}
	if err == nil {
		_, err = first.ledger.Post(ctx, []settlement.Transfer{
			{ID: settlement.ID{1}, From: "issuer", To: "buyer", Amount: 1000},
			{ID: settlement.ID{2}, From: "issuer", To: "provider", Amount: 1},
		})
	}
	var second *market
	if err == nil {
		second, err = prepareMarket(ctx, db, &settlementsql.StoreOptions{Lease: lease, Name: "second"})
	}
	if err != nil {
		return errors.Join(errSetup, err)
	}
	// While the first renews, the second waits.
	start := time.Now()
	state, err := first.store.Acquire(ctx) // renews, under the next epoch
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, lease/3)
	_, err = second.store.Acquire(short)
	cancel()
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("Acquire while another holds the lease: %w", err)
	}
	young, err := second.store.Acquire(ctx)
	if err != nil {
		return err
	}
	if took := time.Since(start); took < lease {
		return fmt.Errorf("the lease was taken after %v of %v", took, lease)
	}
	if young.Epoch != state.Epoch+1 || young.Mode != settlement.Real {
		return fmt.Errorf("the second got %+v after %+v", young, state)
	}
	// The first one wakes up.
	state.Cursor = 99
	one := settlement.TransferFor(new(numbered(1)))
	two, three := settlement.TransferFor(new(numbered(2))), settlement.TransferFor(new(numbered(3)))
	for name, err := range map[string]error{
		"Save":           first.store.Save(ctx, state, nil, nil),
		"Save a failure": first.store.Save(ctx, state, []settlement.Failure{{Seq: 1, Receipt: numbered(1)}}, nil),
		"Post of one":    posted(first.ledger.Post(ctx, []settlement.Transfer{one})),
		"Post of two":    posted(first.ledger.Post(ctx, []settlement.Transfer{two, three})),
		"Post of each":   posted(first.ledger.Post(ctx, []settlement.Transfer{two, two, three})), // twice in one call
	} {
		if !errors.Is(err, settlement.ErrFenced) {
			return fmt.Errorf("%s of the old engine: %w, want ErrFenced", name, err)
		}
	}
	if sum, err := second.ledger.Balance(ctx, "provider"); err != nil || sum != 1 {
		return fmt.Errorf("the old engine moved %d, %w", sum, err)
	}
	young.Cursor = 2
	if err := second.store.Save(ctx, young, nil, nil); err != nil {
		return err
	}
	if err := second.store.Release(ctx); err != nil {
		return err
	}
	got, err := first.store.Acquire(ctx)
	if err != nil || got.Cursor != 2 || got.Epoch != young.Epoch+1 {
		return fmt.Errorf("after a release: %+v, %w", got, err)
	}
	return nil
}

func posted(_ []settlement.Result, err error) error { return err }

func numbered(i int) receipt.Receipt {
	return receipt.New(fmt.Sprintf("job-%d", i), "buyer", "provider", 1, issued)
}

// An engine that was fenced stops.
func TestFencedEngineStops(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	first, err := openMarket(ctx, db, &settlementsql.StoreOptions{Lease: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	second, err := openMarket(ctx, db, &settlementsql.StoreOptions{Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.engine.Run(ctx); !errors.Is(err, settlement.ErrFenced) {
		t.Fatalf("Run of the first: %v", err)
	}
	if err := second.engine.DryRun(ctx, "why\x00not \xff"); err != nil {
		t.Fatal(err)
	}
}

// What Advance keeps back reaches the table with Save, Release and the next
// renewal.
func TestAdvanceRenews(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	m, err := prepareMarket(ctx, db, &settlementsql.StoreOptions{Lease: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	state, err := m.store.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rest := func() (left float64, cursor uint64) {
		if err := db.QueryRow(`SELECT EXTRACT(EPOCH FROM lease_until - clock_timestamp()), log_cursor FROM settlement_state`).Scan(&left, &cursor); err != nil {
			t.Fatal(err)
		}
		return left, cursor
	}
	for i := uint64(1); ; i++ { // until a quarter of the lease has passed
		state.Cursor = i
		if err := m.store.Advance(ctx, state); err != nil {
			t.Fatal(err)
		}
		if left, cursor := rest(); cursor == i && i > 1 {
			if left <= 0 {
				t.Errorf("renewed for %vs", left)
			}
			break
		}
	}
	state.Cursor++
	if err := m.store.Advance(ctx, state); err != nil {
		t.Fatal(err)
	}
	if err := m.store.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if left, cursor := rest(); left > 0 || cursor != state.Cursor {
		t.Errorf("after Release: %vs, cursor %d, want %d", left, cursor, state.Cursor)
	}
}
