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
		_, err := couriersql.New(ctx, db)
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

type counter struct{ n int }

func (c *counter) Corrupt(n int) { c.n += n }

func TestDamagedRow(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	if err := receiptsql.Migrate(ctx, db); err != nil {
		t.Fatal(err)
	}
	damaged := new(counter)
	s, err := receiptsql.New(ctx, db, &receiptsql.Options{Metrics: damaged})
	if err != nil {
		t.Fatal(err)
	}
	rs := []receipt.Receipt{numbered(1), numbered(2), numbered(3)}
	if _, err := s.Append(ctx, rs); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`UPDATE receipts SET quote_price = 7 WHERE seq = 2`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, rs[1].Key); !errors.Is(err, receipt.ErrCorrupt) {
		t.Errorf("Get: %v", err)
	}
	met := 0
	for rec, err := range s.After(ctx, 0) {
		if err != nil || rec.Key == rs[1].Key {
			t.Fatal(rec, err)
		}
		met++
	}
	if met != 2 || damaged.n != 1 {
		t.Errorf("After shows %d, counts %d", met, damaged.n)
	}
	statuses, err := s.Append(ctx, []receipt.Receipt{rs[1], rs[0], numbered(4)})
	if !errors.Is(err, receipt.ErrCorrupt) || len(statuses) != 3 || statuses[0] != receipt.Corrupt ||
		statuses[1] != receipt.Duplicate || statuses[2] != receipt.Inserted {
		t.Errorf("Append: %v, %v", statuses, err)
	}
}
