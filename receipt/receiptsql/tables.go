package receiptsql

import (
	"context"
	"database/sql"

	"github.com/computemarket/computemarket/internal/fault"
	"github.com/computemarket/computemarket/internal/sqldb"
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
}, {
	`CREATE INDEX receipts_superseded ON receipts (receipt_key) WHERE superseded_by IS NOT NULL`,
}}}

// ErrMigrate: the tables are missing, or an older release made them. Call
// [Migrate].
var ErrMigrate = fault.ErrMigrate

// ErrUnsafe: fsync or full_page_writes is off on the server, so a crash may take
// receipts that were recorded. Turn it on, or say Options.UnsafeServer.
var ErrUnsafe = fault.ErrUnsafe

// Migrate creates the tables, or brings them to the version of this release.
// Many nodes may call it at once. Possible errors: receipt.ErrOptions (db is
// nil), receipt.ErrSchema (a newer release made the tables), that of ctx, and
// the driver's.
func Migrate(ctx context.Context, db *sql.DB) error {
	return sqldb.Translate(ctx, schema.Migrate(ctx, db))
}
