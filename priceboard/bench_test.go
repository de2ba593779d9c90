package priceboard

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fullBoard returns a board whose window is full and has been turned over, and
// random prices to go on with.
func fullBoard(b *testing.B, window int) (*Board, []uint64) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, uint64(window)))
	board := newBoard(b, &Options{Window: window})
	for range 2 * window {
		board.Record(r.Uint64())
	}
	prices := make([]uint64, 1<<16)
	for i := range prices {
		prices[i] = r.Uint64()
	}
	return board, prices
}

// BenchmarkRecordBands is one Record and one Bands of a full window with random
// prices. Its floor keeps the same window in a plain slice, copies it and sorts
// the copy.
// Targets: 65, 200 and 450 ns; 50, 2,500 and 100,000 xfloor; no allocation.
func BenchmarkRecordBands(b *testing.B) {
	for _, window := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			board, prices := fullBoard(b, window)
			floor := copyAndSort(window, append(board.queue.appendTo(nil), prices...))
			var sum, i uint64
			b.ReportAllocs()
			for b.Loop() {
				i++
				board.Record(prices[i%uint64(len(prices))] * i)
				bands, _ := board.Bands()
				sum += bands.P25 + bands.Median + bands.P75
			}
			perOp := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			b.ReportMetric(floor/perOp, "xfloor")
			b.ReportMetric(floor, "floor-ns")
			sink = sum
		})
	}
}

var sink uint64

// copyAndSort returns the nanoseconds it takes to slide a window over prices by
// one and read three bands from a sorted copy: the median of several runs.
func copyAndSort(window int, prices []uint64) float64 {
	var runs []float64
	scratch := make([]uint64, window)
	at := 0
	for range 5 {
		rounds := max(1, 200_000/window)
		start := time.Now()
		for range rounds {
			if at++; at+window > len(prices) {
				at = 0
			}
			copy(scratch, prices[at:])
			slices.Sort(scratch)
			sink += scratch[window/4] + scratch[window/2] + scratch[window*3/4]
		}
		runs = append(runs, float64(time.Since(start).Nanoseconds())/float64(rounds))
	}
	slices.Sort(runs)
	return runs[len(runs)/2]
}

// BenchmarkBands is the read alone, with no writer.
func BenchmarkBands(b *testing.B) {
	board, _ := fullBoard(b, 100)
	var sum uint64
	for b.Loop() {
		bands, _ := board.Bands()
		sum += bands.Median
	}
	sink = sum
}

// BenchmarkBandsContended is the read while another goroutine records without
// pause. Target: 10 ns. Its floor is the same read under a sync.RWMutex.
func BenchmarkBandsContended(b *testing.B) {
	board, prices := fullBoard(b, 100)
	var sum uint64

	var mu sync.RWMutex
	var locked Bands
	stop := hammer(func(i int) {
		mu.Lock()
		locked = Bands{uint64(i), uint64(i), uint64(i), i}
		mu.Unlock()
	})
	const rounds = 200_000
	start := time.Now()
	for range rounds {
		mu.RLock()
		sum += locked.Median
		mu.RUnlock()
	}
	floor := float64(time.Since(start).Nanoseconds()) / rounds
	stop()

	stop = hammer(func(i int) { board.Record(prices[i%len(prices)] * uint64(i)) })
	for b.Loop() {
		bands, _ := board.Bands()
		sum += bands.Median
	}
	perOp := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	b.ReportMetric(float64(stop())/b.Elapsed().Seconds()/1e6, "Mrecords/s")
	b.ReportMetric(floor/perOp, "xfloor")
	sink = sum
}

// hammer calls f without pause until stop, which returns how often it did.
func hammer(f func(i int)) (stop func() int) {
	var done atomic.Bool
	var wg sync.WaitGroup
	n := 0
	started := make(chan struct{})
	wg.Go(func() {
		close(started)
		for !done.Load() {
			n++
			f(n)
		}
	})
	<-started
	return func() int { done.Store(true); wg.Wait(); return n }
}

// BenchmarkRecordParties is Record with a limit per party, among 1000 parties.
func BenchmarkRecordParties(b *testing.B) {
	for _, window := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			board := newBoard(b, &Options{Window: window, MaxPerParty: 5})
			r := rand.New(rand.NewPCG(1, 1))
			names := make([]string, 1000)
			for i := range names {
				names[i] = fmt.Sprint("party ", i)
			}
			b.ReportAllocs()
			for b.Loop() {
				board.RecordOffer(Offer{Price: r.Uint64(), Party: names[r.IntN(len(names))]})
			}
		})
	}
}

// BenchmarkOneBlock finds oneBlock: the window above which blocks win over one
// sorted array.
func BenchmarkOneBlock(b *testing.B) {
	for _, window := range []int{1000, 2000, 3000, 4000, 5000, 6000} {
		for _, size := range []int{window, 128, blockSize, 512} {
			b.Run(fmt.Sprintf("window=%d/size=%d", window, size), func(b *testing.B) {
				r := rand.New(rand.NewPCG(1, uint64(window)))
				s := &sorted{size: size}
				s.reset()
				ring := newRing(window)
				for range window {
					price := r.Uint64()
					ring.push(price, "")
					s.add(price)
				}
				for b.Loop() {
					price := r.Uint64()
					left, _ := ring.push(price, "")
					s.replace(left, price)
				}
			})
		}
	}
}
