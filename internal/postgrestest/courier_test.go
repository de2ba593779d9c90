package postgrestest

import (
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

func TestCourierSuite(t *testing.T) {
	s, byDir := sharedServer(t), map[string]string{}
	couriertest.Run(t, func(dir string) (courier.Store, error) {
		if byDir[dir] == "" {
			byDir[dir] = newSchema()
		}
		db := openDB(t, s, byDir[dir])
		if err := couriersql.Migrate(t.Context(), db); err != nil {
			return nil, err
		}
		store, err := couriersql.New(t.Context(), db)
		return closingCourier{store, db}, err
	})
}
