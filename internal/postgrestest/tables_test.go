package postgrestest

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriersql"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptsql"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
)

// component is what the three packages have in common.
type component struct {
	name           string
	migrate, open  func(context.Context, *sql.DB) error
	missing, newer error
}

var components = []component{
	{"receipt", receiptsql.Migrate, func(ctx context.Context, db *sql.DB) error {
		_, err := receiptsql.New(ctx, db, nil)
		return err
	}, receiptsql.ErrMigrate, receipt.ErrSchema},
	{"settlement", settlementsql.Migrate, func(ctx context.Context, db *sql.DB) error {
		_, err1 := settlementsql.NewStore(ctx, db, nil)
		_, err2 := settlementsql.NewLedger(ctx, db, nil)
		if (err1 == nil) != (err2 == nil) {
			return errors.New("the store and the ledger do not agree")
		}
		return err1
	}, settlementsql.ErrMigrate, settlement.ErrSchema},
	{"courier", couriersql.Migrate, func(ctx context.Context, db *sql.DB) error {
		_, err := couriersql.New(ctx, db, nil)
		return err
	}, couriersql.ErrMigrate, courier.ErrSchema},
}

func TestTablesMissingOlderNewer(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	set := func(version int) {
		if _, err := db.Exec(`UPDATE computemarket_schema SET version = $1`, version); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range components {
		if err := c.open(ctx, db); !errors.Is(err, c.missing) {
			t.Errorf("%s without tables: %v", c.name, err)
		}
		if err := c.migrate(ctx, db); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.migrate(ctx, db), c.open(ctx, db)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	set(0)
	for _, c := range components {
		if err := c.open(ctx, db); !errors.Is(err, c.missing) {
			t.Errorf("%s with older tables: %v", c.name, err)
		}
	}
	set(-1) // by hand
	for i, damage := range []error{receipt.ErrCorrupt, settlement.ErrCorrupt, courier.ErrCorrupt} {
		if c := components[i]; !errors.Is(c.open(ctx, db), damage) || !errors.Is(c.migrate(ctx, db), damage) {
			t.Errorf("%s with version -1: %v, %v", c.name, c.open(ctx, db), c.migrate(ctx, db))
		}
	}
	set(99)
	for _, c := range components {
		if err := c.open(ctx, db); !errors.Is(err, c.newer) {
			t.Errorf("%s with newer tables: %v", c.name, err)
		}
		if err := c.migrate(ctx, db); !errors.Is(err, c.newer) {
			t.Errorf("Migrate of %s with newer tables: %v", c.name, err)
		}
	}
}

// Tables of the first version, with a receipt in each, come to the newest.
func TestMigrateFromFirst(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	for _, c := range components {
		if err := c.migrate(ctx, db); err != nil {
			t.Fatal(err)
		}
	}
	log, err1 := receiptsql.New(ctx, db, nil)
	queue, err2 := couriersql.New(ctx, db, nil)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	_, err1 = log.Append(ctx, []receipt.Receipt{numbered(1)})
	_, err2 = queue.Append(ctx, courier.Receipt{ID: courier.ID{1}, Sender: "a", SentAt: issued})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	run(t, db, `DROP INDEX receipts_superseded`, `DROP INDEX courier_lists`, `ALTER TABLE courier_log DROP COLUMN aside`, `DROP TABLE courier_note`,
		`CREATE UNIQUE INDEX courier_lists ON courier_receipts (state, seq)`,
		`UPDATE computemarket_schema SET version = 1 WHERE component <> 'settlement'`)
	for _, c := range components {
		if err := errors.Join(c.migrate(ctx, db), c.open(ctx, db)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	_, err1 = log.Get(ctx, numbered(1).Key)
	_, err2 = queue.Get(ctx, courier.ID{1})
	counts, err3 := queue.Count(ctx)
	if err := errors.Join(err1, err2, err3); err != nil || counts != (courier.Counts{Pending: 1}) {
		t.Errorf("%+v, %v", counts, err)
	}
}

func TestMigrateAtOnce(t *testing.T) {
	ctx, s := t.Context(), sharedServer(t)
	for range 5 {
		schema := newSchema()
		openDB(t, s, schema)
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				db, err := connect(s.URL(schema))
				if err != nil {
					t.Error(err)
					return
				}
				defer db.Close()
				for _, c := range components {
					if err := errors.Join(c.migrate(ctx, db), c.open(ctx, db)); err != nil {
						t.Errorf("%s: %v", c.name, err)
					}
				}
			})
		}
		wg.Wait()
	}
}
