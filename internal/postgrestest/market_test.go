package postgrestest

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/computemarket/computemarket/receipt/receiptsql"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
)

var issued = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// market is a node without a network: log, ledger, engine.
type market struct {
	receipts *receiptsql.Store
	ledger   *settlementsql.Ledger
	store    *settlementsql.Store
	engine   *settlement.Engine
}

// openMarket makes tables where there are none, and opens an engine that is
// Real when it holds the lease.
func openMarket(ctx context.Context, db *sql.DB, opts *settlementsql.StoreOptions) (*market, error) {
	m, err := prepareMarket(ctx, db, opts)
	if err != nil {
		return nil, err
	}
	return m, m.lead(ctx)
}

func prepareMarket(ctx context.Context, db *sql.DB, opts *settlementsql.StoreOptions) (*market, error) {
	if err := errors.Join(receiptsql.Migrate(ctx, db), settlementsql.Migrate(ctx, db)); err != nil {
		return nil, err
	}
	m := new(market)
	var e1, e2, e3 error
	m.receipts, e1 = receiptsql.New(ctx, db, nil)
	m.store, e2 = settlementsql.NewStore(ctx, db, opts)
	m.ledger, e3 = settlementsql.NewLedger(ctx, db, nil)
	return m, errors.Join(e1, e2, e3)
}

// lead waits for the lease.
func (m *market) lead(ctx context.Context) (err error) {
	m.engine, err = settlement.Open(ctx, m.receipts, m.ledger, m.store, &settlement.Options{
		Start: settlement.After(0), Interval: 20 * time.Millisecond,
	})
	if err == nil {
		err = m.engine.Lead(ctx)
	}
	return err
}

// acquire waits for the lease.
func (m *market) acquire(ctx context.Context) (settlement.Lease, settlement.State, error) {
	for {
		lease, state, err := m.store.Acquire(ctx)
		held, ok := errors.AsType[*settlement.HeldError](err)
		if !ok {
			return lease, state, err
		}
		select {
		case <-time.After(held.Wait):
		case <-ctx.Done():
			return lease, state, ctx.Err()
		}
	}
}
