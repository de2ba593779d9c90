package sqldb

import (
	"context"
	"database/sql"
	"iter"
)

// Row scans one row, as the Scan of sql.Row and sql.Rows.
type Row interface{ Scan(dest ...any) error }

// Collect returns all rows of a query. q is an *sql.DB or an *sql.Tx.
func Collect[T any](ctx context.Context, q interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, scan func(Row) (T, error), query string, args ...any) (all []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// pageRows is how many rows a snapshot reads at once.
const pageRows = 4096

// Snapshot yields what page returns, as it all stood when the iteration began.
// page returns at most limit values that follow last, which is nil at first.
// Only while there is more than one page does the iteration keep a connection.
func Snapshot[T any](ctx context.Context, db *sql.DB, page func(tx *sql.Tx, last *T, limit int) ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if err := snapshot(ctx, db, page, func(v T) bool { return yield(v, nil) }); err != nil {
			var zero T
			yield(zero, Translate(ctx, err))
		}
	}
}

func snapshot[T any](ctx context.Context, db *sql.DB, page func(*sql.Tx, *T, int) ([]T, error), yield func(T) bool) error {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var last *T
	for {
		values, err := page(tx, last, pageRows)
		if err != nil {
			return err
		}
		more := len(values) == pageRows
		if !more {
			tx.Rollback() // the loop's body may need the connection
		}
		for i := range values {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !yield(values[i]) {
				return nil
			}
		}
		if !more {
			return nil
		}
		last = &values[len(values)-1]
	}
}
