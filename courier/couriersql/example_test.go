package couriersql_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/computemarket/computemarket/courier/couriersql"
)

// The program imports a driver, such as _ "github.com/jackc/pgx/v5/stdlib".
func Example() {
	if err := show(context.Background(), "postgres://localhost/market"); err != nil {
		fmt.Println(err)
	}
}

func show(ctx context.Context, url string) error {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := couriersql.Migrate(ctx, db); err != nil {
		return err
	}
	store, err := couriersql.New(ctx, db, nil)
	if err != nil {
		return err
	}
	counts, err := store.Count(ctx)
	fmt.Printf("%d bundles wait\n", counts.Pending)
	return err
}
