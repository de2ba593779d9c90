package receiptsql_test

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptsql"
)

// The program imports a driver, such as _ "github.com/jackc/pgx/v5/stdlib".
func Example() {
	if err := record(context.Background(), "postgres://localhost/market"); err != nil {
		fmt.Println(err)
	}
}

func record(ctx context.Context, url string) error {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := receiptsql.Migrate(ctx, db); err != nil {
		return err
	}
	store, err := receiptsql.New(ctx, db, nil)
	if err != nil {
		return err
	}
	r := receipt.New("job-7", "alice", "bob", 250, time.Now())
	_, err = store.Append(ctx, []receipt.Receipt{r})
	return err
}
