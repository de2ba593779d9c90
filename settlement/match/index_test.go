package match

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// The quick look at a short id and the thorough one agree, and ids that differ
// have names that differ.
func TestName(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := make(map[name]string)
	letters := []byte("a{}\x00\x7b\x7c\x7d\x7f\x80\xfc\xff")
	for range 200_000 {
		id := make([]byte, rng.IntN(shortID+3))
		for i := range id {
			id[i] = letters[0]
			if rng.IntN(8) == 0 {
				id[i] = letters[rng.IntN(len(letters))]
			}
		}
		s := string(id)
		n, plain := nameOf(s)
		if bad := strings.ContainsFunc(s, func(r rune) bool { return r == separator || r >= 0x80 }); plain && bad {
			t.Fatalf("%q passes for plain", s)
		}
		if len(s) > shortID {
			if n != (name{c: long}) || plain {
				t.Fatalf("%q, a long id, has %v, %v", s, n, plain)
			}
			continue
		}
		if was, ok := seen[n]; ok && was != s {
			t.Fatalf("%q and %q have one name", was, s)
		}
		seen[n] = s
	}
	if _, plain := nameOf("order-0000000001"); !plain {
		t.Error("a plain id takes the slow way")
	}
}
