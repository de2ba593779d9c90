package postgrestest

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

// closingLedger closes its pool with it, as the suite wants; so does
// closingStore, which lets go of its lease first, as time would.
type closingLedger struct {
	*settlementsql.Ledger
	db *sql.DB
}

func (c closingLedger) Close() error { return c.db.Close() }

type closingStore struct {
	*settlementsql.Store
	db *sql.DB
}

func (c closingStore) Close() error {
	if _, err := c.db.Exec(`UPDATE settlement_state SET lease_until = clock_timestamp()`); err != nil {
		return err
	}
	return c.db.Close()
}

func migrated(t *testing.T, s *Server, schema string) (*sql.DB, error) {
	db := openDB(t, s, schema)
	return db, settlementsql.Migrate(t.Context(), db)
}

// ledgers and settlementStores have at most so many connections, 0 being any
// number.
func ledgers(t *testing.T, connections int) settlementtest.Open[settlement.Ledger] {
	s, prefix := sharedServer(t), newSchema()
	return func(name string) (settlement.Ledger, error) {
		db, err := migrated(t, s, schemaOf(prefix, name))
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(connections)
		l, err := settlementsql.NewLedger(t.Context(), db, nil)
		return closingLedger{l, db}, err
	}
}

func settlementStores(t *testing.T, connections int) settlementtest.Open[settlement.Store] {
	s, prefix := sharedServer(t), newSchema()
	return func(name string) (settlement.Store, error) {
		db, err := migrated(t, s, schemaOf(prefix, name))
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(connections)
		st, err := settlementsql.NewStore(t.Context(), db, nil)
		return closingStore{st, db}, err
	}
}

func TestLedgerSuite(t *testing.T) { settlementtest.RunLedger(t, ledgers(t, 0)) }

func TestStoreSuite(t *testing.T) { settlementtest.RunStore(t, settlementStores(t, 0)) }

func TestFenceSuite(t *testing.T) {
	s, prefix := sharedServer(t), newSchema()
	settlementtest.RunFence(t, func(name string) (b settlementtest.Books, err error) {
		db, err := migrated(t, s, schemaOf(prefix, name))
		if err != nil {
			return b, err
		}
		var e1, e2 error
		b.Ledger, e1 = settlementsql.NewLedger(t.Context(), db, nil)
		b.Store, e2 = settlementsql.NewStore(t.Context(), db, nil)
		b.Done = db.Close
		return b, errors.Join(e1, e2)
	})
}
