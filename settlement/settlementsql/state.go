package settlementsql

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/settlement"
)

// The row of settlement_state holds the engine's state twice: in the column
// state, whole, with the revision of the row; and in columns of its own, for
// people, and for a node of the first release, which writes only those. Where the
// revisions differ such a node wrote last, and the columns count.

// selectState gives the columns of scanState.
const selectState = `SELECT revision, epoch, holder, ` + leaseLeft + `,
		state, mode, reason, activation_ns, activation_height, height, log_cursor, applied, failed
	FROM settlement_state WHERE id = 1`

// leaseLeft is how long the lease still runs, in microseconds; NULL when its end
// is infinite.
const leaseLeft = `CASE WHEN lease_until > '-infinity' AND lease_until < 'infinity' THEN
	CAST(GREATEST(-1, LEAST(9000000000000000, EXTRACT(EPOCH FROM lease_until) * 1000000 - EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)) AS BIGINT) END`

// leaseEnd is when a lease ends that is renewed now, for the argument $1.
const leaseEnd = `clock_timestamp() + CAST($1 AS BIGINT) * INTERVAL '1 microsecond'`

// updateState has the arguments lease, epoch, holder, revision, and those of
// stateArgs; takeLease has the new epoch and holder behind them.
const (
	updateState = `WITH ` + sqldb.Durable + ` UPDATE settlement_state SET ` + setState + `
		FROM durable WHERE id = 1 AND epoch = $2 AND holder = $3 AND revision = $4`
	takeLease = `UPDATE settlement_state SET ` + setState + `, epoch = $14, holder = $15
		WHERE id = 1 AND epoch = $2 AND holder = $3 AND revision = $4`
	setState = `revision = revision + 1, lease_until = ` + leaseEnd + `,
		state = $5, mode = $6, reason = $7, activation_ns = $8, activation_height = CAST($9 AS TEXT)::NUMERIC(20,0),
		height = CAST($10 AS TEXT)::NUMERIC(20,0), log_cursor = CAST($11 AS TEXT)::NUMERIC(20,0),
		applied = CAST($12 AS TEXT)::NUMERIC(20,0), failed = CAST($13 AS TEXT)::NUMERIC(20,0)`
)

// columns are the fields of a state that have one of their own.
type columns struct {
	mode, reason    string
	remaining       int64
	activation      uint64
	height, cursor  uint64
	applied, failed uint64
}

func columnsOf(s settlement.State) columns {
	remaining, _ := s.Activation.Remaining()
	height, _ := s.Activation.Height()
	return columns{
		s.Mode.String(), s.Reason, int64(remaining), height, s.Height, s.Cursor, s.Applied, s.Failed,
	}
}

// state is what a node of the first release has written.
func (c *columns) state() (s settlement.State, err error) {
	s = settlement.State{Reason: c.reason, Height: c.height, Cursor: c.cursor, Applied: c.applied, Failed: c.failed}
	if err := s.Mode.UnmarshalText([]byte(c.mode)); err != nil {
		return s, err
	}
	switch {
	case c.activation > 0:
		s.Activation = settlement.AtHeight(c.activation)
	case s.Mode == settlement.Armed:
		s.Activation = settlement.After(time.Duration(c.remaining))
	}
	return s, nil
}

// stateColumn is the JSON in the column state.
type stateColumn struct {
	Revision int64           `json:"revision"`
	State    json.RawMessage `json:"state"`
}

func stateArgs(revision int64, s settlement.State) []any {
	s.Reason = strings.ToValidUTF8(s.Reason, "\uFFFD")
	// Neither can fail: all of a state has a JSON.
	state, _ := json.Marshal(s)
	column, _ := json.Marshal(stateColumn{revision, state})
	c := columnsOf(s)
	return []any{
		string(column), c.mode, sqldb.Text(c.reason), c.remaining, number(c.activation),
		number(c.height), number(c.cursor), number(c.applied), number(c.failed),
	}
}

// number is the text of a NUMERIC: drivers take no uint64 beyond 2^63.
func number(n uint64) string { return strconv.FormatUint(n, 10) }

// stateRow is what the row of settlement_state holds: a lease and a state, or
// the reason why it holds none.
type stateRow struct {
	revision, epoch int64
	holder          string        // empty when the lease was given up
	left            time.Duration // of the lease; not positive when it is over
	state           settlement.State
	damage          error // wraps settlement.ErrCorrupt
}

// scanState reads into types that hold whatever the columns can. That the row is
// damaged is no error of the scan.
func scanState(from sqldb.Row) (row stateRow, err error) {
	var (
		left    sql.NullInt64
		text    string
		c       columns
		numbers [5]string
	)
	if err := from.Scan(&row.revision, &row.epoch, &row.holder, &left, &text, &c.mode, &c.reason, &c.remaining,
		&numbers[0], &numbers[1], &numbers[2], &numbers[3], &numbers[4]); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("%w: no row in settlement_state", settlement.ErrCorrupt)
		}
		return row, err
	}
	var judge sqldb.Judge
	judge.In("revision", row.revision, 0, math.MaxInt64-1)
	judge.In("epoch", row.epoch, 0, math.MaxInt64-1)
	row.holder = judge.Text("holder", row.holder)
	if row.left = time.Duration(left.Int64) * time.Microsecond; !left.Valid {
		judge.Fail("lease_until is infinite")
	}
	c.reason = judge.Text("reason", c.reason)
	judge.In("activation_ns", c.remaining, 0, math.MaxInt64)
	for i, column := range [...]struct {
		name string
		to   *uint64
	}{
		{"activation_height", &c.activation}, {"height", &c.height}, {"log_cursor", &c.cursor},
		{"applied", &c.applied}, {"failed", &c.failed},
	} {
		*column.to = judge.Uint(column.name, numbers[i])
	}
	row.state = judgeState(&judge, text, row.revision, &c)
	row.damage = damaged("the row of settlement_state", judge.Err())
	return row, nil
}

// judgeState chooses between the column state and the others.
func judgeState(judge *sqldb.Judge, text string, revision int64, c *columns) settlement.State {
	var column stateColumn
	if text != "" {
		if err := json.Unmarshal([]byte(text), &column); err != nil {
			judge.Fail("state: %w", err)
		}
	}
	if column.Revision != revision || text == "" {
		s, err := c.state()
		if err != nil {
			judge.Fail("mode is %.40q", c.mode)
		}
		return s
	}
	s, err := settlement.DecodeState(column.State)
	if err != nil {
		judge.Fail("state: %w", err)
	} else if columnsOf(s) != *c {
		judge.Fail("the columns are not those of the state")
	}
	return s
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
