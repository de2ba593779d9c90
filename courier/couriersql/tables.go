package couriersql

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/internal/fault"
	"github.com/computemarket/computemarket/internal/sqldb"
)

var schema = sqldb.Schema{Component: "courier", Steps: [][]string{{
	`CREATE TABLE courier_receipts (
		id BYTEA PRIMARY KEY,
		seq BIGINT NOT NULL,
		bundle BYTEA NOT NULL,
		size BIGINT NOT NULL,
		sender TEXT NOT NULL,
		sent_at TIMESTAMPTZ NOT NULL,
		carried BOOLEAN NOT NULL,
		state TEXT NOT NULL,
		since TIMESTAMPTZ NOT NULL,
		cause TEXT NOT NULL,
		reason TEXT NOT NULL)`,
	`CREATE UNIQUE INDEX courier_lists ON courier_receipts (state, seq)`,
	`CREATE INDEX courier_bundles ON courier_receipts (bundle) WHERE carried AND state <> 'acknowledged'`,
	`CREATE TABLE courier_log (
		id INTEGER PRIMARY KEY CHECK (id = 1),
		last_seq BIGINT NOT NULL,
		pending BIGINT NOT NULL,
		acknowledged BIGINT NOT NULL,
		dead BIGINT NOT NULL)`,
	`INSERT INTO courier_log (id, last_seq, pending, acknowledged, dead) VALUES (1, 0, 0, 0, 0)`,
}, {
	// A row with another's number must not stop the other from moving.
	`DROP INDEX courier_lists`,
	`CREATE INDEX courier_lists ON courier_receipts (state, seq)`,
	`ALTER TABLE courier_log ADD COLUMN aside BIGINT NOT NULL DEFAULT 0`,
}, {
	`CREATE TABLE courier_note (
		id INTEGER PRIMARY KEY CHECK (id = 1),
		note BYTEA NOT NULL)`,
}}}

// ErrMigrate: the tables are missing, or an older release made them. Call
// [Migrate].
var ErrMigrate = fault.ErrMigrate

// ErrUnsafe: fsync or full_page_writes is off on the server, so a crash may take
// receipts that were acknowledged. Turn it on, or say Options.UnsafeServer.
var ErrUnsafe = fault.ErrUnsafe

// Migrate creates the tables, or brings them to the version of this release.
// Many nodes may call it at once. Possible errors: courier.ErrOptions (db is
// nil), courier.ErrSchema (a newer release made the tables), that of ctx, and
// the driver's.
func Migrate(ctx context.Context, db *sql.DB) error {
	return translate(ctx, schema.Migrate(ctx, db))
}

// translate is sqldb.Translate, but for a time that the server cannot hold.
func translate(ctx context.Context, err error) error {
	if sqldb.State(err) == datetimeOverflow {
		return fmt.Errorf("%w: a time before 4714 BC: %w", courier.ErrInvalid, err)
	}
	return sqldb.Translate(ctx, err)
}

// SQLSTATEs.
const (
	outOfRange       = "22003"
	datetimeOverflow = "22008"
)

// micros is what a TIMESTAMPTZ keeps of t.
func micros(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }
