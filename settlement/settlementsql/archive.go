package settlementsql

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/settlement"
)

// Failures implements settlement.Store. It reads page by page and keeps no
// connection while the loop's body runs: it ends with the last failure that was
// there at the beginning, and shows each as it stands when its page is read.
// Damaged rows hide no other: the iteration ends with settlement.ErrCorrupt, for
// the first of them, when all sound ones have been shown.
func (s *Store) Failures(ctx context.Context, from uint64) iter.Seq2[settlement.Failure, error] {
	return func(yield func(settlement.Failure, error) bool) {
		var damage error
		for f, err := range sqldb.Pages(ctx, s.pages(ctx, from)) {
			if err == nil && f.damage != nil {
				if damage == nil {
					damage = f.damage
				}
				continue
			}
			if !yield(f.Failure, sqldb.Translate(ctx, err)) || err != nil {
				return
			}
		}
		if damage != nil {
			yield(settlement.Failure{}, damage)
		}
	}
}

func (s *Store) pages(ctx context.Context, from uint64) func(last *failureRow, limit int) ([]failureRow, error) {
	first, end := number(from), ""
	if from == 0 {
		first = "-99999999999999999999" // a damaged number is to be met, too
	}
	return func(last *failureRow, limit int) ([]failureRow, error) {
		if last != nil {
			return sqldb.Read(ctx, s.db, scanFailure, selectFailures+`
				WHERE seq > CAST($1 AS TEXT)::NUMERIC AND seq <= CAST($2 AS TEXT)::NUMERIC ORDER BY seq LIMIT $3`, last.seq, end, limit)
		}
		scan := func(row sqldb.Row) (failureRow, error) { return scanFailure(sqldb.Also(row, &end)) }
		return sqldb.Read(ctx, s.db, scan, `SELECT `+readFailure+`, (SELECT max(seq) FROM settlement_failures)
			FROM settlement_failures WHERE seq >= CAST($2 AS TEXT)::NUMERIC ORDER BY seq LIMIT $1`, limit, first)
	}
}

// readFailure are the failureColumns in the order of scanFailure.
var (
	readFailure = `seq, reason, detail, ` + sqldb.Finite("failed_at") + `, failed_at_nanos, tries,
		receipt_key, version, job_id, buyer, provider, quote_price, ` + sqldb.Finite("issued_at") + `, issued_at_nanos, dry_run`
	selectFailures = `SELECT ` + readFailure + ` FROM settlement_failures`
)

// failureRow is what one row of settlement_failures holds: a failure, or the
// reason why it is none.
type failureRow struct {
	settlement.Failure
	seq    string // also of a damaged row
	damage error  // wraps settlement.ErrCorrupt
}

// scanFailure reads into types that hold whatever the columns can. That a row is
// damaged is no error of the scan.
func scanFailure(from sqldb.Row) (failureRow, error) {
	var (
		row                                      failureRow
		key                                      []byte
		reason, price                            string
		failed, issued                           sql.NullTime
		failedNanos, issuedNanos, tries, version int64
		judge                                    sqldb.Judge
	)
	f, r := &row.Failure, &row.Receipt
	if err := from.Scan(&row.seq, &reason, &f.Detail, &failed, &failedNanos, &tries,
		&key, &version, &r.JobID, &r.Buyer, &r.Provider, &price, &issued, &issuedNanos, &r.DryRun); err != nil {
		return row, err
	}
	f.Seq = judge.Uint("seq", row.seq)
	f.Reason, f.Detail = settlement.Reason(judge.Text("reason", reason)), judge.Text("detail", f.Detail)
	f.At = judge.Time("failed_at", failed, failedNanos)
	f.Tries = int(judge.In("tries", tries, 0, math.MaxInt32))
	judge.Bytes("receipt_key", r.Key[:], key)
	r.Version = uint16(judge.In("version", version, 0, math.MaxUint16))
	r.JobID, r.Buyer, r.Provider = judge.Text("job_id", r.JobID), judge.Text("buyer", r.Buyer), judge.Text("provider", r.Provider)
	r.QuotePrice = judge.Uint("quote_price", price)
	r.IssuedAt = judge.Time("issued_at", issued, issuedNanos)
	err := judge.Err()
	if err == nil {
		err = r.Validate()
	}
	row.damage = damaged(fmt.Sprintf("the row of settlement_failures with seq %s and receipt_key %.32x", row.seq, key), err)
	return row, nil
}
