package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Idle is how long a transaction may do nothing, unless its user says otherwise.
const Idle = 10 * time.Second

const (
	maxTries   = 12
	firstPause = time.Millisecond
	maxPause   = 250 * time.Millisecond
)

// Run calls f in a transaction and commits it, when f returns nil. The
// transaction sees what others have committed before each of its statements, so
// f locks what it compares. After a serialization failure, a deadlock or
// ErrAgain it is rolled back and f is called again, a bounded number of times
// and ever later.
//
// What the server, the database or the role have for defaults does not count:
// see [begin]. idle bounds how long the server keeps the locks of a process that
// is paused between two statements; Idle will do.
//
// The error is that of ctx, ErrUnknown, ErrClosed, that of f, or the driver's.
// Unless it is ErrUnknown, nothing was written.
func Run(ctx context.Context, db *sql.DB, idle time.Duration, f func(*sql.Tx) error) error {
	return again(ctx, func() error {
		tx, err := begin(ctx, db, readWrite, idle)
		if err != nil {
			return err
		}
		defer tx.Rollback() // does nothing after a commit
		if err := f(tx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return settled(ctx, tx.Commit())
	})
}

// again calls try until its error is none that another try may cure.
func again(ctx context.Context, try func() error) error {
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := try()
		if !retryable(err) || n == maxTries {
			return Translate(ctx, err)
		}
		if err := pause(ctx, n); err != nil {
			return err
		}
	}
}

const (
	readWrite = "READ WRITE"
	readOnly  = "READ ONLY"
)

// begin opens a transaction that owes nothing to the defaults of the server, the
// database or the role. It is READ COMMITTED; only its context and idle bound
// it; and its commit is durable: synchronous_commit=off becomes on, while
// whatever is stricter stays as it is. An Exec without arguments may hold many
// statements, so all of it is one message.
func begin(ctx context.Context, db *sql.DB, access string, idle time.Duration) (*sql.Tx, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, undone(ctx, err)
	}
	millis := min(max(idle.Milliseconds(), 1), math.MaxInt32)
	_, err = tx.ExecContext(ctx, fmt.Sprintf(`SET TRANSACTION ISOLATION LEVEL READ COMMITTED, %s;
		SET LOCAL statement_timeout = 0;
		SET LOCAL lock_timeout = 0;
		SET LOCAL idle_in_transaction_session_timeout = %d;
		%s`, access, millis, setDurable))
	if err == nil {
		return tx, nil
	}
	tx.Rollback()
	return nil, undone(ctx, err)
}

// undone lets a transaction begin again that the settings stopped while they
// still held. That it cannot write on a replica is no matter of settings.
func undone(ctx context.Context, err error) error {
	if ofSettings(ctx, err) && State(err) != "25006" {
		return fmt.Errorf("%w: %w", ErrAgain, err)
	}
	return err
}

const setDurable = `SELECT set_config('synchronous_commit',
		CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`

// Durable is a part of a WITH list, for a statement that commits by itself. The
// statement has to name the table durable, which has one row; then its commit is
// as durable as one of [Run].
const Durable = `durable AS (` + setDurable + ` AS synchronous_commit)`

// Exec runs one statement that commits by itself, and returns the number of
// rows it changed. The statement holds [Durable]. Should the settings of the
// server make it fail, it runs once more as [Run] does, whose errors it has.
func Exec(ctx context.Context, db *sql.DB, idle time.Duration, query string, args ...any) (n int64, err error) {
	err = alone(ctx, db, idle, func(q Querier) error {
		res, err := q.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}

// QueryRow is Exec for a statement that writes and returns a row.
func QueryRow(ctx context.Context, db *sql.DB, idle time.Duration, dest []any, query string, args ...any) error {
	return alone(ctx, db, idle, func(q Querier) error {
		return q.QueryRowContext(ctx, query, args...).Scan(dest...)
	})
}

// alone spares the two messages of a transaction where none is needed. That no
// connection was to be had, or that it was dead before the statement was sent,
// is known to have done nothing.
func alone(ctx context.Context, db *sql.DB, idle time.Duration, f func(Querier) error) error {
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		conn, err := db.Conn(ctx)
		if err != nil {
			return Translate(ctx, err)
		}
		err = f(conn)
		conn.Close()
		if errors.Is(err, driver.ErrBadConn) && n < maxTries {
			continue
		}
		err = settled(ctx, err)
		if ofSettings(ctx, err) {
			return Run(ctx, db, idle, func(tx *sql.Tx) error { return f(tx) })
		}
		return Translate(ctx, err)
	}
}

// pause waits half of a doubling time, and up to as much again by chance, so
// that those who collided do not collide again.
func pause(ctx context.Context, try int) error {
	d := min(firstPause<<try, maxPause)
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
