package hexid

import (
	"bytes"
	"errors"
	"testing"
)

func TestDecode(t *testing.T) {
	invalid := errors.New("invalid")
	for _, tt := range []struct {
		text string
		want []byte // nil: refused
	}{
		{"0aff", []byte{0x0a, 0xff}},
		{"0AFf", []byte{0x0a, 0xff}},
		{"", nil},
		{"0af", nil},
		{"0aff0", nil},
		{"0aff00", nil},
		{"0xff", nil},
		{"0afg", nil},
		{" aff", nil},
	} {
		was := []byte{1, 2}
		id := bytes.Clone(was)
		err := Decode(id, []byte(tt.text), invalid)
		switch {
		case tt.want == nil && (!errors.Is(err, invalid) || !bytes.Equal(id, was)):
			t.Errorf("%q: %x, %v; want an error that wraps invalid, and the id as it was", tt.text, id, err)
		case tt.want != nil && (err != nil || !bytes.Equal(id, tt.want)):
			t.Errorf("%q: %x, %v; want %x", tt.text, id, err, tt.want)
		}
	}
}
