package priceboard

import (
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

func TestPublishedIsOneCacheLine(t *testing.T) {
	if n := unsafe.Sizeof(published{}); n != 64 {
		t.Errorf("%d bytes, want 64", n)
	}
	if p := uintptr(unsafe.Pointer(newBoard(t, nil).shown.Load())); p%64 != 0 {
		t.Errorf("at %#x, want a multiple of 64", p)
	}
	if MaxWindow >= 1<<countBits {
		t.Errorf("%d prices do not fit %d bits", MaxWindow, countBits)
	}
}

// TestPublishedCount: a change of the number of prices alone is published, too.
func TestPublishedCount(t *testing.T) {
	b := newBoard(t, nil)
	for n := range 6 {
		for range n {
			b.Record(0)
		}
		if bands, _ := b.Bands(); bands.N != n {
			t.Errorf("%d prices of 0: %+v", n, bands)
		}
		b.Reset()
		if bands, ok := b.Bands(); ok || bands.N != 0 {
			t.Errorf("after Reset: %+v", bands)
		}
	}
}

// TestTornReads hammers the bands so that every published triple has a
// recognisable shape, and readers look for another: bands of different moments,
// or with the count of another. It is the writer that says when to stop, so that
// no reader is done before the hammering begins.
func TestTornReads(t *testing.T) {
	publications := uint64(3_000_000)
	if testing.Short() {
		publications = 300_000
	}
	p := new(published)
	var stop atomic.Bool
	var reads atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			last, n := 0, 0
			for ; !stop.Load(); n++ {
				n, p25, median, p75 := p.get()
				if m := uint64(n); p25 != m*3 || median != m*5 || p75 != m*7 {
					t.Errorf("torn: %d, %d, %d of %d", p25, median, p75, n)
					return
				}
				if n < last {
					t.Errorf("went back from %d to %d", last, n)
					return
				}
				last = n
			}
			reads.Add(int64(n))
		})
	}
	for k := range publications {
		p.set(int(k), &[3]uint64{k * 3, k * 5, k * 7})
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d reads of %d publications", reads.Load(), publications)
}

// TestReaderDoesNotWait stops a writer between any two of its stores: readers
// still get the bands before.
func TestReaderDoesNotWait(t *testing.T) {
	p := new(published)
	p.set(4, &[3]uint64{2, 3, 4})
	for i := range 3 {
		next := &p.slot[p.head.Load()>>countBits&1^1]
		next[i].Store(99) // as far as set came
		if n, a, b, c := p.get(); n != 4 || a != 2 || b != 3 || c != 4 {
			t.Fatalf("after %d stores: %d, %d, %d of %d", i+1, a, b, c, n)
		}
	}
	p.set(5, &[3]uint64{6, 7, 8})
	if n, a, b, c := p.get(); n != 5 || a != 6 || b != 7 || c != 8 {
		t.Fatalf("%d, %d, %d of %d", a, b, c, n)
	}
}

// TestConcurrentUse lets everything run at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	b := newBoard(t, &Options{Window: 50, MaxPerParty: 20})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				b.RecordOffer(Offer{Price: uint64(i), Party: string(rune('a' + g))})
				if bands, ok := b.Bands(); ok && (bands.P25 > bands.Median || bands.Median > bands.P75) {
					t.Errorf("%+v", bands)
				}
				b.Quantile(0.9)
				b.BacklogAdjustedBid(uint64(i))
				if i%500 == 499 {
					b.Reset()
				}
			}
		})
	}
	wg.Wait()
}
