package receiptpebble_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

var stored = flag.Int("stored", 5_000_000, "receipts that the benchmarks find stored")

const batchSize = 8192

func fresh(from, n int) []receipt.Receipt {
	rs := make([]receipt.Receipt, n)
	for i := range rs {
		k := from + i
		rs[i] = receipt.New(fmt.Sprintf("job-%08d", k), fmt.Sprintf("buyer-%d", k%1000), fmt.Sprintf("provider-%d", k%100), 1, issued)
	}
	return rs
}

func mustAppend(b *testing.B, s *receiptpebble.Store, rs []receipt.Receipt) {
	if _, err := s.Append(context.Background(), rs); err != nil {
		b.Fatal(err)
	}
}

// floor writes one random key of 32 bytes and 100 bytes for each receipt.
func floor(b *testing.B, db *pebbledb.DB, rng *rand.Rand) {
	batch := dbtest.Inside(db).Batch()
	var key [32]byte
	var value [100]byte
	for range batchSize {
		for j := 0; j < 32; j += 8 {
			binary.LittleEndian.PutUint64(key[j:], rng.Uint64())
		}
		batch.Set(key[:], value[:], nil)
	}
	if err := dbtest.Inside(db).Commit(batch); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAppendBatch appends 8,192 new receipts at a time when -stored are
// there, against Pebble with the same options writing one random key of 32
// bytes and 100 bytes for each, synced per batch.
func BenchmarkAppendBatch(b *testing.B) {
	s, err := receiptpebble.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	db, err := pebbledb.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	n := 0
	for ; n < *stored; n += batchSize {
		mustAppend(b, s, fresh(n, batchSize))
		floor(b, db, rng)
	}
	var base time.Duration
	batches := 0
	for b.Loop() {
		b.StopTimer()
		rs := fresh(n, batchSize)
		n += batchSize
		start := time.Now()
		floor(b, db, rng)
		base += time.Since(start)
		batches++
		b.StartTimer()
		mustAppend(b, s, rs)
	}
	b.ReportMetric(float64(base)/float64(b.Elapsed()), "xfloor")
	b.ReportMetric(float64(batches*batchSize)/b.Elapsed().Seconds(), "appended/s")
}

// BenchmarkReopen opens a store of -stored receipts whose check is left for
// later, and reports how many times as long the median takes as that of a
// store of 100,000.
func BenchmarkReopen(b *testing.B) {
	small, large := b.TempDir(), b.TempDir()
	fill(b, small, 100_000)
	fill(b, large, *stored)
	reopen := func(dir string) time.Duration {
		start := time.Now()
		s, err := receiptpebble.Open(dir, &receiptpebble.Options{CheckLater: true})
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(start)
		s.Close()
		return took
	}
	var base, took []time.Duration
	for b.Loop() {
		base = append(base, reopen(small))
		took = append(took, reopen(large))
	}
	slices.Sort(base)
	slices.Sort(took)
	median := func(d []time.Duration) float64 { return float64(d[len(d)/2]) }
	b.ReportMetric(median(took), "ns/open")
	b.ReportMetric(median(took)/median(base), "xsmall")
}

func fill(b *testing.B, dir string, n int) {
	s, err := receiptpebble.Open(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < n; i += batchSize {
		mustAppend(b, s, fresh(i, batchSize))
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCheck reads all that is stored.
func BenchmarkCheck(b *testing.B) {
	dir := b.TempDir()
	const n = 500_000
	fill(b, dir, n)
	s, err := receiptpebble.Open(dir, &receiptpebble.Options{CheckLater: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		if err := s.Check(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(n/b.Elapsed().Seconds()*float64(b.N), "receipts/s")
}
