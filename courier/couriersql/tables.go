package couriersql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/computemarket/computemarket/courier"
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
}}}

// ErrMigrate: the tables are missing, or an older release made them. Call
// [Migrate].
var ErrMigrate = errors.New("couriersql: the tables are missing or older; call Migrate")

// Migrate creates the tables, or brings them to the version of this release.
// Many nodes may call it at once. Possible errors: courier.ErrVersion (a newer
// release made the tables), and the driver's.
func Migrate(ctx context.Context, db *sql.DB) error {
	return translate(ctx, schema.Migrate(ctx, db))
}

// translate maps native errors to the sentinels of courier.
func translate(ctx context.Context, err error) error {
	err = sqldb.Translate(ctx, err)
	for _, m := range [...]struct{ native, sentinel error }{
		{sqldb.ErrUnknown, courier.ErrUnknown},
		{sqldb.ErrClosed, courier.ErrClosed},
		{sqldb.ErrNewer, courier.ErrVersion},
		{sqldb.ErrMigrate, ErrMigrate},
	} {
		if errors.Is(err, m.native) {
			return fmt.Errorf("%w: %w", m.sentinel, err)
		}
	}
	return err
}

// columns are in the order of scanReceipt.
const columns = `id, seq, bundle, size, sender, sent_at, carried, state, since, cause, reason`

func scanReceipt(row sqldb.Row) (r courier.Receipt, err error) {
	var id, bundle []byte
	var state, cause string
	err = row.Scan(&id, &r.Seq, &bundle, &r.Size, &r.Sender, &r.SentAt, &r.Carried, &state, &r.Since, &cause, &r.Reason)
	if err != nil {
		return r, err
	}
	if len(id) != len(r.ID) || len(bundle) != len(r.Bundle) {
		return r, fmt.Errorf("%w: number %d has an id of %d bytes, a hash of %d", courier.ErrCorrupt, r.Seq, len(id), len(bundle))
	}
	r.ID, r.Bundle = courier.ID(id), courier.Hash(bundle)
	r.Sender, r.Reason = sqldb.Plain(r.Sender), sqldb.Plain(r.Reason)
	r.SentAt, r.Since = r.SentAt.UTC(), r.Since.UTC()
	for s := courier.Pending; s <= courier.Dead; s++ {
		if s.String() == state {
			r.State = s
		}
	}
	for c := courier.Rejected; c <= courier.Damaged; c++ {
		if c.String() == cause {
			r.Cause = c
		}
	}
	if r.State == courier.Gone || r.Cause == 0 && cause != "" {
		return r, fmt.Errorf("%w: receipt %v: state %q, cause %q", courier.ErrCorrupt, r.ID, state, cause)
	}
	return r, nil
}

// micros is what a TIMESTAMPTZ keeps of t.
func micros(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }
