package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"testing"
	"time"
)

// fake is a database whose commits, and statements outside of a transaction,
// call commit.
type fake struct{ commit func() error }

func (f fake) Connect(context.Context) (driver.Conn, error) { return &fakeConn{f, false}, nil }
func (f fake) Driver() driver.Driver                        { return nil }

type fakeConn struct {
	fake
	inTx bool
}

func (c *fakeConn) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }
func (c *fakeConn) Close() error                        { return nil }
func (c *fakeConn) Begin() (driver.Tx, error)           { c.inTx = true; return c, nil }
func (c *fakeConn) Rollback() error                     { c.inTx = false; return nil }
func (c *fakeConn) Commit() error                       { c.inTx = false; return c.commit() }

func (c *fakeConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	if c.inTx {
		return driver.RowsAffected(1), nil
	}
	return driver.RowsAffected(1), c.commit()
}

// A write whose context ends while it is in flight is unknown, whatever the
// answer; one whose context had ended before was not tried.
func TestContextEndsInCommit(t *testing.T) {
	for name, answer := range map[string]error{"success": nil, "lost": io.ErrUnexpectedEOF, "cancelled": context.Canceled} {
		for call, do := range map[string]func(context.Context, *sql.DB) error{
			"Run": func(ctx context.Context, db *sql.DB) error {
				return Run(ctx, db, Idle, func(*sql.Tx) error { return nil })
			},
			"Exec": func(ctx context.Context, db *sql.DB) error { _, err := Exec(ctx, db, Idle, ``); return err },
		} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			db := sql.OpenDB(fake{func() error { cancel(); return answer }})
			defer db.Close()
			if err := do(ctx, db); !errors.Is(err, ErrUnknown) {
				t.Errorf("%s: %s: %v", name, call, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	db := sql.OpenDB(fake{func() error { t.Error("tried"); return nil }})
	defer db.Close()
	err := Run(ctx, db, Idle, func(*sql.Tx) error { cancel(); return nil })
	_, eerr := Exec(ctx, db, Idle, ``)
	if err != context.Canceled || eerr != context.Canceled {
		t.Errorf("Run: %v, Exec: %v", err, eerr)
	}
}

// A time limit that the driver has of its own is a failure as any other: the
// context lives.
func TestForeignDeadline(t *testing.T) {
	db := sql.OpenDB(fake{func() error { return context.DeadlineExceeded }})
	defer db.Close()
	tries := 0
	err := Run(t.Context(), db, Idle, func(*sql.Tx) error { tries++; return nil })
	if !errors.Is(err, ErrUnknown) || tries != 1 {
		t.Errorf("%v after %d tries", err, tries)
	}
}

// A statement that could not be sent has done nothing: another connection is
// taken, and without one the answer is no unknown outcome.
func TestNothingSent(t *testing.T) {
	tries := 0
	db := sql.OpenDB(fake{func() error {
		if tries++; tries < 3 {
			return driver.ErrBadConn
		}
		return nil
	}})
	defer db.Close()
	if n, err := Exec(t.Context(), db, Idle, ``); n != 1 || err != nil || tries != 3 {
		t.Errorf("%d, %v after %d tries", n, err, tries)
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := Exec(ctx, db, Idle, ``); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnknown) {
		t.Errorf("with a full pool: %v", err)
	}
}
