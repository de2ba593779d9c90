package bloom

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"unsafe"
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
	keys := randomKeys(firstKeys*5, 1) // four segments
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

// TestMemory measures what a key takes at the worst moments, one after each
// growth, and at the best, one before.
func TestMemory(t *testing.T) {
	var f Filter
	size := func() (bytes int) {
		for _, s := range f.segments {
			bytes += cap(s.blocks) * int(unsafe.Sizeof(block{}))
		}
		return bytes
	}
	var key [32]byte
	for _, full := range []int{firstKeys, 2 * firstKeys, 4 * firstKeys, 8 * firstKeys} {
		for ; f.Len() < full; f.Add(&key) {
			binary.LittleEndian.PutUint64(key[:], uint64(f.Len()))
		}
		if got := float64(size()) / float64(f.Len()); got != 2 {
			t.Errorf("%d keys: %.2f bytes each, want 2", f.Len(), got)
		}
		f.Add(&key)
		if got := float64(size()) / float64(f.Len()); got > 4 {
			t.Errorf("%d keys: %.2f bytes each, promised are at most 4", f.Len(), got)
		}
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
