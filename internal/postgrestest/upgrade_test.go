package postgrestest

import (
	"errors"
	"testing"
	"time"

	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
)

// The first release had no column for the whole state. Its tables are brought
// forward, and what a node of it still writes afterwards counts.
func TestStateOfFirstRelease(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	if err := settlementsql.Migrate(ctx, db); err != nil {
		t.Fatal(err)
	}
	run(t, db, `ALTER TABLE settlement_state DROP COLUMN state`)
	run(t, db, `UPDATE computemarket_schema SET version = 1 WHERE component = 'settlement'`)
	if _, err := settlementsql.NewStore(ctx, db, nil); !errors.Is(err, settlementsql.ErrMigrate) {
		t.Fatalf("NewStore before Migrate: %v, want ErrMigrate", err)
	}
	// As that release writes the row.
	write := func(set string) { run(t, db, `UPDATE settlement_state SET revision = revision + 1, `+set) }
	write(`epoch = 5, holder = 'old#x', mode = 'armed', activation_ns = 60000000000, height = 18446744073709551615, log_cursor = 7, applied = 3, failed = 1`)
	if err := settlementsql.Migrate(ctx, db); err != nil {
		t.Fatal(err)
	}
	store, err := settlementsql.NewStore(ctx, db, &settlementsql.StoreOptions{Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	want := settlement.State{Mode: settlement.Armed, Activation: settlement.After(time.Minute), Height: 1<<64 - 1, Cursor: 7, Applied: 3, Failed: 1}
	check := func(lease settlement.Lease, got settlement.State, err error) settlement.Lease {
		t.Helper()
		if err != nil || got != want {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
		return lease
	}
	check(store.Load(ctx))
	write(`activation_ns = 0`) // a delay that is over
	want.Activation = settlement.After(0)
	lease := check(store.Acquire(ctx))
	if lease.Epoch != 6 {
		t.Errorf("epoch %d follows 5", lease.Epoch)
	}
	want.Mode, want.Activation, want.Cursor = settlement.Real, settlement.Activation{}, 8
	if err := store.Save(ctx, lease, settlement.Change{State: want}); err != nil {
		t.Fatal(err)
	}
	check(store.Load(ctx))
	// An old node takes over: it knows only the columns.
	write(`epoch = 7, holder = 'old#x', mode = 'dry_run', reason = 'why', log_cursor = 9`)
	want.Mode, want.Reason, want.Cursor = settlement.DryRun, "why", 9
	check(store.Load(ctx))
	if err := store.Save(ctx, lease, settlement.Change{State: want}); !errors.Is(err, settlement.ErrFenced) {
		t.Errorf("Save after another took over: %v, want ErrFenced", err)
	}
	// A hand that changes a column and nothing else is found out.
	run(t, db, `UPDATE settlement_state SET lease_until = now()`)
	check(store.Acquire(ctx))
	run(t, db, `UPDATE settlement_state SET log_cursor = 1`)
	if _, _, err := store.Load(ctx); !errors.Is(err, settlement.ErrCorrupt) {
		t.Errorf("Load of a changed cursor: %v, want ErrCorrupt", err)
	}
	run(t, db, `DELETE FROM settlement_state`)
	_, _, loaded := store.Load(ctx)
	_, _, acquired := store.Acquire(ctx)
	if !errors.Is(loaded, settlement.ErrCorrupt) || !errors.Is(acquired, settlement.ErrCorrupt) {
		t.Errorf("without the row: Load: %v, Acquire: %v, want ErrCorrupt", loaded, acquired)
	}
}
