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
	}, couriersql.ErrMigrate, courier.ErrVersion},
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
