package settlementsql

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/settlement"
)

// StoreOptions of [NewStore]. The zero value and nil are ready to use.
type StoreOptions struct {
	// Lease is how long an engine that renews no more is still taken for alive,
	// and so the time in which another takes over. Take at least four times the
	// engine's Options.Interval, and more than the longest call to the database.
	// All nodes take the same. Defaults to 10 seconds.
	Lease time.Duration
	// Name stands in the table beside the lease, for operators: a host, for
	// example. Defaults to none.
	Name string
	// Logger hears who holds the lease. Defaults to discarding.
	Logger *slog.Logger
	// UnsafeServer accepts a server with fsync or full_page_writes turned off,
	// which may lose what was acknowledged when it crashes. Say it for tests, or
	// where the file system makes up for it. Defaults to refusing such a server
	// with [ErrUnsafe]. NewStore looks once; what an operator changes later it
	// does not see.
	UnsafeServer bool
}

// Store is a settlement.Store for several nodes, on tables that [Migrate] has
// made. All times are those of the database's clock. It never returns
// settlement.ErrPoisoned: after a failure the next call takes another connection.
type Store struct {
	db     *sql.DB
	opts   StoreOptions
	holder string
	epoch  atomic.Int64 // the latest that this store acquired

	mu       sync.Mutex       // one writer at a time; guards what follows
	revision int64            // of the row that was written last
	unsure   bool             // whether that one was written is not known
	written  time.Time        // when, on this process's clock
	waiting  settlement.State // progress that is not yet written
}

var _ settlement.Store = (*Store)(nil)

// NewStore returns the state in a database that the caller closes. opts may be
// nil. Possible errors: settlement.ErrOptions (db is nil, or an option makes no
// sense), settlement.ErrSchema, [ErrMigrate], [ErrUnsafe], settlement.ErrClosed,
// that of ctx, and the driver's.
func NewStore(ctx context.Context, db *sql.DB, opts *StoreOptions) (*Store, error) {
	var o StoreOptions
	if opts != nil {
		o = *opts
	}
	if o.Lease == 0 {
		o.Lease = 10 * time.Second
	}
	if o.Lease < time.Millisecond {
		return nil, fmt.Errorf("%w: a lease of %v", settlement.ErrOptions, o.Lease)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := open(ctx, db, o.UnsafeServer); err != nil {
		return nil, err
	}
	return &Store{db: db, opts: o, holder: sqldb.AnyText(o.Name) + "#" + rand.Text()}, nil
}

// leaseEnd is when a lease ends that is renewed now, for the argument $1.
const leaseEnd = `clock_timestamp() + CAST($1 AS BIGINT) * INTERVAL '1 microsecond'`

// Acquire implements settlement.Store. It waits while another store holds the
// lease. A store that holds it itself starts the next epoch at once.
func (s *Store) Acquire(ctx context.Context) (settlement.State, error) {
	for told := ""; ; {
		state, wait, holder, err := s.tryAcquire(ctx)
		switch {
		case errors.Is(err, sqldb.ErrUnknown) && ctx.Err() == nil:
			continue // if it was written, this store holds the lease
		case err != nil:
			return settlement.State{}, translate(ctx, err)
		case wait == 0:
			s.opts.Logger.Info("settlement lease taken", "epoch", state.Epoch)
			return state, nil
		}
		if told != holder {
			told = holder
			s.opts.Logger.Info("settlement lease held by another", "holder", holder)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return settlement.State{}, ctx.Err()
		}
	}
}

// tryAcquire returns how long the lease still runs, if another holds it.
func (s *Store) tryAcquire(ctx context.Context) (state settlement.State, wait time.Duration, holder string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var revision int64
	err = sqldb.Run(ctx, s.db, s.opts.Lease, func(tx *sql.Tx) error {
		var micros int64
		row := tx.QueryRowContext(ctx, `SELECT revision, holder,
				CAST(EXTRACT(EPOCH FROM lease_until - clock_timestamp()) * 1000000 AS BIGINT), `+stateColumns+`
			FROM settlement_state WHERE id = 1 FOR UPDATE`)
		if state, err = scanState(row, &revision, &holder, &micros); err != nil {
			return err
		}
		if wait = 0; holder != s.holder && micros > 0 {
			// Look again within the lease: the holder may release it early, and
			// the database's clock may be set.
			wait = min(time.Duration(micros)*time.Microsecond, s.opts.Lease/4) + time.Millisecond
			return nil
		}
		state.Epoch++
		revision++
		_, err := tx.ExecContext(ctx, `UPDATE settlement_state
			SET epoch = $2, revision = $3, holder = $4, lease_until = `+leaseEnd+` WHERE id = 1`,
			s.opts.Lease.Microseconds(), int64(state.Epoch), revision, s.holder)
		return err
	})
	if err == nil && wait == 0 {
		s.revision, s.unsure, s.written = revision, false, time.Now()
		s.waiting = settlement.State{}
		s.epoch.Store(int64(state.Epoch))
	}
	return state, wait, holder, err
}

// Save implements settlement.Store. When the answer to a commit is lost, it
// reads whether the state was written; settlement.ErrUnknown comes only when the
// database cannot be read for the time of a lease either.
func (s *Store) Save(ctx context.Context, state settlement.State, put []settlement.Failure, drop []uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return translate(ctx, s.save(ctx, state, put, drop))
}

// Advance implements settlement.Store. It renews the lease once in a quarter of
// its time, and writes the progress with it; an engine that takes over after a
// crash repeats that much, and hears Duplicate.
func (s *Store) Advance(ctx context.Context, state settlement.State) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if state.Epoch == uint64(s.epoch.Load()) && !s.unsure && time.Since(s.written) < s.opts.Lease/4 {
		s.waiting = state
		return nil
	}
	return translate(ctx, s.save(ctx, state, nil, nil))
}

// Release writes what Advance has kept back and gives the lease up, so that
// another engine need not wait for its end. Call it when the engine has stopped.
// It returns nil when this store holds no lease. Possible errors:
// settlement.ErrUnknown, settlement.ErrClosed, that of ctx, and the driver's.
func (s *Store) Release(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.Epoch != 0 {
		if err := s.save(ctx, s.waiting, nil, nil); err != nil && !errors.Is(err, settlement.ErrFenced) {
			return translate(ctx, err)
		}
	}
	_, err := sqldb.Exec(ctx, s.db, s.opts.Lease, `WITH `+sqldb.Durable+` UPDATE settlement_state SET holder = '', lease_until = clock_timestamp()
		FROM durable WHERE id = 1 AND holder = $1`, s.holder)
	return translate(ctx, err)
}

// maxLost bounds how often a write is tried whose answer was lost.
const maxLost = 4

var errStale = errors.New("settlementsql: the row has another revision")

// save writes the state and resolves what is unknown by reading the revision.
// s.mu is held.
func (s *Store) save(ctx context.Context, state settlement.State, put []settlement.Failure, drop []uint64) error {
	if state.Epoch != uint64(s.epoch.Load()) {
		return fmt.Errorf("%w: epoch %d, this store has %d", settlement.ErrFenced, state.Epoch, s.epoch.Load())
	}
	for try := 0; ; try++ {
		if s.unsure {
			if _, err := s.look(ctx, state.Epoch); err != nil {
				return fmt.Errorf("settlementsql: after a write whose answer was lost: %w", err)
			}
		}
		start := time.Now()
		err := s.write(ctx, state, put, drop)
		if errors.Is(err, sqldb.ErrUnknown) || errors.Is(err, errStale) {
			s.unsure = true
			before := s.revision
			revision, lerr := s.look(ctx, state.Epoch)
			if lerr != nil {
				if errors.Is(lerr, settlement.ErrFenced) {
					return lerr
				}
				return fmt.Errorf("%w: %w, and reading it: %w", settlement.ErrUnknown, err, lerr)
			}
			if errors.Is(err, sqldb.ErrUnknown) && revision == before+1 {
				err = nil
			} else if try < maxLost {
				continue
			}
		} else if err == nil {
			s.revision++
		}
		if err == nil {
			s.written, s.waiting = start, settlement.State{}
		}
		return err
	}
}

// look reads the revision, after whoever is still writing the row has ended. It
// goes on trying for the time of a lease: a server that starts again answers
// then, and the caller's context may have ended in the write.
func (s *Store) look(ctx context.Context, epoch uint64) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Lease)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if revision, err = s.lookOnce(ctx, epoch); err == nil {
			s.revision, s.unsure = revision, false
			return revision, nil
		}
		if errors.Is(err, settlement.ErrFenced) || errors.Is(err, sqldb.ErrClosed) {
			return 0, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, err
		}
	}
}

func (s *Store) lookOnce(ctx context.Context, epoch uint64) (revision int64, err error) {
	err = sqldb.Run(ctx, s.db, s.opts.Lease, func(tx *sql.Tx) error {
		var latest int64
		err := tx.QueryRowContext(ctx, `SELECT revision, epoch FROM settlement_state WHERE id = 1 FOR UPDATE`).Scan(&revision, &latest)
		if err == nil && uint64(latest) != epoch {
			err = fmt.Errorf("%w: epoch %d, the latest is %d", settlement.ErrFenced, epoch, latest)
		}
		return err
	})
	return revision, err
}

// write is one transaction. It returns errStale when the row is another one.
func (s *Store) write(ctx context.Context, state settlement.State, put []settlement.Failure, drop []uint64) error {
	args := append([]any{s.opts.Lease.Microseconds(), int64(state.Epoch), s.revision}, stateArgs(state)...)
	if len(put) == 0 && len(drop) == 0 {
		n, err := sqldb.Exec(ctx, s.db, s.opts.Lease, updateState, args...)
		if err == nil && n == 0 {
			err = errStale
		}
		return err
	}
	return sqldb.Run(ctx, s.db, s.opts.Lease, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, updateState, args...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(errStale, err)
		}
		if err := putFailures(ctx, tx, put); err != nil {
			return err
		}
		return dropFailures(ctx, tx, drop)
	})
}
