package receiptsql

import (
	"cmp"
	"context"
	"database/sql"
	"iter"
	"log/slog"
	"math"
	"sync"

	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/receipt"
)

// Options of [New]. The zero value and nil are ready to use.
type Options struct {
	// Logger hears of damaged rows. Defaults to discarding.
	Logger *slog.Logger
	// Metrics defaults to none.
	Metrics receipt.Metrics
	// UnsafeServer accepts a server with fsync or full_page_writes turned off,
	// which may lose receipts that Append has acknowledged, or the whole log,
	// when it crashes. Say it for tests, or where the file system makes up for
	// it. Defaults to refusing such a server with [ErrUnsafe]. New looks once;
	// what an operator changes later it does not see.
	UnsafeServer bool
}

// Store is a receipt.Store on tables that [Migrate] has made. It never returns
// receipt.ErrPoisoned: after a failure the next call takes another connection.
type Store struct {
	db   *sql.DB
	opts Options

	mu      sync.Mutex
	damaged map[int64]struct{} // numbers of the damaged rows that were counted
}

var _ receipt.Store = (*Store)(nil)

// New returns the store in a database that the caller closes. opts may be nil.
// Possible errors: receipt.ErrOptions (db is nil), [ErrMigrate], [ErrUnsafe],
// receipt.ErrSchema, receipt.ErrClosed, that of ctx, and the driver's.
func New(ctx context.Context, db *sql.DB, opts *Options) (*Store, error) {
	s := &Store{db: db, damaged: map[int64]struct{}{}}
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
		return nil, sqldb.Translate(ctx, err)
	}
	if !s.opts.UnsafeServer {
		if err := sqldb.CheckServer(ctx, db); err != nil {
			return nil, sqldb.Translate(ctx, err)
		}
	}
	return s, nil
}

type noMetrics struct{}

func (noMetrics) Corrupt(int) {}

// Get implements receipt.Store.
func (s *Store) Get(ctx context.Context, key receipt.Key) (receipt.Record, error) {
	rows, err := sqldb.Read(ctx, s.db, scanRow, underKey, key[:])
	if err != nil {
		return receipt.Record{}, sqldb.Translate(ctx, err)
	}
	if len(rows) == 0 {
		return receipt.Record{}, receipt.ErrNotFound
	}
	for i := range rows {
		if rows[i].damage != nil {
			return receipt.Record{}, cmp.Or(s.found(&rows[i]), rows[i].damage)
		}
	}
	return rows[0].Record, nil
}

// After implements receipt.Store. It reads page by page and keeps no connection
// while the loop's body runs.
func (s *Store) After(ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error] {
	return func(yield func(receipt.Record, error) bool) {
		var end int64
		for r, err := range sqldb.Pages(ctx, func(last *row, limit int) ([]row, error) {
			if last == nil {
				return s.firstPage(ctx, seq, &end, limit)
			}
			return sqldb.Read(ctx, s.db, scanRow, nextPage, last.seq, end, limit)
		}) {
			if err == nil && r.damage != nil {
				if err = s.found(&r); err == nil {
					continue
				}
			}
			if !yield(r.Record, sqldb.Translate(ctx, err)) || err != nil {
				return
			}
		}
	}
}

// firstPage reads what follows seq, and where the log ends.
func (s *Store) firstPage(ctx context.Context, seq uint64, end *int64, limit int) ([]row, error) {
	if seq >= math.MaxInt64 {
		return nil, ctx.Err()
	}
	first := int64(seq) + 1
	if seq == 0 {
		first = math.MinInt64 // numbers are above 0, unless they are damaged
	}
	page, err := sqldb.Read(ctx, s.db, scanRow, firstPage, first, limit)
	if len(page) > 0 {
		*end = page[0].end
	}
	return page, err
}

// maxDamaged bounds what is remembered of a log that is damaged all over.
const maxDamaged = 1 << 16

// found counts and logs a damaged row, once for each time that the store is
// opened. Its error is a logger or metrics that panicked.
func (s *Store) found(r *row) error {
	s.mu.Lock()
	_, known := s.damaged[r.seq]
	if known = known || len(s.damaged) >= maxDamaged; !known {
		s.damaged[r.seq] = struct{}{}
	}
	s.mu.Unlock()
	if known {
		return nil
	}
	return callback.Guard("the logger or metrics of receiptsql", func() error {
		s.opts.Logger.Error("damaged receipt", "err", r.damage)
		s.opts.Metrics.Corrupt(1)
		return nil
	})
}
