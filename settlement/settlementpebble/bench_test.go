package settlementpebble_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
)

var stored = flag.Int("stored", 5_000_000, "receipts that BenchmarkSettleBatch finds stored")

// benchMarket is a market on disk that is Real, with rich buyers.
func benchMarket(b *testing.B, dir string) *market {
	b.Helper()
	ctx := context.Background()
	db, err := pebbledb.Open(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	m := &market{close: db.Close}
	var e1, e2, e3 error
	m.receipts, e1 = receiptpebble.New(db, nil)
	m.ledger, e2 = settlementpebble.NewLedger(db, nil)
	m.store, e3 = settlementpebble.NewStore(db, nil)
	if err := errors.Join(e1, e2, e3); err != nil {
		b.Fatal(err)
	}
	for i := range buyers {
		t := settlement.Transfer{ID: settlement.ID{1, byte(i), byte(i >> 8)}, From: "issuer", To: buyer(i), Amount: 1 << 40}
		if _, err := m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{t}); err != nil {
			b.Fatal(err)
		}
	}
	m.engine, e1 = settlement.Open(ctx, m.receipts, m.ledger, m.store, &settlement.Options{Start: settlement.After(0)})
	if e1 == nil {
		e1 = m.engine.Lead(ctx)
	}
	if e1 != nil {
		b.Fatal(e1)
	}
	return m
}

const (
	buyers    = 1000
	providers = 100
)

func buyer(i int) string { return fmt.Sprintf("buyer-%d", i%buyers) }

func benchReceipts(from, n int) []receipt.Receipt {
	rs := make([]receipt.Receipt, n)
	for i := range rs {
		k := from + i
		rs[i] = receipt.New(fmt.Sprintf("job-%08d", k), buyer(k), fmt.Sprintf("provider-%d", k%providers), 1, issued)
	}
	return rs
}

func (m *market) mustAppend(b *testing.B, rs []receipt.Receipt) {
	if _, err := m.receipts.Append(context.Background(), rs); err != nil {
		b.Fatal(err)
	}
}

func (m *market) mustSettle(b *testing.B) {
	if _, err := m.engine.Settle(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// floor is Pebble with the same options, writing one random key of 32 bytes and
// 100 bytes for each receipt.
type floor struct {
	db  *pebbledb.DB
	rng *rand.Rand
}

func openFloor(b *testing.B, dir string) *floor {
	b.Helper()
	db, err := pebbledb.Open(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	return &floor{db, rand.New(rand.NewPCG(1, 2))}
}

func (f *floor) write(b *testing.B, n int) {
	batch := dbtest.Inside(f.db).Batch()
	var key [32]byte
	var value [100]byte
	for range n {
		for j := 0; j < 32; j += 8 {
			binary.LittleEndian.PutUint64(key[j:], f.rng.Uint64())
		}
		batch.Set(key[:], value[:], nil)
	}
	if err := dbtest.Inside(f.db).Commit(batch); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSettleSingle settles one receipt at a time, from appended to durably
// settled, against a bare fdatasync of 100 appended bytes.
func BenchmarkSettleSingle(b *testing.B) {
	m := benchMarket(b, b.TempDir())
	defer m.close()
	file, err := os.Create(filepath.Join(b.TempDir(), "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	var line [100]byte
	var base time.Duration
	n := 0
	for b.Loop() {
		b.StopTimer()
		m.mustAppend(b, benchReceipts(n, 1))
		n++
		start := time.Now()
		if _, err := file.Write(line[:]); err != nil {
			b.Fatal(err)
		}
		if err := fdatasync(file); err != nil {
			b.Fatal(err)
		}
		base += time.Since(start)
		b.StartTimer()
		m.mustSettle(b)
	}
	b.ReportMetric(float64(base)/float64(b.Elapsed()), "xfloor")
}

// BenchmarkSettleConcurrent has 256 submitters, each of which appends a receipt
// and settles it, again and again, against a single one that does the same.
func BenchmarkSettleConcurrent(b *testing.B) {
	m := benchMarket(b, b.TempDir())
	defer m.close()
	var next atomic.Int64
	run := func(submitters, each int) time.Duration {
		start := time.Now()
		var wg sync.WaitGroup
		for range submitters {
			wg.Go(func() {
				for range each {
					m.mustAppend(b, benchReceipts(int(next.Add(1)), 1))
					m.mustSettle(b)
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	const submitters, each = 256, 20
	var single time.Duration
	n := 0
	for b.Loop() {
		b.StopTimer()
		single += run(1, each) // as a rate: each receipts in this time
		b.StartTimer()
		run(submitters, each)
		n++
	}
	rate := float64(n*submitters*each) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "settled/s")
	b.ReportMetric(rate/(float64(n*each)/single.Seconds()), "xfloor")
}

// BenchmarkSettleBatch settles 8,192 receipts a pass, from appended to durably
// settled, when -stored of them are there already, against floor batches of the
// same number on a database as large.
func BenchmarkSettleBatch(b *testing.B) {
	const size = 8192
	m := benchMarket(b, b.TempDir())
	defer m.close()
	f := openFloor(b, b.TempDir())
	defer f.db.Close()
	n := 0
	for ; n < *stored; n += size {
		m.mustAppend(b, benchReceipts(n, size))
		m.mustSettle(b)
		f.write(b, size)
	}
	var base time.Duration
	passes := 0
	for b.Loop() {
		b.StopTimer()
		m.mustAppend(b, benchReceipts(n, size))
		n += size
		start := time.Now()
		f.write(b, size)
		base += time.Since(start)
		passes++
		b.StartTimer()
		m.mustSettle(b)
	}
	b.ReportMetric(float64(base)/float64(b.Elapsed()), "xfloor")
	b.ReportMetric(float64(passes*size)/b.Elapsed().Seconds(), "settled/s")
	b.ReportMetric(float64(passes*size)/base.Seconds(), "floor/s")
}
