package receiptsql

import (
	"database/sql"
	"fmt"
	"math"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/receipt"
)

// columns are those of a receipt, in the order of [arrays].
const columns = `seq, receipt_key, version, job_id, buyer, provider, quote_price, issued_at, issued_at_nanos, dry_run`

// orphaned: the row r says that it was superseded, and no later row under its
// key is there.
const orphaned = `r.superseded_by IS NOT NULL AND NOT EXISTS (
		SELECT 1 FROM receipts AS n WHERE n.seq = r.superseded_by AND n.seq > r.seq AND n.receipt_key = r.receipt_key)`

// selectRows is what scanRow reads, with the expression for whether the row is
// orphaned, and with the end of the log.
func selectRows(orphaned string) string {
	return `SELECT r.seq, r.receipt_key, r.version, r.job_id, r.buyer, r.provider, r.quote_price,
		` + sqldb.Finite("r.issued_at") + `, r.issued_at_nanos, r.dry_run, ` + orphaned + `,
		(SELECT last_seq FROM receipt_log WHERE id = 1)
	FROM receipts AS r `
}

var (
	// firstPage of an iteration has the arguments first number and limit.
	firstPage = selectRows(orphaned) + `WHERE seq >= $1 AND (superseded_by IS NULL OR ` + orphaned + `)
		ORDER BY seq LIMIT $2`

	// nextPage has the last number shown, the end of the log when the iteration
	// began, and limit. It leaves out what came since, and keeps what was
	// superseded since.
	nextPage = selectRows(orphaned) + `WHERE seq > $1 AND seq <= $2 AND (superseded_by IS NULL OR superseded_by > $2 OR ` + orphaned + `)
		ORDER BY seq LIMIT $3`

	// underKeys has an array of keys. There are two parts for two indexes.
	underKeys = selectRows(`FALSE`) + `WHERE superseded_by IS NULL AND receipt_key = ANY(CAST($1 AS TEXT)::BYTEA[])
		UNION ALL ` + selectRows(`TRUE`) + `WHERE receipt_key = ANY(CAST($1 AS TEXT)::BYTEA[]) AND ` + orphaned

	// underKey has one key.
	underKey = selectRows(`FALSE`) + `WHERE superseded_by IS NULL AND receipt_key = $1
		UNION ALL ` + selectRows(`TRUE`) + `WHERE receipt_key = $1 AND ` + orphaned
)

// row is what one row of receipts holds: a record, or the reason why it is none.
type row struct {
	receipt.Record
	seq    int64 // also of a damaged row
	end    int64 // the last number of the log
	damage error // wraps receipt.ErrCorrupt
}

// errLog: without its last number, no number in the log can be judged.
var errLog = fmt.Errorf("%w: receipt_log has no row with id 1 and a last_seq of 0 or more", receipt.ErrCorrupt)

// scanRow reads into types that hold whatever the columns can. A row that is no
// receipt, or not the one that its key says, is damaged; that is no error of the
// scan.
func scanRow(from sqldb.Row) (row, error) {
	var (
		r              row
		key            []byte
		version, nanos int64
		price          string
		issued         sql.NullTime
		orphan         bool
		end            sql.NullInt64
	)
	if err := from.Scan(&r.seq, &key, &version, &r.JobID, &r.Buyer, &r.Provider, &price, &issued, &nanos, &r.DryRun,
		&orphan, &end); err != nil {
		return r, err
	}
	if r.end = end.Int64; !end.Valid || r.end < 0 {
		return r, errLog
	}
	var judge sqldb.Judge
	judge.Bytes("receipt_key", r.Key[:], key)
	r.Seq = uint64(judge.In("seq", r.seq, 1, r.end))
	r.Version = uint16(judge.In("version", version, 0, math.MaxUint16))
	r.JobID, r.Buyer, r.Provider = judge.Text("job_id", r.JobID), judge.Text("buyer", r.Buyer), judge.Text("provider", r.Provider)
	r.QuotePrice = judge.Uint("quote_price", price)
	r.IssuedAt = judge.Time("issued_at", issued, nanos)
	if orphan {
		judge.Fail("superseded_by leads to no later receipt with this key")
	}
	err := judge.Err()
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		r.damage = fmt.Errorf("%w: the row of receipts with seq %d and receipt_key %.32x: %w", receipt.ErrCorrupt, r.seq, key, err)
	}
	return r, nil
}
