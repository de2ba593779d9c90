package postgrestest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptsql"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

// rewriter is pgx, with one piece of SQL replaced by another: a planted bug.
type rewriter struct {
	url, old, new string
	times         atomic.Int64
}

func (r *rewriter) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

func (r *rewriter) Connect(context.Context) (driver.Conn, error) {
	c, err := stdlib.GetDefaultDriver().Open(r.url)
	if err != nil {
		return nil, err
	}
	return &rewritten{c.(*stdlib.Conn), r}, nil
}

type rewritten struct {
	*stdlib.Conn
	r *rewriter
}

func (c *rewritten) rewrite(query string) string {
	changed := strings.ReplaceAll(query, c.r.old, c.r.new)
	if changed != query {
		c.r.times.Add(1)
	}
	return changed
}

func (c *rewritten) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.ExecContext(ctx, c.rewrite(query), args)
}

func (c *rewritten) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.QueryContext(ctx, c.rewrite(query), args)
}

// planted returns a pool with the bug on a schema that is there.
func planted(t *testing.T, s *Server, schema, old, new string) (*sql.DB, *rewriter) {
	r := &rewriter{url: s.URL(schema), old: old, new: new}
	db := sql.OpenDB(r)
	t.Cleanup(func() { db.Close() })
	return db, r
}

func TestReceiptSuiteCatches(t *testing.T) {
	for name, c := range map[string]struct{ clause, old, new string }{
		"no look for a key":        {"Duplicate", "ON CONFLICT (receipt_key) WHERE superseded_by IS NULL DO NOTHING", ""},
		"dry runs are real":        {"Promotion", "v.issued_at_nanos, v.dry_run", "v.issued_at_nanos, FALSE"},
		"ignores the cursor":       {"InsertGetAfter", "WHERE seq >= $1 AND", "WHERE seq >= 0 * $1 AND"},
		"numbers twice":            {"InsertGetAfter", "last_seq = last_seq + $11", "last_seq = last_seq + $11 - $11"},
		"loses the order":          {"LargeBatch", "ORDER BY seq LIMIT", "ORDER BY receipt_key LIMIT"},
		"shows both places":        {"Promotion", "AND (superseded_by IS NULL OR r.", "AND (TRUE OR r."},
		"stops at one page":        {"LargeBatch", "seq > $1 AND seq <= $2", "seq > $1 AND seq < $1 AND seq <= $2"},
		"keeps whole microseconds": {"InsertGetAfter", "v.issued_at, v.issued_at_nanos", "v.issued_at, 0 * v.issued_at_nanos"},
	} {
		t.Run(name, func(t *testing.T) {
			s, prefix := sharedServer(t), newSchema()
			var rewrites int64
			err := clauseOf(t, receipttest.Clauses(), c.clause, func(c receipttest.Clause) string { return c.Name }).
				Check(t.Context(), func(name string) (receipt.Store, error) {
					schema := schemaOf(prefix, name)
					if err := receiptsql.Migrate(t.Context(), openDB(t, s, schema)); err != nil {
						t.Fatal(err)
					}
					db, r := planted(t, s, schema, c.old, c.new)
					store, err := receiptsql.New(t.Context(), db, nil)
					return countingReceipts{closingReceipts{store, db, new(receipttest.Counter)}, r, &rewrites}, err
				})
			wantCaught(t, err, rewrites)
		})
	}
}

// countingReceipts tells at the end how often the bug was planted.
type countingReceipts struct {
	closingReceipts
	r *rewriter
	n *int64
}

func (c countingReceipts) Close() error {
	*c.n += c.r.times.Load()
	return c.closingReceipts.Close()
}

func wantCaught(t *testing.T, err error, rewrites int64) {
	t.Helper()
	if rewrites == 0 {
		t.Fatal("the SQL that the bug replaces is gone")
	}
	if err == nil {
		t.Error("the clause passes")
	}
}

func clauseOf[C any](t *testing.T, all []C, name string, nameOf func(C) string) C {
	t.Helper()
	i := slices.IndexFunc(all, func(c C) bool { return nameOf(c) == name })
	if i < 0 {
		t.Fatalf("no clause %s", name)
	}
	return all[i]
}

func TestLedgerSuiteCatches(t *testing.T) {
	for name, c := range map[string]struct{ clause, old, new string }{
		"an id twice is an error":    {"OncePerID", "ON CONFLICT (id) DO NOTHING", ""},
		"one: debit without credit":  {"IssueTransferBurn", "ELSE CAST($8 AS BIGINT) END", "ELSE CAST($8 AS BIGINT) * 0 END"},
		"one: moves before it looks": {"OncePerID", "AND (SELECT count(*) FROM moved) = 1", "AND (SELECT count(*) FROM moved) >= 0"},
		"each: no balances":          {"StopsAtFirstFailure", "SET balance = v.balance", "SET balance = a.balance"},
		"order of the locale":        {"AccountsInOrder", "<> $1 ORDER BY name", "<> $1 ORDER BY name DESC"},
		"shows the issuer":           {"IssueTransferBurn", "WHERE name <> $1", "WHERE name <> $1 || 'x'"},
	} {
		t.Run(name, func(t *testing.T) {
			s, prefix := sharedServer(t), newSchema()
			var rewriters []*rewriter
			err := clauseOf(t, settlementtest.LedgerClauses(), c.clause, func(c settlementtest.Clause[settlement.Ledger]) string { return c.Name }).
				Check(t.Context(), func(name string) (settlement.Ledger, error) {
					schema := schemaOf(prefix, name)
					if _, err := migrated(t, s, schema); err != nil {
						t.Fatal(err)
					}
					db, r := planted(t, s, schema, c.old, c.new)
					rewriters = append(rewriters, r)
					l, err := settlementsql.NewLedger(t.Context(), db, nil)
					return closingLedger{l, db}, err
				})
			wantCaught(t, err, sum(rewriters))
		})
	}
}

func sum(rewriters []*rewriter) (n int64) {
	for _, r := range rewriters {
		n += r.times.Load()
	}
	return n
}

func TestStoreSuiteCatches(t *testing.T) {
	for name, c := range map[string]struct{ clause, old, new string }{
		"archive lost":       {"SaveTogether", "AS v\n\t\tON CONFLICT (seq)", "AS v WHERE FALSE\n\t\tON CONFLICT (seq)"},
		"mode lost":          {"SaveTogether", "state = $5, mode = $6,", "state = CASE WHEN $5 = '' THEN '' ELSE '' END, mode = CASE WHEN $6 = '' THEN '' ELSE 'dry_run' END,"},
		"nothing is dropped": {"Archive", "DELETE FROM settlement_failures WHERE", "DELETE FROM settlement_failures WHERE FALSE AND"},
		"epochs stay":        {"Fenced", "epoch = $14,", "epoch = $14 - 1,"},
	} {
		t.Run(name, func(t *testing.T) {
			s, prefix := sharedServer(t), newSchema()
			var rewriters []*rewriter
			err := clauseOf(t, settlementtest.StoreClauses(), c.clause, func(c settlementtest.Clause[settlement.Store]) string { return c.Name }).
				Check(t.Context(), func(name string) (settlement.Store, error) {
					schema := schemaOf(prefix, name)
					if _, err := migrated(t, s, schema); err != nil {
						t.Fatal(err)
					}
					db, r := planted(t, s, schema, c.old, c.new)
					rewriters = append(rewriters, r)
					st, err := settlementsql.NewStore(t.Context(), db, nil)
					return closingStore{st, db}, err
				})
			wantCaught(t, err, sum(rewriters))
		})
	}
}

// TestTakeOverCatches: without the epoch in a write, or without the fence of the
// ledger, checkTakeOver fails.
func TestTakeOverCatches(t *testing.T) {
	for name, c := range map[string]struct{ old, new string }{
		"state without fence":  {"FROM durable WHERE id = 1 AND epoch = $2 AND holder = $3 AND revision = $4", "FROM durable WHERE id = 1 AND $2 = CAST($2 AS BIGINT) AND $3 = CAST($3 AS TEXT) AND $4 = CAST($4 AS BIGINT)"},
		"each without fence":   {"epoch = CAST($1 AS BIGINT) AND holder = $2", "0 < CAST($1 AS BIGINT) AND $2 > ''"},
		"each without holder":  {"AND holder = $2 OR", "AND $2 > '' OR"},
		"one without fence":    {"epoch = CAST($6 AS BIGINT) AND holder = $10", "0 < CAST($6 AS BIGINT) AND $10 > ''"},
		"one without holder":   {"AND holder = $10", "AND $10 > ''"},
		"batch without fence":  {"epoch = CAST($6 AS BIGINT) AND holder = $14", "0 < CAST($6 AS BIGINT) AND $14 > ''"},
		"batch without holder": {"AND holder = $14", "AND $14 > ''"},
		"lease not looked at":  {"EXTRACT(EPOCH FROM lease_until) * 1000000", "EXTRACT(EPOCH FROM clock_timestamp()) * 1000000"},
	} {
		t.Run(name, func(t *testing.T) {
			s, schema := sharedServer(t), newSchema()
			openDB(t, s, schema)
			db, r := planted(t, s, schema, c.old, c.new)
			err := checkTakeOver(t.Context(), db)
			if errors.Is(err, errSetup) {
				t.Fatal(err)
			}
			wantCaught(t, err, r.times.Load())
		})
	}
}

// TestLedgerModelCatches: bugs in the statement for a whole batch, and in the
// locks.
func TestLedgerModelCatches(t *testing.T) {
	for name, c := range map[string]struct{ old, new string }{
		"debit without credit":     {"balance = a.balance + v.net", "balance = a.balance + LEAST(v.net, 0)"},
		"looks at the end only":    {"a.balance + v.least >= 0", "a.balance + v.net >= 0"},
		"moves what is not new":    {"(SELECT count(*) FROM moved) = CAST($13 AS BIGINT)", "CAST($13 AS BIGINT) > 0"},
		"pays without the account": {"(SELECT count(*) FROM ready) = CAST($12 AS BIGINT)", "CAST($12 AS BIGINT) > 0"},
		"one: pays without funds":  {"(SELECT count(*) FROM ready) = 2", "(SELECT count(*) FROM ready) > 0"},
	} {
		t.Run(name, func(t *testing.T) {
			s, schema := sharedServer(t), newSchema()
			openDB(t, s, schema)
			db, r := planted(t, s, schema, c.old, c.new)
			err := checkLedgerModel(t.Context(), db, 1, 300)
			if errors.Is(err, errSetup) {
				t.Fatal(err)
			}
			wantCaught(t, err, r.times.Load())
		})
	}
	t.Run("no lock", func(t *testing.T) {
		s := sharedServer(t)
		for range 20 { // a race
			schema := newSchema()
			openDB(t, s, schema)
			db, r := planted(t, s, schema, "ORDER BY name FOR UPDATE", "ORDER BY name")
			err := checkLedgerContended(t.Context(), db)
			if errors.Is(err, errSetup) {
				t.Fatal(err)
			}
			if r.times.Load() == 0 || err != nil {
				wantCaught(t, err, r.times.Load())
				return
			}
		}
		t.Error("passes 20 times")
	})
}
