package postgrestest

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriersql"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptsql"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
)

// configure sets what the server reads from its file. It takes effect at once.
func configure(t *testing.T, db *sql.DB, assignments ...string) {
	t.Helper()
	for _, a := range assignments {
		run(t, db, `ALTER SYSTEM SET `+a)
	}
	run(t, db, `SELECT pg_reload_conf()`)
}

// A server with synchronous_commit=off answers before a commit is durable, and a
// crash takes it. Each of our commits asks for more.
func TestCommitsAreDurable(t *testing.T) {
	s, schema := Start(t), newSchema()
	ctx, db := t.Context(), openDB(t, s, schema)
	configure(t, db, `synchronous_commit = off`, `wal_writer_delay = '10s'`)
	await(t, db, 1, `SELECT CASE WHEN current_setting('synchronous_commit') = 'off' THEN 1 ELSE 0 END`)
	if err := couriersql.Migrate(ctx, db); err != nil {
		t.Fatal(err)
	}
	m, err := openMarket(ctx, db, &settlementsql.StoreOptions{Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	c, err := couriersql.New(ctx, db, nil)
	if err != nil {
		t.Fatal(err)
	}
	var lease settlement.Lease
	var state settlement.State
	var sent courier.Receipt
	// After each call the server is killed and started again.
	for _, call := range []struct {
		name string
		do   func() error
		kept func() error
	}{
		{"Append", func() error { _, err := m.receipts.Append(ctx, []receipt.Receipt{numbered(1)}); return err },
			func() error { _, err := m.receipts.Get(ctx, numbered(1).Key); return err }},
		{"Post of two", func() error {
			return posted(m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(0, "a"), issue(1, "b")}))
		},
			func() error { return there(m.ledger.Transfer(ctx, issue(1, "b").ID)) }},
		{"Post", func() error {
			return posted(m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(2, "a")}))
		},
			func() error { return there(m.ledger.Transfer(ctx, issue(2, "a").ID)) }},
		{"Acquire", func() (err error) { lease, state, err = m.store.Acquire(ctx); return err },
			func() error { return m.store.Save(ctx, lease, settlement.Change{State: state}) }}, // ErrFenced if the epoch is gone
		{"Save", func() error { state.Cursor = 77; return m.store.Save(ctx, lease, settlement.Change{State: state}) },
			func() error { return cursorIs(db, "77") }},
		{"Save with a failure", func() error {
			return m.store.Save(ctx, lease, settlement.Change{State: state, Put: []settlement.Failure{failed(1)}})
		},
			func() error {
				for _, err := range m.store.Failures(ctx, 1) {
					return err
				}
				return settlement.ErrNotArchived
			}},
		{"courier.Append", func() (err error) {
			sent, err = c.Append(ctx, courier.Receipt{ID: courier.ID{1}, Sender: "a", SentAt: issued})
			return err
		}, func() error { _, err := c.Get(ctx, courier.ID{1}); return err }},
		{"courier.Move", func() error { _, err := c.Move(ctx, []courier.Move{{Receipt: sent, To: courier.Gone}}); return err },
			func() error {
				if _, err := c.Get(ctx, courier.ID{1}); !errors.Is(err, courier.ErrNotFound) {
					return errors.New("it is there again")
				}
				return nil
			}},
	} {
		if err := call.do(); err != nil {
			t.Fatalf("%s: %v", call.name, err)
		}
		s.Kill()
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		db.SetMaxIdleConns(0) // the pool forgets its dead connections
		db.SetMaxIdleConns(2)
		if err := call.kept(); err != nil {
			t.Errorf("%s, after a crash: %v", call.name, err)
		}
	}
}

func there(_ settlement.Transfer, ok bool, err error) error {
	if err == nil && !ok {
		err = errors.New("it is gone")
	}
	return err
}

func cursorIs(db *sql.DB, want string) error {
	var got string
	err := db.QueryRow(`SELECT log_cursor FROM settlement_state`).Scan(&got)
	if err == nil && got != want {
		err = errors.New("the cursor is " + got)
	}
	return err
}

// What no transaction can make up for is refused, unless the caller says so.
func TestUnsafeServer(t *testing.T) {
	ctx, s := t.Context(), Start(t)
	db := openDB(t, s, newSchema())
	opens := map[string]struct {
		open func(unsafe bool) error
		want error
	}{
		"receiptsql.New": {func(unsafe bool) error {
			_, err := receiptsql.New(ctx, db, &receiptsql.Options{UnsafeServer: unsafe})
			return err
		}, receiptsql.ErrUnsafe},
		"settlementsql.NewStore": {func(unsafe bool) error {
			_, err := settlementsql.NewStore(ctx, db, &settlementsql.StoreOptions{UnsafeServer: unsafe})
			return err
		}, settlementsql.ErrUnsafe},
		"settlementsql.NewLedger": {func(unsafe bool) error {
			_, err := settlementsql.NewLedger(ctx, db, &settlementsql.LedgerOptions{UnsafeServer: unsafe})
			return err
		}, settlementsql.ErrUnsafe},
		"couriersql.New": {func(unsafe bool) error {
			_, err := couriersql.New(ctx, db, &couriersql.Options{UnsafeServer: unsafe})
			return err
		}, couriersql.ErrUnsafe},
	}
	for _, c := range components {
		if err := c.migrate(ctx, db); err != nil {
			t.Fatal(err)
		}
	}
	for _, setting := range []string{"fsync", "full_page_writes"} {
		configure(t, db, setting+` = off`)
		await(t, db, 1, `SELECT CASE WHEN current_setting('`+setting+`') = 'off' THEN 1 ELSE 0 END`)
		for name, c := range opens {
			if err := c.open(false); !errors.Is(err, c.want) {
				t.Errorf("%s with %s off: %v", name, setting, err)
			}
			if err := c.open(true); err != nil {
				t.Errorf("%s with %s off and UnsafeServer: %v", name, setting, err)
			}
		}
		configure(t, db, setting+` = on`)
		await(t, db, 1, `SELECT CASE WHEN current_setting('`+setting+`') = 'on' THEN 1 ELSE 0 END`)
	}
}

// Without a database there is nothing to open.
func TestNilDatabase(t *testing.T) {
	ctx := context.Background()
	_, err1 := receiptsql.New(ctx, nil, nil)
	_, err2 := settlementsql.NewStore(ctx, nil, nil)
	_, err3 := settlementsql.NewLedger(ctx, nil, nil)
	_, err4 := couriersql.New(ctx, nil, nil)
	for _, c := range []struct{ got, want error }{
		{err1, receipt.ErrOptions}, {receiptsql.Migrate(ctx, nil), receipt.ErrOptions},
		{err2, settlement.ErrOptions}, {err3, settlement.ErrOptions}, {settlementsql.Migrate(ctx, nil), settlement.ErrOptions},
		{err4, courier.ErrOptions}, {couriersql.Migrate(ctx, nil), courier.ErrOptions},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}
