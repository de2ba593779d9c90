package sqldb

import (
	"database/sql"
	"fmt"
	"strconv"
	"time"
)

// A Judge turns the columns of one row, as they were scanned, into what they
// stand for, and keeps the first reason why the row cannot be one that this
// library wrote. The zero value is ready to use.
type Judge struct{ err error }

// Err returns nil while the row may be sound, and else an error that wraps
// ErrCorrupt and names a column.
func (j *Judge) Err() error { return j.err }

// Fail says that the row is damaged.
func (j *Judge) Fail(format string, args ...any) {
	if j.err == nil {
		j.err = fmt.Errorf("%w: %w", ErrCorrupt, fmt.Errorf(format, args...))
	}
}

// Uint reads a NUMERIC, which was scanned as text.
func (j *Judge) Uint(column, text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		j.Fail("%s is %.40s", column, text)
	}
	return n
}

// In returns n, which is at least least and at most most in a sound row.
func (j *Judge) In(column string, n, least, most int64) int64 {
	if n < least || n > most {
		j.Fail("%s is %d", column, n)
	}
	return n
}

// Text reads what [Text] made.
func (j *Judge) Text(column, text string) string {
	plain, ok := Plain(text)
	if !ok {
		j.Fail("%s is %.40q", column, text)
	}
	return plain
}

// Bytes copies b into all of dst.
func (j *Judge) Bytes(column string, dst, b []byte) {
	if len(b) != len(dst) {
		j.Fail("%s has %d bytes, not %d", column, len(b), len(dst))
		return
	}
	copy(dst, b)
}

// Time puts together what [Finite] and [Nanos] give.
func (j *Judge) Time(column string, at sql.NullTime, nanos int64) time.Time {
	if !at.Valid {
		j.Fail("%s is infinite", column)
	}
	return at.Time.Add(time.Duration(j.In(column+"_nanos", nanos, 0, 999))).UTC()
}

// Finite is the expression for a TIMESTAMPTZ that reads what no time.Time can
// hold as NULL.
func Finite(column string) string {
	return `CASE WHEN ` + column + ` > '-infinity' AND ` + column + ` < 'infinity' THEN ` + column + ` END`
}
