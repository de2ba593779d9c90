package postgrestest

import (
	"context"
	"database/sql"
	"testing"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriersql"
	"github.com/computemarket/computemarket/courier/couriertest"
)

type closingCourier struct {
	*couriersql.Store
	db *sql.DB
}

func (c closingCourier) Close() error { return c.db.Close() }

var _ couriertest.Damageable = closingCourier{}

// Damages are some of what TestDamagedBundles does to each column.
func (closingCourier) Damages() []string {
	return []string{
		"seq = -1", "size = -1", "sender = ''", "sent_at = 'infinity'", "cause = 'other'", "reason = repeat('x', 513)",
	}
}

func (c closingCourier) Damage(ctx context.Context, id courier.ID, way string) error {
	_, err := c.db.ExecContext(ctx, `UPDATE courier_receipts SET `+way+` WHERE id = $1`, id[:])
	return err
}

// courierStores opens stores with at most so many connections, 0 being any
// number.
func courierStores(t *testing.T, connections int) couriertest.Open {
	s, byDir := sharedServer(t), map[string]string{}
	return func(dir string) (courier.Store, error) {
		if byDir[dir] == "" {
			byDir[dir] = newSchema()
		}
		db := openDB(t, s, byDir[dir])
		db.SetMaxOpenConns(connections)
		if err := couriersql.Migrate(t.Context(), db); err != nil {
			return nil, err
		}
		store, err := couriersql.New(t.Context(), db, nil)
		return closingCourier{store, db}, err
	}
}

func TestCourierSuite(t *testing.T) { couriertest.Run(t, courierStores(t, 0)) }

func TestCourierSuiteCatches(t *testing.T) {
	for name, c := range map[string]struct{ clause, old, new string }{
		"an id twice is an error": {"AppendAgain", "ON CONFLICT (id) DO NOTHING", ""},
		"loses the order":         {"ListInOrder", "ORDER BY seq LIMIT", "ORDER BY id LIMIT"},
		"ignores where to begin":  {"ListFrom", "seq >= $2 ORDER", "seq >= $2 - $2 ORDER"},
		"needs no receipt":        {"Needs", "AND state <> 'acknowledged')", "AND state = 'acknowledged')"},
		"counts nothing":          {"Move", "pending = pending + $1, acknowledged = acknowledged + $2", "pending = pending + 0 * $1, acknowledged = acknowledged + 0 * $2"},
		"gone receipts stay":      {"Move", "DELETE FROM courier_receipts WHERE", "DELETE FROM courier_receipts WHERE FALSE AND"},
		"moves no receipt":        {"Move", "AND r.id = v.id", "AND r.id = v.id AND FALSE"},
	} {
		t.Run(name, func(t *testing.T) {
			s, byDir := sharedServer(t), map[string]string{}
			var rewrites int64
			err := clauseOf(t, couriertest.Clauses(), c.clause, func(c couriertest.Clause) string { return c.Name }).
				Check(t.Context(), t.TempDir(), func(dir string) (courier.Store, error) {
					if byDir[dir] == "" {
						byDir[dir] = newSchema()
					}
					if err := couriersql.Migrate(t.Context(), openDB(t, s, byDir[dir])); err != nil {
						t.Fatal(err)
					}
					db, r := planted(t, s, byDir[dir], c.old, c.new)
					store, err := couriersql.New(t.Context(), db, nil)
					return countingCourier{closingCourier{store, db}, r, &rewrites}, err
				})
			wantCaught(t, err, rewrites)
		})
	}
}

// countingCourier tells at the end how often the bug was planted.
type countingCourier struct {
	closingCourier
	r *rewriter
	n *int64
}

func (c countingCourier) Close() error {
	*c.n += c.r.times.Load()
	return c.closingCourier.Close()
}
