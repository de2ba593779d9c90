package settlementsql_test

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/computemarket/computemarket/receipt/receiptsql"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
)

// Every node runs settle. One of them settles, the others wait in Open.
func Example() {
	db, err := sql.Open("pgx", "postgres://localhost/market")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	if err := settle(context.Background(), db); err != nil {
		fmt.Println(err) // settlement.ErrFenced: another node has taken over
	}
}

func settle(ctx context.Context, db *sql.DB) error {
	receipts, err := receiptsql.New(ctx, db, nil)
	if err != nil {
		return err
	}
	store, err := settlementsql.NewStore(ctx, db, &settlementsql.StoreOptions{Lease: 5 * time.Second})
	if err != nil {
		return err
	}
	ledger, err := settlementsql.NewLedger(ctx, db, &settlementsql.LedgerOptions{Fence: store})
	if err != nil {
		return err
	}
	engine, err := settlement.Open(ctx, receipts, ledger, store, nil)
	if err != nil {
		return err
	}
	if err := engine.Run(ctx); err != nil {
		return err
	}
	return store.Release(context.WithoutCancel(ctx)) // the next node need not wait
}
