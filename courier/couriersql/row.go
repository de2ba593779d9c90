package couriersql

import (
	"database/sql"
	"fmt"
	"math"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/internal/sqldb"
)

// columns are those that Append writes.
const columns = `id, seq, bundle, size, sender, sent_at, carried, state, since, cause, reason`

var (
	// readColumns are in the order of scanRow.
	readColumns = `id, seq, bundle, size, sender, ` + sqldb.Finite("sent_at") + `, carried, state, ` +
		sqldb.Finite("since") + `, cause, reason`
	selectRows = `SELECT ` + readColumns + ` FROM courier_receipts `
	// selectFirst reads also where the list $1 ends.
	selectFirst = `SELECT ` + readColumns + `, (SELECT max(seq) FROM courier_receipts WHERE state = $1) FROM courier_receipts `
)

// row is what one row of courier_receipts holds: a receipt, or the reason why it
// is none.
type row struct {
	courier.Receipt
	id     []byte // also of a damaged row
	seq    int64
	damage error // wraps courier.ErrCorrupt
}

// scanRow reads into types that hold whatever the columns can. That a row is
// damaged is no error of the scan.
func scanRow(from sqldb.Row) (row, error) {
	var (
		r            row
		bundle       []byte
		sent, since  sql.NullTime
		state, cause string
		judge        sqldb.Judge
	)
	if err := from.Scan(&r.id, &r.seq, &bundle, &r.Size, &r.Sender, &sent, &r.Carried, &state, &since, &cause, &r.Reason); err != nil {
		return r, err
	}
	judge.Bytes("id", r.ID[:], r.id)
	r.Seq = uint64(judge.In("seq", r.seq, 1, math.MaxInt64))
	judge.Bytes("bundle", r.Bundle[:], bundle)
	r.Sender, r.Reason = judge.Text("sender", r.Sender), judge.Text("reason", r.Reason)
	r.SentAt, r.Since = judge.Time("sent_at", sent, 0), judge.Time("since", since, 0)
	stand(&r.Receipt, &judge, state, cause)
	err := judge.Err()
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		r.damage = fmt.Errorf("%w: the row of courier_receipts with id %.16x and seq %d: %w", courier.ErrCorrupt, r.id, r.seq, err)
	}
	return r, nil
}

// stand sets where r stands, and why.
func stand(r *courier.Receipt, judge *sqldb.Judge, state, cause string) {
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
	switch {
	case r.State == courier.Gone:
		judge.Fail("state is %.40q", state)
	case r.Cause == 0 && cause != "", (r.Cause != 0) != (r.State == courier.Dead):
		judge.Fail("state is %q, cause is %.40q", state, cause)
	case r.State != courier.Dead && r.Reason != "" || len(r.Reason) > courier.MaxReason:
		judge.Fail("state is %q, reason has %d bytes", state, len(r.Reason))
	}
}
