package couriersql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/internal/sqldb"
)

// Store is a courier.Store and courier.BundleIndex on tables that [Migrate] has
// made. It never returns courier.ErrPoisoned: after a failure the next call
// takes another connection.
type Store struct{ db *sql.DB }

var (
	_ courier.Store       = (*Store)(nil)
	_ courier.BundleIndex = (*Store)(nil)
)

// New returns the store in a database that the caller closes. Possible errors:
// [ErrMigrate], courier.ErrVersion, courier.ErrClosed, that of ctx, and the
// driver's.
func New(ctx context.Context, db *sql.DB) (*Store, error) {
	if err := schema.Check(ctx, db); err != nil {
		return nil, translate(ctx, err)
	}
	return &Store{db}, nil
}

// errThere: the ID is in use.
var errThere = errors.New("couriersql: there already")

// Append implements courier.Store.
func (s *Store) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	if err := r.Validate(); err != nil {
		return courier.Receipt{}, err
	}
	if err := ctx.Err(); err != nil {
		return courier.Receipt{}, err
	}
	r.SentAt = micros(r.SentAt)
	r.State, r.Since, r.Cause, r.Reason = courier.Pending, r.SentAt, 0, ""
	var old courier.Receipt
	err := sqldb.Run(ctx, s.db, sqldb.Idle, func(tx *sql.Tx) error {
		// The row is locked until the commit, so numbers appear in their order.
		if err := tx.QueryRowContext(ctx, `UPDATE courier_log SET last_seq = last_seq + 1, pending = pending + 1
			WHERE id = 1 RETURNING last_seq`).Scan(&r.Seq); err != nil {
			return err
		}
		stamp := sqldb.Timestamp(r.SentAt)
		res, err := tx.ExecContext(ctx, `INSERT INTO courier_receipts (`+columns+`)
			VALUES ($1, $2, $3, $4, $5, CAST($6 AS TEXT)::TIMESTAMPTZ, $7, $8, CAST($6 AS TEXT)::TIMESTAMPTZ, '', '')
			ON CONFLICT (id) DO NOTHING`,
			r.ID[:], int64(r.Seq), r.Bundle[:], r.Size, sqldb.Text(r.Sender), stamp, r.Carried, r.State.String())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); n == 1 || err != nil {
			return err
		}
		if old, err = scanReceipt(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM courier_receipts WHERE id = $1`, r.ID[:])); err != nil {
			return err
		}
		return errThere // and the number is given to another
	})
	switch {
	case err == nil:
		return r, nil
	case !errors.Is(err, errThere):
		return courier.Receipt{}, translate(ctx, err)
	case !old.Same(r):
		return old, fmt.Errorf("%w: %v", courier.ErrConflict, r.ID)
	}
	return old, nil
}

// Get implements courier.Store.
func (s *Store) Get(ctx context.Context, id courier.ID) (courier.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return courier.Receipt{}, err
	}
	r, err := scanReceipt(s.db.QueryRowContext(ctx, `SELECT `+columns+` FROM courier_receipts WHERE id = $1`, id[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return courier.Receipt{}, fmt.Errorf("%w: receipt %v", courier.ErrNotFound, id)
	}
	return r, translate(ctx, err)
}

// List implements courier.Store. Only while there are more than a few thousand
// receipts does it keep a connection.
func (s *Store) List(ctx context.Context, state courier.State, from uint64) iter.Seq2[courier.Receipt, error] {
	return func(yield func(courier.Receipt, error) bool) {
		if state < courier.Pending || state > courier.Dead {
			yield(courier.Receipt{}, fmt.Errorf("%w: no list of %v", courier.ErrInvalid, state))
			return
		}
		page := func(tx *sql.Tx, last *courier.Receipt, limit int) ([]courier.Receipt, error) {
			next := from
			if last != nil {
				next = last.Seq + 1
			}
			if next > math.MaxInt64 {
				return nil, nil
			}
			return sqldb.Collect(ctx, tx, scanReceipt, `SELECT `+columns+` FROM courier_receipts
				WHERE state = $1 AND seq >= $2 ORDER BY seq LIMIT $3`, state.String(), int64(next), limit)
		}
		for r, err := range sqldb.Snapshot(ctx, s.db, page) {
			if !yield(r, translate(ctx, err)) {
				return
			}
		}
	}
}

// Count implements courier.Store.
func (s *Store) Count(ctx context.Context) (c courier.Counts, err error) {
	if err := ctx.Err(); err != nil {
		return c, err
	}
	err = s.db.QueryRowContext(ctx, `SELECT pending, acknowledged, dead FROM courier_log WHERE id = 1`).
		Scan(&c.Pending, &c.Acknowledged, &c.Dead)
	return c, translate(ctx, err)
}

// Needs implements courier.BundleIndex.
func (s *Store) Needs(ctx context.Context, h courier.Hash) (needed bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	err = s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM courier_receipts
		WHERE bundle = $1 AND carried AND state <> 'acknowledged')`, h[:]).Scan(&needed)
	return needed, translate(ctx, err)
}
