package sqldb

import (
	"context"
	"database/sql"
	"iter"
)

// Querier is an *sql.DB or an *sql.Tx.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Row scans one row, as the Scan of sql.Row and sql.Rows. Whoever scans reads
// into types that hold whatever the column can, and judges then: an error of
// Scan would end the whole query.
type Row interface{ Scan(dest ...any) error }

// Collect returns all rows of a query in a transaction.
func Collect[T any](ctx context.Context, q Querier, scan func(Row) (T, error), query string, args ...any) (all []T, err error) {
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

// Also is a row that has dest behind the columns that its scanner asks for.
func Also(row Row, dest ...any) Row { return longer{row, dest} }

type longer struct {
	Row
	more []any
}

func (l longer) Scan(dest ...any) error { return l.Row.Scan(append(dest, l.more...)...) }

// Read returns all rows of a query outside of a transaction. When it returns, no
// connection is held.
func Read[T any](ctx context.Context, db *sql.DB, scan func(Row) (T, error), query string, args ...any) (all []T, err error) {
	err = Reading(ctx, db, func(q Querier) (err error) {
		all, err = Collect(ctx, q, scan, query, args...)
		return err
	})
	return all, err
}

// Reading calls read, which runs one query. Should the settings of the server
// make that fail, read is called again with a transaction that is free of them.
func Reading(ctx context.Context, db *sql.DB, read func(Querier) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := read(db)
	if !ofSettings(ctx, err) {
		return Translate(ctx, err)
	}
	return again(ctx, func() error {
		tx, err := begin(ctx, db, readOnly, Idle)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		return read(tx)
	})
}

const (
	firstPage = 1024
	otherPage = 8192
)

// Pages yields what page returns, page by page. page gets the last value of the
// page before, nil at first, and returns at most limit of those that follow it; a
// page that is shorter is the last. page has given its connection back when it
// returns, so none is held while the loop's body runs.
func Pages[T any](ctx context.Context, page func(last *T, limit int) ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		var last *T
		for limit := firstPage; ; limit = otherPage {
			values, err := page(last, limit)
			if err != nil {
				yield(zero, err)
				return
			}
			for i := range values {
				if err := ctx.Err(); err != nil {
					yield(zero, err)
					return
				}
				if !yield(values[i], nil) {
					return
				}
			}
			if len(values) < limit {
				return
			}
			last = &values[len(values)-1]
		}
	}
}
