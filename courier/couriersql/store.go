package couriersql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/internal/sqldb"
)

// Options of [New]. The zero value and nil are ready to use.
type Options struct {
	// Logger hears of damaged rows. Defaults to discarding.
	Logger *slog.Logger
	// UnsafeServer accepts a server with fsync or full_page_writes turned off,
	// which may lose receipts that were acknowledged, or the whole queue, when it
	// crashes. Say it for tests, or where the file system makes up for it.
	// Defaults to refusing such a server with [ErrUnsafe]. New looks once; what
	// an operator changes later it does not see.
	UnsafeServer bool
}

// Store is a courier.Store and courier.BundleIndex on tables that [Migrate] has
// made. It never returns courier.ErrPoisoned: after a failure the next call
// takes another connection.
type Store struct {
	db  *sql.DB
	log *slog.Logger
}

var (
	_ courier.Store       = (*Store)(nil)
	_ courier.BundleIndex = (*Store)(nil)
)

// New returns the store in a database that the caller closes. opts may be nil.
// Possible errors: courier.ErrOptions (db is nil), [ErrMigrate], [ErrUnsafe],
// courier.ErrSchema, courier.ErrClosed, that of ctx, and the driver's.
func New(ctx context.Context, db *sql.DB, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := schema.Check(ctx, db); err != nil {
		return nil, translate(ctx, err)
	}
	if !o.UnsafeServer {
		if err := sqldb.CheckServer(ctx, db); err != nil {
			return nil, translate(ctx, err)
		}
	}
	return &Store{db, o.Logger}, nil
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
	var old []row
	err := sqldb.Run(ctx, s.db, sqldb.Idle, func(tx *sql.Tx) (err error) {
		// The row is locked until the commit, so numbers appear in their order.
		if r.Seq, err = nextSeq(ctx, tx); err != nil {
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
		if old, err = sqldb.Collect(ctx, tx, scanRow, selectRows+`WHERE id = $1`, r.ID[:]); err != nil {
			return err
		}
		if len(old) == 0 {
			return sqldb.ErrAgain // it was deleted by hand meanwhile
		}
		return errThere // and the number is given to another
	})
	switch {
	case err == nil:
		return r, nil
	case !errors.Is(err, errThere):
		return courier.Receipt{}, translate(ctx, err)
	case old[0].damage != nil:
		return courier.Receipt{}, old[0].damage
	case !old[0].Same(r):
		return old[0].Receipt, fmt.Errorf("%w: %v", courier.ErrConflict, r.ID)
	}
	return old[0].Receipt, nil
}

// nextSeq takes a number for a pending receipt, and locks the queue.
func nextSeq(ctx context.Context, tx *sql.Tx) (uint64, error) {
	var seq int64
	err := tx.QueryRowContext(ctx, `UPDATE courier_log SET last_seq = last_seq + 1, pending = pending + 1
		WHERE id = 1 AND last_seq >= 0 RETURNING last_seq`).Scan(&seq)
	return uint64(seq), logError(err)
}

// logError tells that the row of courier_log is damaged.
func logError(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: courier_log has no row with id 1 and a last_seq of 0 or more", courier.ErrCorrupt)
	}
	if sqldb.State(err) == outOfRange {
		return fmt.Errorf("%w: the row of courier_log: %w", courier.ErrCorrupt, err)
	}
	return err
}

// Get implements courier.Store.
func (s *Store) Get(ctx context.Context, id courier.ID) (courier.Receipt, error) {
	rows, err := sqldb.Read(ctx, s.db, scanRow, selectRows+`WHERE id = $1`, id[:])
	switch {
	case err != nil:
		return courier.Receipt{}, translate(ctx, err)
	case len(rows) == 0:
		return courier.Receipt{}, fmt.Errorf("%w: receipt %v", courier.ErrNotFound, id)
	case rows[0].damage != nil:
		return courier.Receipt{}, rows[0].damage
	}
	return rows[0].Receipt, nil
}

// Count implements courier.Store.
func (s *Store) Count(ctx context.Context) (courier.Counts, error) {
	var judge sqldb.Judge
	counts, err := sqldb.Read(ctx, s.db, func(row sqldb.Row) (c courier.Counts, err error) {
		var n [4]int64
		err = row.Scan(&n[0], &n[1], &n[2], &n[3])
		for i, field := range [...]*uint64{&c.Pending, &c.Acknowledged, &c.Dead, &c.Aside} {
			column := [...]string{"pending", "acknowledged", "dead", "aside"}[i]
			*field = uint64(judge.In("courier_log: "+column, n[i], 0, math.MaxInt64))
		}
		return c, err
	}, `SELECT pending, acknowledged, dead, aside FROM courier_log WHERE id = 1`)
	if err == nil && len(counts) == 0 {
		err = logError(sql.ErrNoRows)
	}
	if err == nil {
		err = judge.Err()
	}
	if err != nil {
		return courier.Counts{}, translate(ctx, err)
	}
	return counts[0], nil
}

// Needs implements courier.BundleIndex. What a damaged row names is needed.
func (s *Store) Needs(ctx context.Context, h courier.Hash) (bool, error) {
	needed, err := sqldb.Read(ctx, s.db, func(row sqldb.Row) (needed bool, err error) { return needed, row.Scan(&needed) },
		`SELECT EXISTS (SELECT 1 FROM courier_receipts WHERE bundle = $1 AND carried AND state <> 'acknowledged')`, h[:])
	return err == nil && needed[0], translate(ctx, err)
}
