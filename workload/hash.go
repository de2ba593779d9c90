package workload

import (
	"encoding/hex"
	"fmt"
)

// Hash is a BLAKE3-256 hash. It prints, parses and marshals as 64 hexadecimal
// digits, so it stands in JSON and flags as it is.
type Hash [32]byte

// ParseHash is the inverse of [Hash.String]. It takes digits of either case and
// returns [ErrHash] for anything but 64 of them.
func ParseHash(s string) (Hash, error) {
	var h Hash
	return h, h.UnmarshalText([]byte(s))
}

// IsZero reports whether h was never set.
func (h Hash) IsZero() bool { return h == Hash{} }

// String returns 64 lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// AppendText implements [encoding.TextAppender]. It never fails.
func (h Hash) AppendText(b []byte) ([]byte, error) { return hex.AppendEncode(b, h[:]), nil }

// MarshalText implements [encoding.TextMarshaler]. It never fails.
func (h Hash) MarshalText() ([]byte, error) { return h.AppendText(nil) }

// UnmarshalText implements [encoding.TextUnmarshaler]. It returns [ErrHash] as
// [ParseHash] does, and then leaves h as it was.
func (h *Hash) UnmarshalText(text []byte) error {
	var v Hash
	if len(text) != hex.EncodedLen(len(v)) {
		return fmt.Errorf("%w: %d digits, want %d", ErrHash, len(text), hex.EncodedLen(len(v)))
	}
	if _, err := hex.Decode(v[:], text); err != nil {
		return fmt.Errorf("%w: %w", ErrHash, err)
	}
	*h = v
	return nil
}
