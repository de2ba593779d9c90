package postgrestest

import (
	"context"
	"database/sql"
	"testing"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptsql"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

// closingReceipts closes its pool with it, as the suite wants, and can be
// damaged.
type closingReceipts struct {
	*receiptsql.Store
	db *sql.DB
	*receipttest.Counter
}

func (c closingReceipts) Close() error { return c.db.Close() }

func (c closingReceipts) Corrupt() int { return c.N() }

func (closingReceipts) Damages() []string {
	return []string{
		"version = 70000", "version = -1", "issued_at = 'infinity'", "issued_at_nanos = 1000", "quote_price = quote_price + 1",
		"buyer = chr(1)", "job_id = ''", "superseded_by = 1", "seq = 9223372036854775807", "seq = -1",
	}
}

func (c closingReceipts) Damage(ctx context.Context, key receipt.Key, way string) error {
	_, err := c.db.ExecContext(ctx, `UPDATE receipts SET `+way+` WHERE receipt_key = $1`, key[:])
	return err
}

var _ receipttest.Damageable = closingReceipts{}

// receiptStores opens stores with at most so many connections, 0 being any
// number.
func receiptStores(t *testing.T, connections int) receipttest.Open {
	s, prefix := sharedServer(t), newSchema()
	return func(name string) (receipt.Store, error) {
		db := openDB(t, s, schemaOf(prefix, name))
		db.SetMaxOpenConns(connections)
		if err := receiptsql.Migrate(t.Context(), db); err != nil {
			return nil, err
		}
		counter := new(receipttest.Counter)
		store, err := receiptsql.New(t.Context(), db, &receiptsql.Options{Metrics: counter})
		return closingReceipts{store, db, counter}, err
	}
}

func TestReceiptSuite(t *testing.T) { receipttest.Run(t, receiptStores(t, 0)) }
