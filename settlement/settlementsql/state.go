package settlementsql

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/settlement"
)

// stateColumns are in the order of scanState.
const stateColumns = `epoch, mode, reason, activation_ns, activation_height, height, log_cursor, applied, failed`

// updateState has the arguments lease, epoch, revision, and those of stateArgs.
const updateState = `WITH ` + sqldb.Durable + ` UPDATE settlement_state
	SET revision = revision + 1, lease_until = ` + leaseEnd + `,
		mode = $4, reason = $5, activation_ns = $6, activation_height = CAST($7 AS TEXT)::NUMERIC(20,0),
		height = CAST($8 AS TEXT)::NUMERIC(20,0), log_cursor = CAST($9 AS TEXT)::NUMERIC(20,0),
		applied = CAST($10 AS TEXT)::NUMERIC(20,0), failed = CAST($11 AS TEXT)::NUMERIC(20,0)
	FROM durable WHERE id = 1 AND epoch = $2 AND revision = $3`

func stateArgs(s settlement.State) []any {
	return []any{
		s.Mode.String(), sqldb.AnyText(s.Reason), int64(s.Activation.Remaining), number(s.Activation.Height),
		number(s.Height), number(s.Cursor), number(s.Applied), number(s.Failed),
	}
}

// number is the text of a NUMERIC: drivers take no uint64 beyond 2^63.
func number(n uint64) string { return strconv.FormatUint(n, 10) }

// scanState reads into first and then the state. A state that no engine can have
// written is settlement.ErrCorrupt.
func scanState(row sqldb.Row, first ...any) (s settlement.State, err error) {
	var epoch, remaining int64
	var mode string
	var numbers [5]string
	err = row.Scan(append(first, &epoch, &mode, &s.Reason, &remaining, &numbers[0], &numbers[1], &numbers[2], &numbers[3], &numbers[4])...)
	if err != nil {
		return s, err
	}
	var judge sqldb.Judge
	s.Epoch = uint64(judge.In("epoch", epoch, 0, math.MaxInt64))
	if err := s.Mode.UnmarshalText([]byte(mode)); err != nil {
		judge.Fail("mode is %.40q", mode)
	}
	s.Reason = judge.Text("reason", s.Reason)
	s.Activation.Remaining = time.Duration(judge.In("activation_ns", remaining, 0, math.MaxInt64))
	for i, column := range [...]struct {
		name string
		to   *uint64
	}{
		{"activation_height", &s.Activation.Height}, {"height", &s.Height}, {"log_cursor", &s.Cursor},
		{"applied", &s.Applied}, {"failed", &s.Failed},
	} {
		*column.to = judge.Uint(column.name, numbers[i])
	}
	return s, damaged("the row of settlement_state", judge.Err())
}

// damaged names the row of what a judge found.
func damaged(row string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", settlement.ErrCorrupt, row, err)
}

const failureColumns = `seq, reason, detail, failed_at, failed_at_nanos, tries,
	receipt_key, version, job_id, buyer, provider, quote_price, issued_at, issued_at_nanos, dry_run`

func putFailures(ctx context.Context, tx *sql.Tx, put []settlement.Failure) error {
	last := make(map[uint64]*settlement.Failure, len(put)) // one statement cannot put a row twice
	for i := range put {
		last[put[i].Seq] = &put[i]
	}
	var cols [15]sqldb.Array
	for _, f := range last {
		r := &f.Receipt
		cols[0].Uint(f.Seq)
		cols[1].Text(string(f.Reason))
		cols[2].Any(f.Detail)
		cols[3].Time(f.At)
		cols[4].Int(sqldb.Nanos(f.At))
		cols[5].Int(int64(f.Tries))
		cols[6].Bytes(r.Key[:])
		cols[7].Uint(uint64(r.Version))
		cols[8].Text(r.JobID)
		cols[9].Text(r.Buyer)
		cols[10].Text(r.Provider)
		cols[11].Uint(r.QuotePrice)
		cols[12].Time(r.IssuedAt)
		cols[13].Int(sqldb.Nanos(r.IssuedAt))
		cols[14].Bool(r.DryRun)
	}
	if len(last) == 0 {
		return nil
	}
	args := make([]any, len(cols))
	for i := range cols {
		args[i] = cols[i].String()
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO settlement_failures (`+failureColumns+`)
		SELECT * FROM unnest(
			CAST($1 AS TEXT)::NUMERIC(20,0)[], CAST($2 AS TEXT)::TEXT[], CAST($3 AS TEXT)::TEXT[],
			CAST($4 AS TEXT)::TIMESTAMPTZ[], CAST($5 AS TEXT)::INTEGER[], CAST($6 AS TEXT)::INTEGER[],
			CAST($7 AS TEXT)::BYTEA[], CAST($8 AS TEXT)::INTEGER[], CAST($9 AS TEXT)::TEXT[],
			CAST($10 AS TEXT)::TEXT[], CAST($11 AS TEXT)::TEXT[], CAST($12 AS TEXT)::NUMERIC(20,0)[],
			CAST($13 AS TEXT)::TIMESTAMPTZ[], CAST($14 AS TEXT)::INTEGER[], CAST($15 AS TEXT)::BOOLEAN[]) AS v
		ON CONFLICT (seq) DO UPDATE SET reason = EXCLUDED.reason, detail = EXCLUDED.detail,
			failed_at = EXCLUDED.failed_at, failed_at_nanos = EXCLUDED.failed_at_nanos, tries = EXCLUDED.tries,
			receipt_key = EXCLUDED.receipt_key, version = EXCLUDED.version, job_id = EXCLUDED.job_id,
			buyer = EXCLUDED.buyer, provider = EXCLUDED.provider, quote_price = EXCLUDED.quote_price,
			issued_at = EXCLUDED.issued_at, issued_at_nanos = EXCLUDED.issued_at_nanos, dry_run = EXCLUDED.dry_run`, args...)
	return err
}

func dropFailures(ctx context.Context, tx *sql.Tx, drop []uint64) error {
	if len(drop) == 0 {
		return nil
	}
	var seqs sqldb.Array
	for _, seq := range drop {
		seqs.Uint(seq)
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM settlement_failures WHERE seq = ANY(CAST($1 AS TEXT)::NUMERIC(20,0)[])`, seqs.String())
	return err
}
