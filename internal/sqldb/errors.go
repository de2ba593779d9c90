package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"

	"github.com/computemarket/computemarket/internal/fault"
)

var (
	// ErrUnknown: a commit was sent, and no answer came that settles it.
	ErrUnknown = fault.ErrUnknown
	// ErrClosed: the sql.DB has been closed.
	ErrClosed = fault.ErrClosed
	// ErrSchema: a newer release made the tables.
	ErrSchema = fault.ErrSchema
	// ErrMigrate: the tables are missing, or older than this release.
	ErrMigrate = fault.ErrMigrate
	// ErrAgain: returned by the function given to [Run], to roll back and begin
	// again.
	ErrAgain = errors.New("sql: busy")
	// ErrCorrupt: a row holds what no release of this library writes.
	ErrCorrupt = fault.ErrCorrupt
	// ErrOptions: there is no sql.DB.
	ErrOptions = fault.ErrOptions
	// ErrUnsafe: the server is set up to lose what it has acknowledged.
	ErrUnsafe = fault.ErrUnsafe
)

// State returns the SQLSTATE of an error that a server sent, and "" for others.
func State(err error) string {
	type stater interface {
		error
		SQLState() string
	}
	if s, ok := errors.AsType[stater](err); ok {
		return s.SQLState()
	}
	return ""
}

// retryable: a serialization failure, a deadlock, or ErrAgain. In all of them
// the transaction has been rolled back.
func retryable(err error) bool {
	switch State(err) {
	case "40001", "40P01":
		return !errors.Is(err, ErrUnknown)
	}
	return errors.Is(err, ErrAgain)
}

// ofSettings reports whether the server refused a statement for what a
// transaction of [Run] is free of: another isolation, read-only, a timeout of
// the server, the database or the role. A caller who cancels is answered with
// the SQLSTATE of a timeout too.
func ofSettings(ctx context.Context, err error) bool {
	switch State(err) {
	case "40001", "40P01", "25006", "25P03", "55P03", "57P05":
		return true
	case "57014":
		return ctx.Err() == nil
	}
	return false
}

// refused reports whether the error is a server's word that a commit, or a
// statement outside a transaction, did nothing. A server that shuts down, runs
// out of disk or panics may say so after the commit has become durable.
func refused(err error) bool {
	state := State(err)
	if len(state) != 5 || state == "40003" {
		return false
	}
	switch state[:2] {
	case "0A", "22", "23", "25", "26", "28", "3D", "3F", "40", "42", "55":
		return true
	}
	return state == "57014" || // cancelled, by a timeout for example
		state == "57P05" // the connection was closed, being idle, before the statement came
}

// Outcome gives the error of a commit, or of a statement that commits by
// itself, its meaning: ErrUnknown unless the server refused it.
func Outcome(err error) error {
	if err == nil || refused(err) || errors.Is(err, ErrClosed) || errors.Is(err, closedError()) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// settled is Outcome for a call that ctx bounds. When ctx has ended, success is
// not known either: a server that is told to stop waiting for its standby
// servers answers with success too.
func settled(ctx context.Context, err error) error {
	if err == nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
	return Outcome(err)
}

// Translate maps what happened to the caller's context and to the sql.DB to
// errors that can be told apart.
func Translate(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, ErrUnknown):
		return err
	case errors.Is(err, closedError()):
		return ErrClosed
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// closedError is the error that database/sql gives after Close and does not
// export.
var closedError = sync.OnceValue(func() error {
	db := sql.OpenDB(noConnector{})
	db.Close()
	return db.Ping()
})

type noConnector struct{}

func (noConnector) Connect(context.Context) (driver.Conn, error) { return nil, driver.ErrBadConn }
func (noConnector) Driver() driver.Driver                        { return nil }
