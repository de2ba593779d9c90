package sqldb

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Array is a column of a batch: a PostgreSQL array as text, which every driver
// can send and a statement casts:
//
//	INSERT … SELECT … FROM unnest(CAST($1 AS TEXT)::BYTEA[], …)
//
// So a batch of any size is one statement, and always the same one.
type Array struct{ b []byte }

func (a *Array) next() {
	if len(a.b) == 0 {
		a.b = append(a.b, '{')
	} else {
		a.b = append(a.b, ',')
	}
}

// Text appends a string, as [Text] makes it.
func (a *Array) Text(s string) {
	a.next()
	a.b = append(a.b, '"')
	s = Text(s)
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			a.b = append(a.b, '\\')
		}
		a.b = append(a.b, s[i])
	}
	a.b = append(a.b, '"')
}

// Any appends a string as [AnyText] makes it.
func (a *Array) Any(s string) { a.Text(strings.ToValidUTF8(s, "\uFFFD")) }

// Bytes appends a BYTEA.
func (a *Array) Bytes(v []byte) {
	a.next()
	a.b = append(a.b, `"\\x`...)
	a.b = hex.AppendEncode(a.b, v)
	a.b = append(a.b, '"')
}

// Uint appends a number.
func (a *Array) Uint(v uint64) {
	a.next()
	a.b = strconv.AppendUint(a.b, v, 10)
}

// Int appends a number.
func (a *Array) Int(v int64) {
	a.next()
	a.b = strconv.AppendInt(a.b, v, 10)
}

// Bool appends a truth value.
func (a *Array) Bool(v bool) {
	a.next()
	if v {
		a.b = append(a.b, 't')
	} else {
		a.b = append(a.b, 'f')
	}
}

// Time appends a TIMESTAMPTZ, which ends at the microsecond; see [Nanos].
func (a *Array) Time(t time.Time) {
	a.next()
	a.b = append(a.b, '"')
	a.b = append(a.b, Timestamp(t)...)
	a.b = append(a.b, '"')
}

// String is the argument for the statement.
func (a *Array) String() string {
	if len(a.b) == 0 {
		return "{}"
	}
	return string(a.b) + "}"
}

// Text makes a string fit for a TEXT column, which takes no NUL: NUL becomes
// 01 01 and 01 becomes 01 02. Order stays, and so does every string without
// them. It has to be UTF-8.
func Text(s string) string {
	if strings.IndexByte(s, 0) < 0 && strings.IndexByte(s, 1) < 0 {
		return s
	}
	b := make([]byte, 0, len(s)+8)
	for i := range len(s) {
		if s[i] <= 1 {
			b = append(b, 1, s[i]+1)
		} else {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// Plain is the inverse of [Text]. ok is false for what Text cannot have made of
// UTF-8.
func Plain(s string) (plain string, ok bool) {
	ok = utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
	if strings.IndexByte(s, 1) < 0 {
		return s, ok
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != 1 {
			b = append(b, s[i])
			continue
		}
		if i++; i == len(s) || s[i] != 1 && s[i] != 2 {
			return s, false
		}
		b = append(b, s[i]-1)
	}
	return string(b), ok
}

// AnyText makes any bytes fit for a TEXT column: what is not UTF-8 is replaced.
func AnyText(s string) string { return Text(strings.ToValidUTF8(s, "\uFFFD")) }

// Timestamp is t as a TIMESTAMPTZ in text, cut to the microsecond.
func Timestamp(t time.Time) string {
	t = t.UTC()
	year, suffix := t.Year(), ""
	if year <= 0 { // the year before 1 is 1 BC
		year, suffix = 1-year, " BC"
	}
	return pad(year, 4) + t.Format("-01-02 15:04:05.000000+00") + suffix
}

func pad(n, width int) string {
	s := strconv.Itoa(n)
	return strings.Repeat("0", max(width-len(s), 0)) + s
}

// Nanos is what Timestamp cuts off, 0 to 999.
func Nanos(t time.Time) int64 { return int64(t.Nanosecond() % 1000) }
