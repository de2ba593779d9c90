package couriersql

import (
	"context"
	"database/sql"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/internal/sqldb"
)

// Move implements courier.Store.
func (s *Store) Move(ctx context.Context, moves []courier.Move) (applied int, err error) {
	for _, m := range moves {
		if err := m.Validate(); err != nil {
			return 0, err
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(moves) == 0 {
		return 0, nil
	}
	err = sqldb.Run(ctx, s.db, sqldb.Idle, func(tx *sql.Tx) error {
		stored, err := lock(ctx, tx, moves)
		if err != nil {
			return err
		}
		c := new(change)
		for i := range moves {
			c.take(&moves[i], stored)
		}
		applied = c.applied
		return c.write(ctx, tx)
	})
	if err != nil {
		return 0, translate(ctx, err)
	}
	return applied, nil
}

// lock keeps others from appending and moving, in the same order as Append, and
// returns the receipts of moves as they are stored, but for damaged ones.
func lock(ctx context.Context, tx *sql.Tx, moves []courier.Move) (map[courier.ID]courier.Receipt, error) {
	if err := lockLog(ctx, tx); err != nil {
		return nil, err
	}
	var ids sqldb.Array
	for i := range moves {
		ids.Bytes(moves[i].Receipt.ID[:])
	}
	rows, err := sqldb.Collect(ctx, tx, scanRow,
		selectRows+`WHERE id = ANY(CAST($1 AS TEXT)::BYTEA[]) ORDER BY id FOR UPDATE`, ids.String())
	stored := make(map[courier.ID]courier.Receipt, len(rows))
	for i := range rows {
		if rows[i].damage == nil {
			stored[rows[i].ID] = rows[i].Receipt
		}
	}
	return stored, err
}

func lockLog(ctx context.Context, tx *sql.Tx) error {
	var last int64
	return logError(tx.QueryRowContext(ctx, `SELECT last_seq FROM courier_log WHERE id = 1 FOR UPDATE`).Scan(&last))
}

// change is what a Move does in the end.
type change struct {
	applied int
	more    [courier.Dead + 1]int // by state, what its list gains

	gone                            sqldb.Array
	moved                           int
	id, state, since, cause, reason sqldb.Array
}

// take applies a move if its receipt is still where the caller saw it. A receipt
// is taken once.
func (c *change) take(m *courier.Move, stored map[courier.ID]courier.Receipt) {
	r := &m.Receipt
	s, ok := stored[r.ID]
	if !ok || s.Seq != r.Seq || s.State != r.State {
		return
	}
	delete(stored, r.ID)
	c.applied++
	c.more[r.State]--
	c.more[m.To]++
	if m.To == courier.Gone {
		c.gone.Bytes(r.ID[:])
		return
	}
	cause, reason := "", ""
	if m.To == courier.Dead {
		cause, reason = m.Cause.String(), m.Reason
	}
	c.moved++
	c.id.Bytes(r.ID[:])
	c.state.Text(m.To.String())
	c.since.Time(m.At)
	c.cause.Text(cause)
	c.reason.Text(reason)
}

func (c *change) write(ctx context.Context, tx *sql.Tx) error {
	if c.moved > 0 {
		if _, err := tx.ExecContext(ctx, `UPDATE courier_receipts AS r
			SET state = v.state, since = v.since, cause = v.cause, reason = v.reason
			FROM unnest(CAST($1 AS TEXT)::BYTEA[], CAST($2 AS TEXT)::TEXT[], CAST($3 AS TEXT)::TIMESTAMPTZ[],
				CAST($4 AS TEXT)::TEXT[], CAST($5 AS TEXT)::TEXT[]) AS v (id, state, since, cause, reason)
			WHERE r.id = ANY(CAST($1 AS TEXT)::BYTEA[]) AND r.id = v.id`,
			c.id.String(), c.state.String(), c.since.String(), c.cause.String(), c.reason.String()); err != nil {
			return err
		}
	}
	if c.more[courier.Gone] > 0 {
		if _, err := tx.ExecContext(ctx, `DELETE FROM courier_receipts WHERE id = ANY(CAST($1 AS TEXT)::BYTEA[])`, c.gone.String()); err != nil {
			return err
		}
	}
	if c.applied == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `UPDATE courier_log
		SET pending = pending + $1, acknowledged = acknowledged + $2, dead = dead + $3 WHERE id = 1`,
		c.more[courier.Pending], c.more[courier.Acknowledged], c.more[courier.Dead])
	return logError(err)
}
