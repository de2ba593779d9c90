package postgrestest

import (
	"database/sql"
	"testing"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptsql"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

// closingReceipts closes its pool with it, as the suite wants.
type closingReceipts struct {
	*receiptsql.Store
	db *sql.DB
}

func (c closingReceipts) Close() error { return c.db.Close() }

func receiptStores(t *testing.T) receipttest.Open {
	s, prefix := sharedServer(t), newSchema()
	return func(name string) (receipt.Store, error) {
		db := openDB(t, s, schemaOf(prefix, name))
		if err := receiptsql.Migrate(t.Context(), db); err != nil {
			return nil, err
		}
		store, err := receiptsql.New(t.Context(), db, nil)
		return closingReceipts{store, db}, err
	}
}

func TestReceiptSuite(t *testing.T) { receipttest.Run(t, receiptStores(t)) }
