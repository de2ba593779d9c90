package postgrestest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriersql"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptsql"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
)

// settings are what an operator may have set for a server, a database or a role.
var settings = []struct{ name, value string }{
	{"statement_timeout", "1"},
	{"lock_timeout", "1"},
	{"idle_in_transaction_session_timeout", "5"},
	{"default_transaction_isolation", "'repeatable read'"},
	{"default_transaction_isolation", "serializable"},
	{"default_transaction_read_only", "on"},
	{"default_transaction_deferrable", "on"},
	{"synchronous_commit", "off"},
	{"synchronous_commit", "local"},
	{"synchronous_commit", "remote_apply"},
	{"bytea_output", "escape"},
	{"datestyle", "'SQL, DMY'"},
	{"timezone", "'Asia/Kathmandu'"},
	{"standard_conforming_strings", "off"},
	{"transform_null_equals", "on"},
	{"plan_cache_mode", "force_generic_plan"},
	{"enable_indexscan", "off"},
}

// TestSettings makes every call of every store with each setting of a role, and
// with all timeouts and isolations of a database at once.
func TestSettings(t *testing.T) {
	s := sharedServer(t)
	admin := openDB(t, s, newSchema())
	for _, c := range settings {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			role := "role_" + newSchema()
			run(t, admin, `CREATE ROLE `+role+` LOGIN SUPERUSER`, `ALTER ROLE `+role+` SET `+c.name+` = `+c.value)
			schema := newSchema()
			openDB(t, s, schema)
			exercised(t, strings.Replace(s.URL(schema), "market@", role+"@", 1))
		})
	}
	t.Run("database", func(t *testing.T) {
		name := "strict_" + newSchema()
		run(t, admin, `CREATE DATABASE `+name)
		url := strings.Replace(s.URL(""), "/postgres?", "/"+name+"?", 1)
		for i, c := range settings {
			if i < 8 {
				run(t, admin, `ALTER DATABASE `+name+` SET `+c.name+` = `+c.value)
			}
		}
		exercised(t, url)
	})
}

func exercised(t *testing.T, url string) {
	t.Helper()
	db, err := connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := exercise(t.Context(), db, 3); err != nil {
		t.Error(err)
	}
}

// exercise makes every call of every store on new tables: those that read from
// the body of a loop over each iterator too. The iterators have n values.
func exercise(ctx context.Context, db *sql.DB, n int) error {
	m, err := openMarket(ctx, db, &settlementsql.StoreOptions{Lease: time.Minute})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := couriersql.Migrate(ctx, db); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	c, err := couriersql.New(ctx, db, nil)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	e := &exerciser{m, c, n, 0}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"receipts", e.receipts}, {"ledger", e.ledger}, {"state", e.state}, {"courier", e.courier}} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if err := e.calls(ctx); err != nil {
		return err
	}
	return e.loops(ctx)
}

type exerciser struct {
	*market
	bundles *couriersql.Store
	n       int
	count   int
}

func (e *exerciser) receipts(ctx context.Context) error {
	rs := make([]receipt.Receipt, e.n)
	for i := range rs {
		rs[i] = numbered(i)
		rs[i].DryRun = i == 0
	}
	if _, err := e.market.receipts.Append(ctx, rs); err != nil {
		return err
	}
	statuses, err := e.market.receipts.Append(ctx, []receipt.Receipt{numbered(0), numbered(1)})
	if err == nil && (statuses[0] != receipt.Inserted || statuses[1] != receipt.Duplicate) {
		err = fmt.Errorf("%v", statuses)
	}
	return err
}

func (e *exerciser) ledger(ctx context.Context) error {
	ts := []settlement.Transfer{{ID: settlement.ID{9}, From: "issuer", To: "buyer", Amount: 1 << 20}}
	for i := range e.n {
		id := settlement.ID{8, byte(i), byte(i >> 8)}
		ts = append(ts, settlement.Transfer{ID: id, From: "issuer", To: fmt.Sprintf("account-%d", i), Amount: 1})
	}
	_, err1 := e.market.ledger.Post(ctx, settlement.Lease{}, ts)
	_, err2 := e.market.ledger.Post(ctx, settlement.Lease{}, ts) // each of them is looked at
	_, err3 := e.engine.Settle(ctx)
	return errors.Join(err1, err2, err3)
}

func (e *exerciser) state(ctx context.Context) error {
	lease, state, err := e.store.Acquire(ctx)
	if err != nil {
		return err
	}
	put := make([]settlement.Failure, e.n)
	for i := range put {
		put[i] = failed(i + 1)
	}
	return errors.Join(
		e.store.Save(ctx, lease, settlement.Change{State: state, Put: put}),
		e.store.Save(ctx, lease, settlement.Change{State: state, Drop: []uint64{1 << 40}}),
		e.store.Save(ctx, lease, settlement.Change{State: state}),
		e.store.Advance(ctx, lease, state))
}

func (e *exerciser) courier(ctx context.Context) error {
	for i := range e.n {
		if _, err := e.send(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (e *exerciser) send(ctx context.Context, i int) (courier.Receipt, error) {
	id := courier.ID{byte(i), byte(i >> 8), byte(i >> 16)}
	return e.bundles.Append(ctx, courier.Receipt{ID: id, Sender: "a", SentAt: issued, Carried: true})
}

// calls makes every call once.
func (e *exerciser) calls(ctx context.Context) error {
	e.count++
	i := 1<<20 + e.count
	r, l, st, b := e.market.receipts, e.market.ledger, e.store, e.bundles
	sent, err := e.send(ctx, i)
	if err != nil {
		return fmt.Errorf("courier.Append: %w", err)
	}
	id := func(kind int) settlement.ID { return settlement.ID{7, byte(kind), byte(i), byte(i >> 8)} }
	for _, call := range []struct {
		name string
		do   func() error
	}{
		{"Append", func() error { _, err := r.Append(ctx, []receipt.Receipt{numbered(i), numbered(1)}); return err }},
		{"Get", func() error { _, err := r.Get(ctx, numbered(i).Key); return err }},
		{"Post", func() error {
			return posted(l.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: id(1), From: "buyer", To: "account-1", Amount: 1}}))
		}},
		{"Post of two", func() error {
			return posted(l.Post(ctx, settlement.Lease{}, []settlement.Transfer{
				{ID: id(2), From: "buyer", To: "account-1", Amount: 1}, {ID: id(3), From: "account-1", To: "buyer", Amount: 1},
			}))
		}},
		{"Post again", func() error {
			return posted(l.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: id(1), From: "buyer", To: "account-1", Amount: 1}}))
		}},
		{"Balance", func() error { _, err := l.Balance(ctx, "buyer"); return err }},
		{"Transfer", func() error { _, _, err := l.Transfer(ctx, id(1)); return err }},
		{"Check", func() error { return l.Check(ctx) }},
		{"Load", func() error { _, _, err := st.Load(ctx); return err }},
		{"Failures", func() error {
			for _, err := range st.Failures(ctx, 2) {
				return err
			}
			return settlement.ErrNotArchived
		}},
		{"courier.Get", func() error { _, err := b.Get(ctx, sent.ID); return err }},
		{"courier.Count", func() error { _, err := b.Count(ctx); return err }},
		{"courier.Needs", func() error { _, err := b.Needs(ctx, sent.Bundle); return err }},
		{"courier.Move", func() error {
			_, err := b.Move(ctx, []courier.Move{{Receipt: sent, To: courier.Acknowledged, At: issued}})
			return err
		}},
		{"courier.Move out", func() error {
			sent.State = courier.Acknowledged
			n, err := b.Move(ctx, []courier.Move{{Receipt: sent, To: courier.Gone}})
			if err == nil && n != 1 {
				err = fmt.Errorf("%d moved", n)
			}
			return err
		}},
	} {
		if err := call.do(); err != nil {
			return fmt.Errorf("%s: %w", call.name, err)
		}
	}
	return nil
}

// loops makes every call from the body of a loop over each iterator, at its
// beginning, in its middle and at its end.
func (e *exerciser) loops(ctx context.Context) error {
	for _, loop := range []struct {
		name string
		over func(body func() error) error
	}{
		{"After", func(body func() error) error {
			for _, err := range e.market.receipts.After(ctx, 0) {
				if err := errors.Join(err, body()); err != nil {
					return err
				}
			}
			return nil
		}},
		{"Accounts", func(body func() error) error {
			for _, err := range e.market.ledger.Accounts(ctx) {
				if err := errors.Join(err, body()); err != nil {
					return err
				}
			}
			return nil
		}},
		{"Failures", func(body func() error) error {
			for _, err := range e.store.Failures(ctx, 0) {
				if err := errors.Join(err, body()); err != nil {
					return err
				}
			}
			return nil
		}},
		{"List", func(body func() error) error {
			for _, err := range e.bundles.List(ctx, courier.Pending, 0) {
				if err := errors.Join(err, body()); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		at := 0
		err := loop.over(func() error {
			if at++; at == 1 || at == e.n/2 || at == e.n {
				return e.calls(ctx)
			}
			return nil
		})
		if err == nil && at < e.n {
			err = fmt.Errorf("only %d values", at)
		}
		if err != nil {
			return fmt.Errorf("in a loop over %s, at %d: %w", loop.name, at, err)
		}
	}
	return nil
}

// The timeouts of a role end no call that waits for a lock: its context does.
func TestWaitsInSpiteOfTimeouts(t *testing.T) {
	ctx, s, schema := t.Context(), sharedServer(t), newSchema()
	admin := openDB(t, s, schema)
	m, err := openMarket(ctx, admin, nil)
	if err == nil {
		err = couriersql.Migrate(ctx, admin)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(0, "a"), issue(1, "b")}); err != nil {
		t.Fatal(err)
	}
	db, err := connect(s.URL(schema) + "&statement_timeout=5&lock_timeout=5&idle_in_transaction_session_timeout=500")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r, err1 := receiptsql.New(ctx, db, nil)
	l, err2 := settlementsql.NewLedger(ctx, db, nil)
	c, err3 := couriersql.New(ctx, db, nil)
	tx, err4 := admin.Begin()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for _, table := range []string{"receipt_log", "ledger_accounts", "courier_log"} {
		if _, err := tx.Exec(`SELECT * FROM ` + table + ` FOR UPDATE`); err != nil {
			t.Fatal(err)
		}
	}
	limit, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	if _, err := r.Append(limit, []receipt.Receipt{numbered(9)}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, receipt.ErrUnknown) {
		t.Errorf("Append with a time limit: %v", err)
	}
	calls := []func() error{
		func() error { _, err := r.Append(ctx, []receipt.Receipt{numbered(1)}); return err },
		func() error { return posted(l.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(2, "a")})) },
		func() error {
			return posted(l.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(3, "a"), issue(4, "b")}))
		},
		func() error {
			_, err := c.Append(ctx, courier.Receipt{ID: courier.ID{1}, Sender: "a", SentAt: issued})
			return err
		},
	}
	answers := make(chan error)
	for _, call := range calls {
		go func() { answers <- call() }()
	}
	await(t, admin, len(calls), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
		AND query_start < clock_timestamp() - INTERVAL '50 milliseconds' AND datname = current_database()
		AND pid IN (SELECT pid FROM pg_locks WHERE NOT granted)`)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	for range calls {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}

// await asks until the answer is at least n.
func await(t *testing.T, db *sql.DB, n int, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for got := 0; got < n; {
		if err := db.QueryRowContext(ctx, query).Scan(&got); err != nil {
			t.Fatalf("%d of %d: %v", got, n, err)
		}
	}
}
