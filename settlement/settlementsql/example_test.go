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

// Every node runs settle. One of them settles; the others stand by, and one of
// those goes on when it is gone.
func Example() {
	db, err := sql.Open("pgx", "postgres://localhost/market")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	if err := settle(context.Background(), db); err != nil {
		fmt.Println(err)
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
	ledger, err := settlementsql.NewLedger(ctx, db, nil)
	if err != nil {
		return err
	}
	engine, err := settlement.Open(ctx, receipts, ledger, store, nil)
	if err != nil {
		return err
	}
	return engine.Run(ctx)
}
