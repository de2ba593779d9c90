package bloom

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

func randomKeys(n int, seed uint64) [][32]byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	keys := make([][32]byte, n)
	for i := range keys {
		for j := 0; j < 32; j += 8 {
			binary.LittleEndian.PutUint64(keys[i][j:], rng.Uint64())
		}
	}
	return keys
}

func TestNothingAddedIsMissing(t *testing.T) {
	var f Filter
	if f.Has(&[32]byte{}) {
		t.Error("the zero Filter has a key")
	}
	keys := randomKeys(firstKeys*4, 1) // three segments
	for i := range keys {
		f.Add(&keys[i])
	}
	if f.Len() != len(keys) {
		t.Errorf("Len %d, want %d", f.Len(), len(keys))
	}
	for i := range keys {
		if !f.Has(&keys[i]) {
			t.Fatalf("key %d is lost", i)
		}
	}
}

// Keys that differ in few bits must spread as well as random ones.
func TestFalsePositives(t *testing.T) {
	var f Filter
	for i := range uint64(firstKeys) {
		var k [32]byte
		binary.LittleEndian.PutUint64(k[:], i)
		f.Add(&k)
	}
	const tries = 1 << 20
	wrong := 0
	for i := range uint64(tries) {
		var k [32]byte
		binary.LittleEndian.PutUint64(k[:], i+firstKeys)
		if f.Has(&k) {
			wrong++
		}
	}
	if rate := float64(wrong) / tries; rate > 0.004 {
		t.Errorf("%.2f %% false positives in a full segment, want under 0.4 %%", 100*rate)
	} else {
		t.Logf("%.3f %% false positives", 100*rate)
	}
}

func BenchmarkHasAbsent(b *testing.B) {
	var f Filter
	for _, k := range randomKeys(5_000_000, 1) {
		f.Add(&k)
	}
	absent := randomKeys(1<<16, 2)
	i := 0
	for b.Loop() {
		f.Has(&absent[i&(1<<16-1)])
		i++
	}
}
