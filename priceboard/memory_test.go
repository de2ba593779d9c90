package priceboard

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"testing"
)

// heap is the memory in use, once what is not is collected.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemory measures what the documentation of [Options] says a price takes: a
// full window, turned over several times, and saved.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("fills windows many times over")
	}
	const window = 60_000
	name := func(i int) string { return fmt.Sprintf("party %010d", i) } // 16 bytes
	for _, c := range []struct {
		name        string
		maxPerParty int
		party       func(i int) string
		price       func(r *rand.Rand, i int) uint64
		most        float64 // bytes a price, the names included
	}{
		{"random prices", 0, nil, nil, 40},
		{"rising prices", 0, nil, func(_ *rand.Rand, i int) uint64 { return uint64(i) }, 40},
		{"crowds", 0, nil, crowds(window), 40},
		{"one party", window, func(int) string { return "one" }, nil, 80},
		{"ten each", 10, func(i int) string { return name(i % (window / 10)) }, nil, 80 + (150+16)/10},
		{"a party each", 1, func(i int) string { return name(i) }, nil, 80 + 150 + 16},
		{"a party each, crowds", 1, func(i int) string { return name(i) }, crowds(window), 80 + 150 + 16},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		path := filepath.Join(t.TempDir(), "price_board.v1.bin")
		before := heap()
		b := openBoard(t, File(path, nil), &Options{Window: window, MaxPerParty: c.maxPerParty})
		most := 0.0
		for i := range 4 * window {
			o := Offer{Price: r.Uint64()}
			if c.price != nil {
				o.Price = c.price(r, i)
			}
			if c.party != nil {
				o.Party = c.party(i)
			}
			b.RecordOffer(o)
			if i+1 == window || i+1 == 4*window {
				if err := b.Save(t.Context()); err != nil {
					t.Fatal(err)
				}
				most = max(most, float64(heap()-before)/window)
			}
		}
		t.Logf("%s: %.1f bytes a price", c.name, most)
		if most > c.most {
			t.Errorf("%s: %.1f bytes a price, promised are at most %v", c.name, most, c.most)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		runtime.KeepAlive(b)
	}
}

// crowds are prices that leave one in each of many blocks.
func crowds(window int) func(r *rand.Rand, i int) uint64 {
	return func(_ *rand.Rand, i int) uint64 {
		base := uint64(i/window) << 32
		if k := i % window; k < window/blockSize*2 && i >= window {
			return base - 1<<32 + uint64(k)*blockSize/2
		}
		return base + uint64(i%window)
	}
}
