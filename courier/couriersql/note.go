package couriersql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/internal/sqldb"
)

var _ courier.Notebook = (*Store)(nil)

// Note implements courier.Notebook.
func (s *Store) Note(ctx context.Context) (note []byte, last uint64, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	err = s.db.QueryRowContext(ctx, `SELECT last_seq, (SELECT note FROM courier_note WHERE id = 1)
		FROM courier_log WHERE id = 1`).Scan(&last, &note)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: courier_log is empty", courier.ErrCorrupt)
	}
	return note, last, translate(ctx, err)
}

// SetNote implements courier.Notebook.
func (s *Store) SetNote(ctx context.Context, note []byte) error {
	if len(note) > courier.MaxNote {
		return fmt.Errorf("%w: a note of %d bytes", courier.ErrInvalid, len(note))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return translate(ctx, sqldb.Run(ctx, s.db, sqldb.Idle, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO courier_note (id, note) VALUES (1, $1)
			ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note`, append([]byte{}, note...))
		return err
	}))
}
