package match

import (
	"encoding/hex"

	"github.com/computemarket/computemarket/internal/hexid"
)

// MatchID names a match, for ever: no other match has it, of this book or of
// another one, in this process or in a later one. The zero MatchID is none.
type MatchID [16]byte

// ParseMatchID is the inverse of [MatchID.String]; it takes digits of either
// case. It returns [ErrMatchID] for anything else.
func ParseMatchID(s string) (id MatchID, err error) {
	err = id.UnmarshalText([]byte(s))
	return id, err
}

// IsZero reports whether id is none.
func (id MatchID) IsZero() bool { return id == MatchID{} }

// String returns 32 lower-case hexadecimal digits.
func (id MatchID) String() string { return hex.EncodeToString(id[:]) }

// AppendText implements [encoding.TextAppender]. It never fails.
func (id MatchID) AppendText(b []byte) ([]byte, error) { return hex.AppendEncode(b, id[:]), nil }

// MarshalText implements [encoding.TextMarshaler]. It never fails.
func (id MatchID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText implements [encoding.TextUnmarshaler]. It returns [ErrMatchID] as
// [ParseMatchID] does, and then leaves id as it was.
func (id *MatchID) UnmarshalText(text []byte) error { return hexid.Decode(id[:], text, ErrMatchID) }
