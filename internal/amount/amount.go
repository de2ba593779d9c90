// Package amount is the JSON of credits: a string of decimal digits, since many
// readers of JSON lose digits of numbers beyond 2^53.
package amount

import (
	"fmt"
	"strconv"
	"strings"
)

// JSON is an amount or a price within a struct that is only there to be
// marshaled.
type JSON uint64

// MarshalJSON writes a string.
func (a JSON) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, strconv.FormatUint(uint64(a), 10)), nil
}

// UnmarshalJSON reads a string, or a number that is written as a whole one. It
// leaves a alone on an error; null, as everywhere in JSON, changes nothing.
func (a *JSON) UnmarshalJSON(data []byte) error {
	text := string(data)
	if text == "null" {
		return nil
	}
	if s, ok := strings.CutPrefix(text, `"`); ok {
		text = strings.TrimSuffix(s, `"`)
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("%.40s is not a whole number from 0 to 2^64-1", data)
	}
	*a = JSON(v)
	return nil
}
