package receiptsql

import (
	"context"
	"database/sql"

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
	var statuses []receipt.Status
	err := sqldb.Run(ctx, s.db, sqldb.Idle, func(tx *sql.Tx) (err error) {
		statuses, err = s.append(ctx, tx, receipts)
		return err
	})
	if err != nil {
		return nil, translate(ctx, err)
	}
	return statuses, receipt.Refusal(receipts, statuses)
}

// append first takes all receipts for new, which most are.
func (s *Store) append(ctx context.Context, tx *sql.Tx, receipts []receipt.Receipt) ([]receipt.Status, error) {
	statuses, rows := decide(receipts, nil)
	present, err := insertNew(ctx, tx, len(receipts), rows)
	if err != nil || len(present) == 0 {
		return statuses, err
	}
	old, err := s.find(ctx, tx, present)
	if err != nil {
		return nil, err
	}
	statuses, rows = decide(receipts, old)
	var promoted []row
	for _, r := range rows {
		if _, ok := old[r.Key]; ok {
			promoted = append(promoted, r)
		}
	}
	return statuses, promote(ctx, tx, len(receipts), promoted)
}

// row is a receipt that has to be written, and its place in the call.
type row struct {
	*receipt.Receipt
	place int
}

// decide tells the status of each receipt when old is what is stored under their
// keys, and which of them are written in the end.
func decide(receipts []receipt.Receipt, old map[receipt.Key]stored) ([]receipt.Status, []row) {
	statuses := make([]receipt.Status, len(receipts))
	rows := make([]row, 0, len(receipts))
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
			rows[j] = row{r, i}
			continue
		}
		at[r.Key] = len(rows)
		rows = append(rows, row{r, i})
	}
	return statuses, rows
}

// arrays are the columns of rows, place being its offset from the last number
// before this call.
func arrays(rows []row) []any {
	var place, key, version, job, buyer, provider, price, issued, nanos, dry sqldb.Array
	for _, r := range rows {
		place.Int(int64(r.place) + 1)
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
func insertNew(ctx context.Context, tx *sql.Tx, n int, rows []row) (present map[receipt.Key]bool, err error) {
	inserted, err := sqldb.Collect(ctx, tx, scanKey, `
		WITH log AS (
			UPDATE receipt_log SET last_seq = last_seq + $11 WHERE id = 1 RETURNING last_seq - $11 AS before
		)
		`+insertRows+`
		ON CONFLICT (receipt_key) WHERE superseded_by IS NULL DO NOTHING
		RETURNING receipt_key`, append(arrays(rows), n)...)
	if err != nil || len(inserted) == len(rows) {
		return nil, err
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
func (s *Store) find(ctx context.Context, tx *sql.Tx, keys map[receipt.Key]bool) (map[receipt.Key]stored, error) {
	var array sqldb.Array
	for key := range keys {
		array.Bytes(key[:])
	}
	rows, err := sqldb.Collect(ctx, tx, scanRecord,
		`SELECT `+columns+` FROM receipts
		WHERE superseded_by IS NULL AND receipt_key = ANY(CAST($1 AS TEXT)::BYTEA[])`, array.String())
	if err != nil {
		return nil, err
	}
	found := make(map[receipt.Key]stored, len(rows))
	for _, r := range rows {
		found[r.Key] = r
	}
	if len(found) < len(keys) {
		return nil, sqldb.ErrAgain // a row under the key was changed by hand meanwhile
	}
	return found, nil
}

// promote moves dry runs that came for real to their new places, which insertNew
// has kept for them: n numbers up to the last one.
func promote(ctx context.Context, tx *sql.Tx, n int, rows []row) error {
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
