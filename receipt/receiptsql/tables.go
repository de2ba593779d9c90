package receiptsql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/receipt"
)

var schema = sqldb.Schema{Component: "receipt", Steps: [][]string{{
	`CREATE TABLE receipts (
		seq BIGINT PRIMARY KEY,
		receipt_key BYTEA NOT NULL,
		version INTEGER NOT NULL,
		job_id TEXT NOT NULL,
		buyer TEXT NOT NULL,
		provider TEXT NOT NULL,
		quote_price NUMERIC(20,0) NOT NULL CHECK (quote_price BETWEEN 0 AND 18446744073709551615),
		issued_at TIMESTAMPTZ NOT NULL,
		issued_at_nanos INTEGER NOT NULL,
		dry_run BOOLEAN NOT NULL,
		superseded_by BIGINT)`,
	`CREATE UNIQUE INDEX receipts_key ON receipts (receipt_key) WHERE superseded_by IS NULL`,
	`CREATE TABLE receipt_log (
		id INTEGER PRIMARY KEY CHECK (id = 1),
		last_seq BIGINT NOT NULL)`,
	`INSERT INTO receipt_log (id, last_seq) VALUES (1, 0)`,
}}}

// ErrMigrate: the tables are missing, or an older release made them. Call
// [Migrate].
var ErrMigrate = errors.New("receiptsql: the tables are missing or older; call Migrate")

// Migrate creates the tables, or brings them to the version of this release.
// Many nodes may call it at once. Possible errors: receipt.ErrSchema (a newer
// release made the tables), and the driver's.
func Migrate(ctx context.Context, db *sql.DB) error {
	return translate(ctx, schema.Migrate(ctx, db))
}

// translate maps native errors to the sentinels of receipt.
func translate(ctx context.Context, err error) error {
	err = sqldb.Translate(ctx, err)
	for _, m := range [...]struct{ native, sentinel error }{
		{sqldb.ErrUnknown, receipt.ErrUnknown},
		{sqldb.ErrClosed, receipt.ErrClosed},
		{sqldb.ErrNewer, receipt.ErrSchema},
		{sqldb.ErrMigrate, ErrMigrate},
	} {
		if errors.Is(err, m.native) {
			return fmt.Errorf("%w: %w", m.sentinel, err)
		}
	}
	return err
}

// columns are those of a record, in the order of scanRecord.
const columns = `seq, receipt_key, version, job_id, buyer, provider, quote_price, issued_at, issued_at_nanos, dry_run`

// A stored receipt, or the reason why it is none.
type stored struct {
	receipt.Record
	damage error
}

// scanRecord reads a row. A row that is no receipt, or not the one that its key
// says, is damaged; that is not an error of the scan.
func scanRecord(row sqldb.Row) (stored, error) {
	var (
		r     receipt.Record
		key   []byte
		nanos int64
	)
	err := row.Scan(&r.Seq, &key, &r.Version, &r.JobID, &r.Buyer, &r.Provider, &r.QuotePrice, &r.IssuedAt, &nanos, &r.DryRun)
	if err != nil {
		return stored{}, err
	}
	if len(key) != len(r.Key) {
		return stored{r, fmt.Errorf("%w: number %d has a key of %d bytes", receipt.ErrCorrupt, r.Seq, len(key))}, nil
	}
	r.Key = receipt.Key(key)
	r.JobID, r.Buyer, r.Provider = sqldb.Plain(r.JobID), sqldb.Plain(r.Buyer), sqldb.Plain(r.Provider)
	r.IssuedAt = sqldb.Time(r.IssuedAt, nanos)
	if err := r.Validate(); err != nil {
		return stored{r, fmt.Errorf("%w: number %d, key %s: %w", receipt.ErrCorrupt, r.Seq, r.Key, err)}, nil
	}
	return stored{r, nil}, nil
}
