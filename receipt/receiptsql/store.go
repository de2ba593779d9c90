package receiptsql

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"log/slog"
	"math"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/receipt"
)

// Options of [New]. The zero value and nil are ready to use.
type Options struct {
	// Logger hears of damaged rows. Defaults to discarding.
	Logger *slog.Logger
	// Metrics defaults to none.
	Metrics receipt.Metrics
}

// Store is a receipt.Store on tables that [Migrate] has made. It never returns
// receipt.ErrPoisoned: after a failure the next call takes another connection.
type Store struct {
	db   *sql.DB
	opts Options
}

var _ receipt.Store = (*Store)(nil)

// New returns the store in a database that the caller closes. opts may be nil.
// Possible errors: [ErrMigrate], receipt.ErrSchema, receipt.ErrClosed, that of
// ctx, and the driver's.
func New(ctx context.Context, db *sql.DB, opts *Options) (*Store, error) {
	s := &Store{db: db}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Logger == nil {
		s.opts.Logger = slog.New(slog.DiscardHandler)
	}
	if s.opts.Metrics == nil {
		s.opts.Metrics = noMetrics{}
	}
	if err := schema.Check(ctx, db); err != nil {
		return nil, translate(ctx, err)
	}
	return s, nil
}

type noMetrics struct{}

func (noMetrics) Corrupt(int) {}

// Get implements receipt.Store.
func (s *Store) Get(ctx context.Context, key receipt.Key) (receipt.Record, error) {
	if err := ctx.Err(); err != nil {
		return receipt.Record{}, err
	}
	got, err := scanRecord(s.db.QueryRowContext(ctx,
		`SELECT `+columns+` FROM receipts WHERE receipt_key = $1 AND superseded_by IS NULL`, key[:]))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return receipt.Record{}, receipt.ErrNotFound
	case err != nil:
		return receipt.Record{}, translate(ctx, err)
	case got.damage != nil:
		return receipt.Record{}, got.damage
	}
	return got.Record, nil
}

const (
	firstPage = 1024
	otherPage = 8192
)

// After implements receipt.Store. It reads page by page and keeps no connection
// while the loop's body runs.
func (s *Store) After(ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error] {
	return func(yield func(receipt.Record, error) bool) {
		end, limit := int64(-1), firstPage
		for {
			page, err := s.page(ctx, seq, &end, limit)
			if err != nil {
				yield(receipt.Record{}, translate(ctx, err))
				return
			}
			for i := range page {
				if err := ctx.Err(); err != nil {
					yield(receipt.Record{}, err)
					return
				}
				if page[i].damage != nil {
					s.opts.Logger.Error("damaged receipt", "err", page[i].damage)
					s.opts.Metrics.Corrupt(1)
					continue
				}
				if !yield(page[i].Record, nil) {
					return
				}
			}
			if len(page) < limit {
				return
			}
			seq, limit = page[len(page)-1].Seq, otherPage
		}
	}
}

// page reads what follows seq, as it stood when the log ended at end. The first
// page of an iteration, with end -1, sets it. Later ones leave out what came
// since, and what was superseded since they keep.
func (s *Store) page(ctx context.Context, seq uint64, end *int64, limit int) ([]stored, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if seq > math.MaxInt64 {
		return nil, nil
	}
	if *end >= 0 {
		return sqldb.Collect(ctx, s.db, scanRecord,
			`SELECT `+columns+` FROM receipts
			WHERE seq > $1 AND seq <= $2 AND (superseded_by IS NULL OR superseded_by > $2)
			ORDER BY seq LIMIT $3`, int64(seq), *end, limit)
	}
	return sqldb.Collect(ctx, s.db, func(row sqldb.Row) (stored, error) { return scanRecord(withEnd{row, end}) },
		`SELECT `+columns+`, (SELECT last_seq FROM receipt_log WHERE id = 1) FROM receipts
		WHERE seq > $1 AND superseded_by IS NULL
		ORDER BY seq LIMIT $2`, int64(seq), limit)
}

// withEnd scans one column more.
type withEnd struct {
	sqldb.Row
	end *int64
}

func (w withEnd) Scan(dest ...any) error { return w.Row.Scan(append(dest, w.end)...) }
