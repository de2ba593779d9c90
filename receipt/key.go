package receipt

import (
	"encoding/binary"
	"encoding/hex"

	"lukechampine.com/blake3"
)

// Key identifies a receipt for ever: what is recorded or settled under it once
// is never recorded or settled again.
type Key [32]byte

// MakeKey returns the key of version 1,
//
//	BLAKE3-256(job_id || buyer || provider || quote_price || version)
//
// with the price as 8 and the version as 2 bytes, big-endian. The ids run into
// one another without a separator, so two receipts can have one key; a [Store]
// compares their content.
func MakeKey(jobID, buyer, provider string, quotePrice uint64, version uint16) Key {
	var room [256]byte
	b := append(room[:0], jobID...)
	b = append(b, buyer...)
	b = append(b, provider...)
	b = binary.BigEndian.AppendUint64(b, quotePrice)
	b = binary.BigEndian.AppendUint16(b, version)
	return blake3.Sum256(b)
}

// ParseKey is the inverse of [Key.String]; it takes digits of either case. It
// returns [ErrKeySyntax] for anything else.
func ParseKey(s string) (k Key, err error) {
	err = k.UnmarshalText([]byte(s))
	return k, err
}

// String returns the key as 64 hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (k Key) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, k[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It leaves k alone on an
// error.
func (k *Key) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(k)) {
		return ErrKeySyntax
	}
	var parsed Key
	if _, err := hex.Decode(parsed[:], text); err != nil {
		return ErrKeySyntax
	}
	*k = parsed
	return nil
}
