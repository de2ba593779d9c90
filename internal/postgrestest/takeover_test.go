package postgrestest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
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
	const term = 600 * time.Millisecond
	opts := &settlementsql.StoreOptions{Lease: term, Name: "first"}
	first, err := openMarket(ctx, db, opts)
	if err == nil {
		_, err = first.receipts.Append(ctx, []receipt.Receipt{numbered(1), numbered(2), numbered(3)})
	}
	if err == nil {
		_, err = first.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{
			{ID: settlement.ID{1}, From: "issuer", To: "buyer", Amount: 1000},
			{ID: settlement.ID{2}, From: "issuer", To: "provider", Amount: 1},
		})

	}
	var second *market
	if err == nil {
		second, err = prepareMarket(ctx, db, &settlementsql.StoreOptions{Lease: term, Name: "second"})
	}
	if err != nil {
		return errors.Join(errSetup, err)
	}
	// While the first renews, the second waits.
	start := time.Now()
	lease, state, err := first.store.Acquire(ctx) // renews, under the next epoch
	if err != nil {
		return err
	}
	_, _, err = second.store.Acquire(ctx)
	held, ok := errors.AsType[*settlement.HeldError](err)
	if !ok || held.Holder != lease.Holder || held.Wait <= 0 || held.Wait > lease.Term {
		return fmt.Errorf("Acquire while another holds the lease: %w", err)
	}
	if got, loaded, err := second.store.Load(ctx); err != nil || !got.Is(lease) || loaded != state {
		return fmt.Errorf("Load while another holds the lease: %+v, %+v, %w", got, loaded, err)
	}
	young, youngState, err := second.acquire(ctx)
	if err != nil {
		return err
	}
	if took := time.Since(start); took < term {
		return fmt.Errorf("the lease was taken after %v of %v", took, term)
	}
	if young.Epoch != lease.Epoch+1 || young.Holder == lease.Holder || youngState.Mode != settlement.Real {
		return fmt.Errorf("the second got %+v, %+v after %+v", young, youngState, lease)
	}
	// The first one wakes up; and somebody who had the same epoch before the
	// database lost it.
	for _, old := range []settlement.Lease{lease, {Epoch: young.Epoch, Holder: lease.Holder, Term: term}} {
		state.Cursor = 99
		one := settlement.TransferFor(new(numbered(1)))
		two, three := settlement.TransferFor(new(numbered(2))), settlement.TransferFor(new(numbered(3)))
		failed := []settlement.Failure{{Seq: 1, Receipt: numbered(1)}}
		for name, err := range map[string]error{
			"Save":           first.store.Save(ctx, old, settlement.Change{State: state}),
			"Save a failure": first.store.Save(ctx, old, settlement.Change{State: state, Put: failed}),
			"Release":        first.store.Release(ctx, old, state),
			"Post of one":    posted(first.ledger.Post(ctx, old, []settlement.Transfer{one})),
			"Post of two":    posted(first.ledger.Post(ctx, old, []settlement.Transfer{two, three})),
			"Post of each":   posted(first.ledger.Post(ctx, old, []settlement.Transfer{two, two, three})), // twice in one call
		} {
			if !errors.Is(err, settlement.ErrFenced) {
				return fmt.Errorf("%s under %+v: %w, want ErrFenced", name, old, err)
			}
		}
	}
	if sum, err := second.ledger.Balance(ctx, "provider"); err != nil || sum != 1 {
		return fmt.Errorf("the old engine moved %d, %w", sum, err)
	}
	youngState.Cursor = 2
	if err := second.store.Release(ctx, young, youngState); err != nil {
		return err
	}
	next, got, err := first.store.Acquire(ctx)
	if err != nil || got.Cursor != 2 || next.Epoch != young.Epoch+1 {
		return fmt.Errorf("after a release: %+v, %+v, %w", next, got, err)
	}
	return nil
}

func posted(_ []settlement.Result, err error) error { return err }

func numbered(i int) receipt.Receipt {
	return receipt.New(fmt.Sprintf("job-%d", i), "buyer", "provider", 1, issued)
}

// An engine that was fenced moves nothing, stands by, and leads again when the
// other one has resigned.
func TestFencedEngineStandsBy(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	db := openDB(t, sharedServer(t), newSchema())
	first, err := openMarket(ctx, db, &settlementsql.StoreOptions{Lease: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	second, err := openMarket(ctx, db, &settlementsql.StoreOptions{Lease: time.Minute, Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- first.engine.Run(ctx) }()
	for first.engine.Leads() {
		<-time.After(time.Millisecond)
	}
	if s, err := first.engine.Status(ctx); err != nil || !s.Standby || !strings.HasPrefix(s.Leader, "second#") || s.Mode != settlement.Real {
		t.Errorf("the first: %+v, %v", s, err)
	}
	if err := first.engine.Stop(ctx, "x"); !errors.Is(err, settlement.ErrStandby) {
		t.Errorf("Stop on standby: %v", err)
	}
	if err := second.engine.Stop(ctx, "why\x00not \xff"); err != nil {
		t.Fatal(err)
	}
	if err := second.engine.Resign(ctx); err != nil {
		t.Fatal(err)
	}
	for !first.engine.Leads() {
		<-time.After(time.Millisecond)
	}
	if s, err := first.engine.Status(ctx); err != nil || s.Standby || s.Mode != settlement.DryRun || s.Reason != "why\x00not \uFFFD" {
		t.Errorf("the first leads again: %+v, %v", s, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A database clock that is set back makes nobody wait for ever.
func TestLeaseFarInTheFuture(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	opts := &settlementsql.StoreOptions{Lease: 200 * time.Millisecond}
	dead, err := openMarket(ctx, db, opts)
	if err != nil {
		t.Fatal(err)
	}
	run(t, db, `UPDATE settlement_state SET lease_until = now() + INTERVAL '100 years'`)
	next, err := prepareMarket(ctx, db, opts)
	if err != nil {
		t.Fatal(err)
	}
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, _, err := next.acquire(limit); err != nil {
		t.Fatal(err)
	}
	if err := dead.engine.Stop(ctx, "x"); !errors.Is(err, settlement.ErrFenced) {
		t.Errorf("the one before: %v", err)
	}
}

// A standby outlives a restart of the server that it waits on.
func TestStandbyOutlivesTheServer(t *testing.T) {
	s := Start(t)
	schema := newSchema()
	db := openDB(t, s, schema)
	opts := &settlementsql.StoreOptions{Lease: time.Second}
	if _, err := openMarket(t.Context(), db, opts); err != nil {
		t.Fatal(err)
	}
	second, err := prepareMarket(t.Context(), db, opts)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := settlement.Open(t.Context(), second.receipts, second.ledger, second.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- engine.Lead(t.Context()) }()
	s.Kill()
	<-time.After(1500 * time.Millisecond) // also beyond the lease
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("Lead: %v", err)
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
	lease, state, err := m.store.Acquire(ctx)
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
		if err := m.store.Advance(ctx, lease, state); err != nil {
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
	if err := m.store.Advance(ctx, lease, state); err != nil {
		t.Fatal(err)
	}
	if err := m.store.Release(ctx, lease, state); err != nil {
		t.Fatal(err)
	}
	if left, cursor := rest(); left > 0 || cursor != state.Cursor {
		t.Errorf("after Release: %vs, cursor %d, want %d", left, cursor, state.Cursor)
	}
}
