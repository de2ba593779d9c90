package courierpebble_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"flag"
	"io"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
)

var tenMillion = flag.Bool("10m", false, "BenchmarkFlushMemory with 10 million receipts instead of 1")

// Sizes of what the floors write: those of a receipt's record.
const (
	keySize   = 16
	valueSize = 100
)

// bare opens Pebble as the store does, without anything around it.
func bare(b *testing.B) *pebble.DB {
	db, err := pebble.Open(b.TempDir(), &pebble.Options{
		FS:                          vfs.Default,
		Logger:                      quiet{},
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		CacheSize:                   64 << 20,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return db
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

func openBench(b *testing.B, o *courier.Options) *courier.Courier {
	s, err := courierpebble.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	c, err := courier.New(s, o)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// producers calls f n times from each of many goroutines and returns the time.
func producers(b *testing.B, many, n int, f func() error) time.Duration {
	began := time.Now()
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			for range n {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// BenchmarkSend: 64 producers of 1 KiB bundles, against synced sets.
func BenchmarkSend(b *testing.B) {
	const many, each = 64, 40
	c, db := openBench(b, nil), bare(b)
	bundle := make([]byte, 1024)
	rand.Read(bundle)
	var ours, floor time.Duration
	n := 0
	for b.Loop() {
		ours += producers(b, many, each, func() error {
			_, err := c.Send(context.Background(), bytes.NewReader(bundle), "sender")
			return err
		})
		floor += producers(b, many, each, func() error {
			kv := make([]byte, keySize+valueSize)
			rand.Read(kv[:keySize])
			return db.Set(kv[:keySize], kv[keySize:], pebble.Sync)
		})
		n += many * each
	}
	b.ReportMetric(float64(n)/ours.Seconds(), "sends/s")
	b.ReportMetric(floor.Seconds()/ours.Seconds(), "xfloor")
	b.ReportMetric(0, "ns/op")
}

func fill(b *testing.B, c *courier.Courier, n int) {
	const many = 500
	producers(b, many, n/many, func() error {
		_, err := c.Send(context.Background(), bytes.NewReader([]byte("bundle")), "sender")
		return err
	})
}

type nothing struct{}

func (nothing) Forward(context.Context, courier.Receipt, io.Reader) error { return nil }

// BenchmarkFlush: a forwarder that does nothing, against walking over as many
// keys and deleting them in synced batches of the same size.
func BenchmarkFlush(b *testing.B) {
	const n, groupSize = 50_000, 256
	c, db := openBench(b, &courier.Options{GroupSize: groupSize}), bare(b)
	var ours, floor time.Duration
	for b.Loop() {
		fill(b, c, n)
		began := time.Now()
		r, err := c.Flush(context.Background(), nothing{})
		ours += time.Since(began)
		if err != nil || r.Forwarded != n {
			b.Fatal(r, err)
		}

		batch := db.NewBatch()
		for i := range uint64(n) {
			kv := make([]byte, keySize+valueSize)
			binary.BigEndian.PutUint64(kv, i)
			batch.Set(kv[:keySize], kv[keySize:], nil)
		}
		if err := batch.Commit(pebble.Sync); err != nil {
			b.Fatal(err)
		}
		began = time.Now()
		deleteAll(b, db, n, groupSize)
		floor += time.Since(began)
	}
	b.ReportMetric(float64(n)*float64(b.N)/ours.Seconds(), "receipts/s")
	b.ReportMetric(floor.Seconds()/ours.Seconds(), "xfloor")
	b.ReportMetric(0, "ns/op")
}

func deleteAll(b *testing.B, db *pebble.DB, n, groupSize int) {
	it, err := db.NewIter(nil)
	if err != nil {
		b.Fatal(err)
	}
	defer it.Close()
	batch := db.NewBatch()
	commit := func() {
		if err := batch.Commit(pebble.Sync); err != nil {
			b.Fatal(err)
		}
		batch.Reset()
	}
	seen := 0
	for ok := it.First(); ok; ok = it.Next() {
		if _, err := it.ValueAndErr(); err != nil {
			b.Fatal(err)
		}
		batch.Delete(it.Key(), nil)
		if seen++; seen%groupSize == 0 {
			commit()
		}
	}
	commit()
	if seen != n {
		b.Fatalf("%d keys, want %d", seen, n)
	}
}

// BenchmarkFlushMemory compares the live heap in the midst of one flush of 1 M
// receipts with that in flushes of 10 k, a hundred of them, so that both
// databases come to hold as much and have seen as much. The ratio is that of the
// medians. The greatest are those moments at which Pebble writes tables.
func BenchmarkFlushMemory(b *testing.B) {
	const small = 10_000
	large := 1_000_000
	if *tenMillion {
		large = 10_000_000
	}
	for b.Loop() {
		short, long := flushHeap(b, small, large/small), flushHeap(b, large, 1)
		b.ReportMetric(short.median, "MB@10k")
		b.ReportMetric(long.median, "MB@large")
		b.ReportMetric(short.most, "most-MB@10k")
		b.ReportMetric(long.most, "most-MB@large")
		b.ReportMetric(long.median/short.median, "xfloor")
	}
	b.ReportMetric(0, "ns/op")
}

type heaps struct{ median, most float64 } // in MB

// flushHeap flushes n receipts at a time and returns the live heap at points
// 10,000 receipts apart.
func flushHeap(b *testing.B, n, flushes int) heaps {
	const every = 10_000
	s, err := courierpebble.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	points := make([]float64, 0, n*flushes/every)
	next := uint64(every / 2)
	c, err := courier.New(s, &courier.Options{Progress: func(r courier.Report) {
		if r.Forwarded >= next {
			next += every
			runtime.GC()
			live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
			metrics.Read(live)
			points = append(points, float64(live[0].Value.Uint64())/1e6)
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	for range flushes {
		fill(b, c, n)
		runtime.GC() // twice: what the senders left in a sync.Pool survives once
		runtime.GC()
		next = every / 2
		if r, err := c.Flush(context.Background(), nothing{}); err != nil || r.Forwarded != uint64(n) {
			b.Fatal(r, err)
		}
	}
	slices.Sort(points)
	return heaps{points[len(points)/2], points[len(points)-1]}
}
