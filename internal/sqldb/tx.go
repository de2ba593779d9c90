package sqldb

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"strconv"
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
// idle bounds how long the server keeps the locks of a process that is paused
// between two statements; Idle will do.
//
// The error is that of ctx, ErrUnknown, ErrClosed, that of f, or the driver's.
// Unless it is ErrUnknown, nothing was written.
func Run(ctx context.Context, db *sql.DB, idle time.Duration, f func(*sql.Tx) error) error {
	for try := 0; ; try++ {
		err := once(ctx, db, idle, f)
		if !retryable(err) || try == maxTries {
			return Translate(ctx, err)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

func once(ctx context.Context, db *sql.DB, idle time.Duration, f func(*sql.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after a commit
	if _, err := tx.ExecContext(ctx, `SELECT set_config('idle_in_transaction_session_timeout', $1, true)`,
		strconv.FormatInt(max(idle.Milliseconds(), 1), 10)); err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return Outcome(tx.Commit())
}

// Exec runs one statement that commits by itself, and returns the number of
// rows it changed. Tries and errors are those of Run.
func Exec(ctx context.Context, db *sql.DB, query string, args ...any) (n int64, err error) {
	err = alone(ctx, func() error {
		res, err := db.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}

// QueryRow is Exec for a statement that writes and returns a row.
func QueryRow(ctx context.Context, db *sql.DB, dest []any, query string, args ...any) error {
	return alone(ctx, func() error { return db.QueryRowContext(ctx, query, args...).Scan(dest...) })
}

func alone(ctx context.Context, f func() error) error {
	for try := 0; ; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := Outcome(f())
		if !retryable(err) || try == maxTries {
			return Translate(ctx, err)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
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
