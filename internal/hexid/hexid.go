// Package hexid is the text of ids and hashes: lower-case hexadecimal digits.
package hexid

import (
	"encoding/hex"
	"fmt"
)

// Decode reads id from text, whose digits may be of either case. It leaves id
// alone when text is anything else, and returns an error that wraps invalid.
func Decode(id []byte, text []byte, invalid error) error {
	if len(text) != hex.EncodedLen(len(id)) {
		return fmt.Errorf("%w: %d bytes where %d hexadecimal digits are meant", invalid, len(text), hex.EncodedLen(len(id)))
	}
	var room [64]byte
	parsed := append(room[:0], id...)
	if _, err := hex.Decode(parsed, text); err != nil {
		return fmt.Errorf("%w: %w", invalid, err)
	}
	copy(id, parsed)
	return nil
}
