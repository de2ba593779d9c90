package couriersql

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/internal/sqldb"
)

// List implements courier.Store. It reads page by page and keeps no connection
// while the loop's body runs: what left the list since, and is not in the page
// that was read, is not shown. A damaged row is kept aside: its state becomes
// "aside:" and the one that it had, it is in no list any more, and its ID stays
// blocked.
func (s *Store) List(ctx context.Context, state courier.State, from uint64) iter.Seq2[courier.Receipt, error] {
	return func(yield func(courier.Receipt, error) bool) {
		if state < courier.Pending || state > courier.Dead {
			yield(courier.Receipt{}, fmt.Errorf("%w: no list of %v", courier.ErrInvalid, state))
			return
		}
		end := int64(-1)
		for r, err := range sqldb.Pages(ctx, func(last *row, limit int) ([]row, error) {
			return s.page(ctx, state, from, last, &end, limit)
		}) {
			if err == nil && r.damage != nil {
				continue
			}
			if !yield(r.Receipt, translate(ctx, err)) {
				return
			}
		}
	}
}

// page reads what follows last, or what is at from and behind. The first page
// sets end, where the list ends now; later ones leave out what is behind it, and
// so was appended since.
func (s *Store) page(ctx context.Context, state courier.State, from uint64, last *row, end *int64, limit int) (page []row, err error) {
	switch {
	case last != nil:
		page, err = sqldb.Read(ctx, s.db, scanRow, selectRows+`WHERE state = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4`,
			state.String(), last.seq, *end, limit)
	case from > math.MaxInt64:
		return nil, ctx.Err()
	default:
		first := int64(from)
		if first == 0 {
			first = math.MinInt64 // numbers are above 0, unless they are damaged
		}
		page, err = sqldb.Read(ctx, s.db, func(r sqldb.Row) (row, error) { return scanRow(sqldb.Also(r, end)) },
			selectFirst+`WHERE state = $1 AND seq >= $2 ORDER BY seq LIMIT $3`, state.String(), first, limit)
	}
	if err == nil {
		err = s.setAside(ctx, state, page)
	}
	return page, err
}

// setAside takes the damaged rows of a page out of their list. The iteration
// goes on without them also where that fails, as on a damaged courier_log.
func (s *Store) setAside(ctx context.Context, state courier.State, page []row) error {
	var ids sqldb.Array
	for i := range page {
		if page[i].damage != nil {
			ids.Bytes(page[i].id)
		}
	}
	if ids.String() == "{}" {
		return nil
	}
	var moved []row
	err := sqldb.Run(ctx, s.db, sqldb.Idle, func(tx *sql.Tx) (err error) {
		moved, err = moveAside(ctx, tx, state, ids.String())
		return err
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	return callback.Guard("the logger of couriersql", func() error {
		if err != nil {
			s.log.Error("damaged receipts, which could not be kept aside", "err", err)
			return nil
		}
		for i := range moved {
			s.log.Error("damaged receipt kept aside", "err", moved[i].damage)
		}
		return nil
	})
}

// moveAside returns the rows that it moved: those that are still in the list,
// and still damaged.
func moveAside(ctx context.Context, tx *sql.Tx, state courier.State, ids string) (damaged []row, err error) {
	if err := lockLog(ctx, tx); err != nil {
		return nil, err
	}
	rows, err := sqldb.Collect(ctx, tx, scanRow,
		selectRows+`WHERE state = $1 AND id = ANY(CAST($2 AS TEXT)::BYTEA[]) ORDER BY id FOR UPDATE`, state.String(), ids)
	if err != nil {
		return nil, err
	}
	var still sqldb.Array
	for i := range rows {
		if rows[i].damage != nil {
			still.Bytes(rows[i].id)
			damaged = append(damaged, rows[i])
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE courier_receipts SET state = 'aside:' || state
		WHERE id = ANY(CAST($1 AS TEXT)::BYTEA[])`, still.String()); err != nil {
		return nil, err
	}
	list := state.String() // is the name of its column
	_, err = tx.ExecContext(ctx, `UPDATE courier_log SET `+list+` = `+list+` - $1, aside = aside + $1 WHERE id = 1`, len(damaged))
	return damaged, logError(err)
}
