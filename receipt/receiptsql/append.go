package receiptsql

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/receipt"
)

// Append implements receipt.Store.
func (s *Store) Append(ctx context.Context, receipts []receipt.Receipt) ([]receipt.Status, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := receipt.ValidateAll(receipts); err != nil {
		return nil, err
	}
	if len(receipts) == 0 {
		return []receipt.Status{}, nil
	}
	var done appended
	var err error
	for step := 0; ; step++ {
		done, err = s.record(ctx, receipts)
		if sqldb.State(err) != uniqueViolation || step == maxSteps {
			break
		}
		// A damaged row has a number that was not given yet.
		if err = s.stepOver(ctx); err != nil {
			break
		}
	}
	for i := range done.damaged {
		err = cmp.Or(err, s.found(&done.damaged[i]))
	}
	if err != nil {
		return nil, sqldb.Translate(ctx, err)
	}
	return done.statuses, receipt.Refusal(receipts, done.statuses)
}

// appended is what became of the receipts, and the damaged rows that were met.
type appended struct {
	statuses []receipt.Status
	damaged  []row
}

func (s *Store) record(ctx context.Context, receipts []receipt.Receipt) (done appended, err error) {
	err = sqldb.Run(ctx, s.db, sqldb.Idle, func(tx *sql.Tx) (err error) {
		done, err = appendTo(ctx, tx, receipts)
		return err
	})
	return done, err
}

const (
	uniqueViolation = "23505"
	outOfRange      = "22003"
	maxSteps        = 16
)

// stepOver lets the log go on behind the numbers that are taken near its end.
func (s *Store) stepOver(ctx context.Context) error {
	return sqldb.Run(ctx, s.db, sqldb.Idle, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE receipt_log AS l
			SET last_seq = GREATEST(l.last_seq, COALESCE((SELECT max(seq) FROM receipts WHERE seq > l.last_seq AND seq < l.last_seq + 1048576), 0))
			WHERE l.id = 1`)
		return logError(err)
	})
}

// logError tells of the row of receipt_log that its number is at the end of all
// numbers.
func logError(err error) error {
	if sqldb.State(err) == outOfRange {
		return fmt.Errorf("%w: the row of receipt_log: last_seq: %w", receipt.ErrCorrupt, err)
	}
	return err
}

// appendTo first takes all receipts for new, which most are.
func appendTo(ctx context.Context, tx *sql.Tx, receipts []receipt.Receipt) (appended, error) {
	statuses, rows := decide(receipts, nil)
	present, err := insertNew(ctx, tx, len(receipts), rows)
	if err != nil || len(present) == 0 {
		return appended{statuses: statuses}, err
	}
	old, damaged, err := find(ctx, tx, present)
	if err != nil {
		return appended{}, err
	}
	statuses, rows = decide(receipts, old)
	var promoted []place
	for _, r := range rows {
		if _, ok := old[r.Key]; ok {
			promoted = append(promoted, r)
		}
	}
	return appended{statuses, damaged}, promote(ctx, tx, len(receipts), promoted)
}

// place is a receipt that has to be written, and its index in the call.
type place struct {
	*receipt.Receipt
	index int
}

// decide tells the status of each receipt when old is what is stored under their
// keys, and which of them are written in the end.
func decide(receipts []receipt.Receipt, old map[receipt.Key]row) ([]receipt.Status, []place) {
	statuses := make([]receipt.Status, len(receipts))
	rows := make([]place, 0, len(receipts))
	at := make(map[receipt.Key]int, len(receipts)) // index in rows
	for i := range receipts {
		r := &receipts[i]
		var before *receipt.Receipt
		j, again := at[r.Key]
		if again {
			before = rows[j].Receipt
		} else if o, ok := old[r.Key]; ok {
			if o.damage != nil {
				statuses[i] = receipt.Corrupt
				continue
			}
			before = &o.Receipt
		}
		switch {
		case before != nil && !r.SameContent(before):
			statuses[i] = receipt.Conflict
			continue
		case before != nil && (!before.DryRun || r.DryRun):
			statuses[i] = receipt.Duplicate
			continue
		}
		statuses[i] = receipt.Inserted
		if again { // promoted before anybody saw it
			rows[j] = place{r, i}
			continue
		}
		at[r.Key] = len(rows)
		rows = append(rows, place{r, i})
	}
	return statuses, rows
}

// arrays are the columns of rows, place being its offset from the last number
// before this call.
func arrays(rows []place) []any {
	var place, key, version, job, buyer, provider, price, issued, nanos, dry sqldb.Array
	for _, r := range rows {
		place.Int(int64(r.index) + 1)
		key.Bytes(r.Key[:])
		version.Uint(uint64(r.Version))
		job.Text(r.JobID)
		buyer.Text(r.Buyer)
		provider.Text(r.Provider)
		price.Uint(r.QuotePrice)
		issued.Time(r.IssuedAt)
		nanos.Int(sqldb.Nanos(r.IssuedAt))
		dry.Bool(r.DryRun)
	}
	return []any{
		place.String(), key.String(), version.String(), job.String(), buyer.String(), provider.String(),
		price.String(), issued.String(), nanos.String(), dry.String(),
	}
}

const insertRows = `INSERT INTO receipts (` + columns + `)
	SELECT log.before + v.place, v.receipt_key, v.version, v.job_id, v.buyer, v.provider, v.quote_price,
		v.issued_at, v.issued_at_nanos, v.dry_run
	FROM log, unnest(
		CAST($1 AS TEXT)::BIGINT[], CAST($2 AS TEXT)::BYTEA[], CAST($3 AS TEXT)::INTEGER[], CAST($4 AS TEXT)::TEXT[],
		CAST($5 AS TEXT)::TEXT[], CAST($6 AS TEXT)::TEXT[], CAST($7 AS TEXT)::NUMERIC(20,0)[],
		CAST($8 AS TEXT)::TIMESTAMPTZ[], CAST($9 AS TEXT)::INTEGER[], CAST($10 AS TEXT)::BOOLEAN[]
	) AS v (place, receipt_key, version, job_id, buyer, provider, quote_price, issued_at, issued_at_nanos, dry_run)`

// insertNew takes n numbers, which locks the log until the transaction ends, and
// writes the rows whose keys are not there. It returns the keys that are.
func insertNew(ctx context.Context, tx *sql.Tx, n int, rows []place) (present map[receipt.Key]bool, err error) {
	inserted, err := sqldb.Collect(ctx, tx, scanKey, `
		WITH log AS (
			UPDATE receipt_log SET last_seq = last_seq + $11 WHERE id = 1 AND last_seq >= 0 RETURNING last_seq - $11 AS before
		)
		`+insertRows+`
		WHERE v.receipt_key <> ALL (ARRAY(
			SELECT r.receipt_key FROM receipts AS r WHERE r.receipt_key = ANY(CAST($2 AS TEXT)::BYTEA[]) AND `+orphaned+`))
		ON CONFLICT (receipt_key) WHERE superseded_by IS NULL DO NOTHING
		RETURNING receipt_key`, append(arrays(rows), n)...)
	if err != nil || len(inserted) == len(rows) {
		return nil, logError(err)
	}
	present = make(map[receipt.Key]bool, len(rows)-len(inserted))
	for _, r := range rows {
		present[r.Key] = true
	}
	for _, key := range inserted {
		delete(present, key)
	}
	return present, nil
}

func scanKey(row sqldb.Row) (receipt.Key, error) {
	var b []byte
	if err := row.Scan(&b); err != nil {
		return receipt.Key{}, err
	}
	return receipt.Key(b), nil
}

// find reads what is stored under the keys. The log is locked.
func find(ctx context.Context, tx *sql.Tx, keys map[receipt.Key]bool) (found map[receipt.Key]row, damaged []row, err error) {
	var array sqldb.Array
	for key := range keys {
		array.Bytes(key[:])
	}
	rows, err := sqldb.Collect(ctx, tx, scanRow, underKeys, array.String())
	if err != nil {
		return nil, nil, err
	}
	found = make(map[receipt.Key]row, len(rows))
	for i := range rows {
		if rows[i].damage != nil {
			damaged = append(damaged, rows[i])
		}
		if found[rows[i].Key].damage == nil {
			found[rows[i].Key] = rows[i]
		}
	}
	if len(found) == len(keys) {
		return found, damaged, nil
	}
	logs, err := sqldb.Collect(ctx, tx, func(row sqldb.Row) (last int64, err error) { return last, row.Scan(&last) },
		`SELECT last_seq FROM receipt_log WHERE id = 1 AND last_seq >= 0`)
	if err == nil && len(logs) == 0 {
		err = errLog
	}
	if err == nil {
		err = sqldb.ErrAgain // a row under the key was changed by hand meanwhile
	}
	return nil, nil, err
}

// promote moves dry runs that came for real to their new places, which insertNew
// has kept for them: n numbers up to the last one.
func promote(ctx context.Context, tx *sql.Tx, n int, rows []place) error {
	if len(rows) == 0 {
		return nil
	}
	columns := arrays(rows)
	if _, err := tx.ExecContext(ctx, `
		UPDATE receipts SET superseded_by = log.last_seq - $3 + v.place
		FROM receipt_log AS log, unnest(CAST($1 AS TEXT)::BIGINT[], CAST($2 AS TEXT)::BYTEA[]) AS v (place, receipt_key)
		WHERE log.id = 1 AND receipts.receipt_key = v.receipt_key AND receipts.superseded_by IS NULL`,
		columns[0], columns[1], n); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `WITH log AS (SELECT last_seq - $11 AS before FROM receipt_log WHERE id = 1) `+insertRows,
		append(columns, n)...)
	return err
}
