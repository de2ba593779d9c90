package settlementsql

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/settlement"
)

// StoreOptions of [NewStore]. The zero value and nil are ready to use.
type StoreOptions struct {
	// Lease is how long an engine that renews no more is still taken for alive,
	// and so the time in which another takes over: the Term of the leases. Take
	// more than four times the longest call to the database. All nodes take the
	// same. Defaults to 10 seconds.
	Lease time.Duration
	// Name stands in the table beside the lease, for operators: a host, for
	// example. Defaults to none.
	Name string
	// UnsafeServer accepts a server with fsync or full_page_writes turned off,
	// which may lose what was acknowledged when it crashes. Say it for tests, or
	// where the file system makes up for it. Defaults to refusing such a server
	// with [ErrUnsafe]. NewStore looks once; what an operator changes later it
	// does not see.
	UnsafeServer bool
}

// Store is a settlement.Store for several nodes, on tables that [Migrate] has
// made. A lease ends by the database's clock, or, should that be set back, when
// this process has seen it go without a renewal for its whole term. The store
// never returns settlement.ErrPoisoned: after a failure the next call takes
// another connection.
type Store struct {
	db    *sql.DB
	opts  StoreOptions
	owner string // what the holders of this store's leases begin with

	mu       sync.Mutex       // one writer at a time; guards what follows
	leases   uint64           // that this store has asked for
	lease    settlement.Lease // the latest that it was given
	revision int64            // of the row that was written last
	unsure   bool             // whether that one was written is not known
	written  time.Time        // when, on this process's clock
	seen     sighting         // of another's lease
}

// sighting is a row as it was when it was first seen so.
type sighting struct {
	holder   string
	revision int64
	since    time.Time // on this process's clock
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
	if err := open(ctx, db, o.UnsafeServer); err != nil {
		return nil, err
	}
	name := strings.ToValidUTF8(o.Name, "\uFFFD")
	return &Store{db: db, opts: o, owner: name + "#" + rand.Text() + "."}, nil
}

// Load implements settlement.Store.
func (s *Store) Load(ctx context.Context) (settlement.Lease, settlement.State, error) {
	rows, err := sqldb.Read(ctx, s.db, scanState, selectState)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%w: %d rows in settlement_state", settlement.ErrCorrupt, len(rows))
	}
	if err == nil {
		err = rows[0].damage
	}
	if err != nil {
		return settlement.Lease{}, settlement.State{}, sqldb.Translate(ctx, err)
	}
	if r := rows[0]; r.holder != "" && r.left > 0 {
		return settlement.Lease{Epoch: uint64(r.epoch), Holder: r.holder, Term: s.opts.Lease}, r.state, nil
	}
	return settlement.Lease{}, rows[0].state, nil
}

// Acquire implements settlement.Store. A store that holds the lease itself begins
// the next at once.
func (s *Store) Acquire(ctx context.Context) (settlement.Lease, settlement.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases++
	lease := settlement.Lease{Holder: s.owner + strconv.FormatUint(s.leases, 10), Term: s.opts.Lease}
	var row stateRow
	var start time.Time
	err := sqldb.Run(ctx, s.db, s.opts.Lease, func(tx *sql.Tx) (err error) {
		start = time.Now()
		if row, err = scanState(tx.QueryRowContext(ctx, selectState+` FOR UPDATE`)); err == nil {
			err = row.damage
		}
		if err == nil {
			err = s.held(&row)
		}
		if err != nil {
			return err
		}
		lease.Epoch = uint64(row.epoch) + 1
		row.revision++
		_, err = tx.ExecContext(ctx, takeLease, append([]any{s.opts.Lease.Microseconds(), row.epoch, sqldb.Text(row.holder), row.revision - 1},
			append(stateArgs(row.revision, row.state), int64(lease.Epoch), sqldb.Text(lease.Holder))...)...)
		return err
	})
	if err != nil {
		return settlement.Lease{}, settlement.State{}, sqldb.Translate(ctx, err)
	}
	s.lease, s.revision, s.unsure, s.written = lease, row.revision, false, start
	return lease, row.state, nil
}

// held returns a *settlement.HeldError while another holds the lease. s.mu is
// held.
func (s *Store) held(row *stateRow) error {
	if row.holder == "" || strings.HasPrefix(row.holder, s.owner) || row.left <= 0 {
		return nil
	}
	now := time.Now()
	if row.holder != s.seen.holder || row.revision != s.seen.revision {
		s.seen = sighting{row.holder, row.revision, now}
	} else if now.Sub(s.seen.since) > s.opts.Lease {
		return nil // the database's clock says otherwise, and was set back
	}
	// Look again within the lease: the holder may release it early, and the
	// database's clock may be set.
	wait := min(row.left, s.opts.Lease/4) + time.Millisecond
	return &settlement.HeldError{Holder: row.holder, Wait: wait}
}

// Save implements settlement.Store. When the answer to a commit is lost, it
// reads whether the state was written; settlement.ErrUnknown comes only when the
// database cannot be read for the time of a lease either.
func (s *Store) Save(ctx context.Context, lease settlement.Lease, c settlement.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return sqldb.Translate(ctx, s.save(ctx, lease, c))
}

// Advance implements settlement.Store. It renews the lease once in a quarter of
// its time, and writes the progress with it; an engine that takes over after a
// crash repeats that much, and hears Duplicate.
func (s *Store) Advance(ctx context.Context, lease settlement.Lease, state settlement.State) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if lease.Check(s.lease) == nil && !s.unsure && time.Since(s.written) < s.opts.Lease/4 {
		return nil
	}
	return sqldb.Translate(ctx, s.save(ctx, lease, settlement.Change{State: state}))
}

// Release implements settlement.Store.
func (s *Store) Release(ctx context.Context, lease settlement.Lease, state settlement.State) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.save(ctx, lease, settlement.Change{State: state}); err != nil {
		return sqldb.Translate(ctx, err)
	}
	_, err := sqldb.Exec(ctx, s.db, s.opts.Lease, `WITH `+sqldb.Durable+` UPDATE settlement_state
		SET holder = '', lease_until = clock_timestamp()
		FROM durable WHERE id = 1 AND epoch = $1 AND holder = $2`, int64(lease.Epoch), sqldb.Text(lease.Holder))
	if err == nil {
		s.lease = settlement.Lease{}
	}
	return sqldb.Translate(ctx, err)
}

// maxLost bounds how often a write is tried whose answer was lost.
const maxLost = 4

var errStale = errors.New("settlementsql: the row has another revision")

// save writes the state and resolves what is unknown by reading the revision.
// s.mu is held.
func (s *Store) save(ctx context.Context, lease settlement.Lease, c settlement.Change) error {
	if err := lease.Check(s.lease); err != nil {
		return err
	}
	for try := 0; ; try++ {
		if s.unsure {
			if _, err := s.look(ctx); err != nil {
				return fmt.Errorf("settlementsql: after a write whose answer was lost: %w", err)
			}
		}
		start := time.Now()
		err := s.write(ctx, c)
		if errors.Is(err, sqldb.ErrUnknown) || errors.Is(err, errStale) {
			s.unsure = true
			before := s.revision
			revision, lerr := s.look(ctx)
			if lerr != nil {
				if errors.Is(lerr, settlement.ErrFenced) {
					return lerr
				}
				return fmt.Errorf("%w: %w, and reading it: %w", settlement.ErrUnknown, err, lerr)
			}
			// Under this lease nobody else writes, so the next revision is ours.
			if errors.Is(err, sqldb.ErrUnknown) && revision == before+1 {
				err = nil
			} else if try < maxLost {
				continue
			}
		} else if err == nil {
			s.revision++
		}
		if err == nil {
			s.written = start
		}
		return err
	}
}

// look reads the revision, after whoever is still writing the row has ended. It
// goes on trying for the time of a lease: a server that starts again answers
// then, and the caller's context may have ended in the write.
func (s *Store) look(ctx context.Context) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Lease)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if revision, err = s.lookOnce(ctx); err == nil {
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

func (s *Store) lookOnce(ctx context.Context) (revision int64, err error) {
	err = sqldb.Run(ctx, s.db, s.opts.Lease, func(tx *sql.Tx) error {
		row, err := scanState(tx.QueryRowContext(ctx, selectState+` FOR UPDATE`))
		if err != nil {
			return err
		}
		revision = row.revision
		return s.lease.Check(settlement.Lease{Epoch: uint64(row.epoch), Holder: row.holder})
	})
	return revision, err
}

// write is one transaction. It returns errStale when the row is another one.
func (s *Store) write(ctx context.Context, c settlement.Change) error {
	args := append([]any{s.opts.Lease.Microseconds(), int64(s.lease.Epoch), sqldb.Text(s.lease.Holder), s.revision},
		stateArgs(s.revision+1, c.State)...)
	if len(c.Put) == 0 && len(c.Drop) == 0 {
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
		if err := putFailures(ctx, tx, c.Put); err != nil {
			return err
		}
		return dropFailures(ctx, tx, c.Drop)
	})
}
