package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
	"github.com/computemarket/computemarket/courier/couriersql"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/receipt/receiptsql"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
	"github.com/computemarket/computemarket/settlement/settlementsql"
)

// stores is all that outlasts the process and is not a file: in a Pebble of this
// node, or in a database that several nodes share.
type stores struct {
	receipts receipt.Store
	ledger   ledger
	state    settlement.Store
	bundles  courier.Store
}

// ledger is one that also finds a transfer by its id.
type ledger interface {
	settlement.Ledger
	Transfer(ctx context.Context, id settlement.ID) (settlement.Transfer, bool, error)
}

// pebbleName is the folder of the Pebble.
const pebbleName = "db"

// openPebble opens the database that all stores share, so that they share its
// fsyncs too.
func (n *node) openPebble(_ context.Context, metrics receipt.Metrics) error {
	db, err := pebbledb.Open(filepath.Join(n.dir, pebbleName), &pebbledb.Options{Logger: n.log})
	if err != nil {
		return err
	}
	n.closeLater(db.Close)
	receipts, err := receiptpebble.New(db, &receiptpebble.Options{Logger: n.log, Metrics: metrics})
	if err != nil {
		return err
	}
	n.closeLater(receipts.Close)
	ledger, err := settlementpebble.NewLedger(db, &settlementpebble.LedgerOptions{Logger: n.log})
	if err != nil {
		return err
	}
	state, err := settlementpebble.NewStore(db, nil)
	if err != nil {
		return err
	}
	bundles, err := courierpebble.New(db, nil)
	if err != nil {
		return err
	}
	n.closeLater(bundles.Close)
	n.stores = stores{receipts, ledger, state, bundles}
	return nil
}

// openSQL opens the same in a database, whose tables it makes or brings to the
// version of this release. The data dir keeps the rest, and is locked.
func (n *node) openSQL(ctx context.Context, metrics receipt.Metrics) error {
	lock, err := vfs.Default.Lock(filepath.Join(n.dir, "lock"))
	if err != nil {
		return fmt.Errorf("%w: %w", settlement.ErrLocked, err)
	}
	n.closeLater(lock.Close)
	db, err := sql.Open("pgx", n.cfg.Database)
	if err != nil {
		return err
	}
	n.closeLater(db.Close)
	db.SetMaxOpenConns(databaseConns)
	db.SetMaxIdleConns(databaseConns)
	for _, migrate := range []func(context.Context, *sql.DB) error{
		receiptsql.Migrate, settlementsql.Migrate, couriersql.Migrate,
	} {
		if err := migrate(ctx, db); err != nil {
			return err
		}
	}
	receipts, err := receiptsql.New(ctx, db, &receiptsql.Options{Logger: n.log, Metrics: metrics})
	if err != nil {
		return err
	}
	state, err := settlementsql.NewStore(ctx, db, &settlementsql.StoreOptions{
		Lease: seconds(n.cfg.DatabaseLease), Name: n.cfg.Listen,
	})
	if err != nil {
		return err
	}
	ledger, err := settlementsql.NewLedger(ctx, db, nil)
	if err != nil {
		return err
	}
	bundles, err := couriersql.New(ctx, db, &couriersql.Options{Logger: n.log})
	if err != nil {
		return err
	}
	n.stores = stores{receipts, ledger, state, bundles}
	return nil
}

// databaseConns bounds the connections of one node.
const databaseConns = 16
