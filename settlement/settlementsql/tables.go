package settlementsql

import (
	"context"
	"database/sql"

	"github.com/computemarket/computemarket/internal/fault"
	"github.com/computemarket/computemarket/internal/sqldb"
)

// Amounts and numbers of the log are of 64 bits without a sign, for which SQL
// has no smaller type than NUMERIC. Accounts sort as bytes.
var schema = sqldb.Schema{Component: "settlement", Steps: [][]string{{
	`CREATE TABLE ledger (
		id INTEGER PRIMARY KEY CHECK (id = 1),
		issuer TEXT NOT NULL)`,
	`CREATE TABLE ledger_accounts (
		name TEXT COLLATE "C" PRIMARY KEY,
		balance NUMERIC(20,0) NOT NULL CHECK (balance BETWEEN 0 AND 18446744073709551615))`,
	`CREATE TABLE ledger_transfers (
		id BYTEA PRIMARY KEY,
		from_account TEXT COLLATE "C" NOT NULL,
		to_account TEXT COLLATE "C" NOT NULL,
		amount NUMERIC(20,0) NOT NULL CHECK (amount BETWEEN 0 AND 18446744073709551615),
		tag TEXT NOT NULL,
		epoch BIGINT NOT NULL,
		posted_at TIMESTAMPTZ NOT NULL DEFAULT now())`,
	`CREATE TABLE settlement_state (
		id INTEGER PRIMARY KEY CHECK (id = 1),
		epoch BIGINT NOT NULL,
		revision BIGINT NOT NULL,
		holder TEXT NOT NULL,
		lease_until TIMESTAMPTZ NOT NULL,
		mode TEXT NOT NULL,
		reason TEXT NOT NULL,
		activation_ns BIGINT NOT NULL,
		activation_height NUMERIC(20,0) NOT NULL,
		height NUMERIC(20,0) NOT NULL,
		log_cursor NUMERIC(20,0) NOT NULL,
		applied NUMERIC(20,0) NOT NULL,
		failed NUMERIC(20,0) NOT NULL)`,
	`INSERT INTO settlement_state VALUES (1, 0, 0, '', now(), 'dry_run', '', 0, 0, 0, 0, 0, 0)`,
	`CREATE TABLE settlement_failures (
		seq NUMERIC(20,0) PRIMARY KEY,
		reason TEXT NOT NULL,
		detail TEXT NOT NULL,
		failed_at TIMESTAMPTZ NOT NULL,
		failed_at_nanos INTEGER NOT NULL,
		tries INTEGER NOT NULL,
		receipt_key BYTEA NOT NULL,
		version INTEGER NOT NULL,
		job_id TEXT NOT NULL,
		buyer TEXT NOT NULL,
		provider TEXT NOT NULL,
		quote_price NUMERIC(20,0) NOT NULL,
		issued_at TIMESTAMPTZ NOT NULL,
		issued_at_nanos INTEGER NOT NULL,
		dry_run BOOLEAN NOT NULL)`,
}, {
	`ALTER TABLE settlement_state ADD COLUMN state TEXT NOT NULL DEFAULT ''`,
}}}

// ErrMigrate: the tables are missing, or an older release made them. Call
// [Migrate].
var ErrMigrate = fault.ErrMigrate

// ErrUnsafe: fsync or full_page_writes is off on the server, so a crash may take
// transfers that were acknowledged. Turn it on, or say UnsafeServer in the
// options.
var ErrUnsafe = fault.ErrUnsafe

// Migrate creates the tables, or brings them to the version of this release.
// Many nodes may call it at once. Possible errors: settlement.ErrOptions (db is
// nil), settlement.ErrSchema (a newer release made the tables), that of ctx, and
// the driver's.
func Migrate(ctx context.Context, db *sql.DB) error {
	return sqldb.Translate(ctx, schema.Migrate(ctx, db))
}

// open looks at the tables and at the server.
func open(ctx context.Context, db *sql.DB, unsafe bool) error {
	err := schema.Check(ctx, db)
	if err == nil && !unsafe {
		err = sqldb.CheckServer(ctx, db)
	}
	return sqldb.Translate(ctx, err)
}
