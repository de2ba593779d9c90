package marketpebble_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/market"
	"github.com/computemarket/computemarket/settlement/market/marketpebble"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
	"github.com/computemarket/computemarket/workload"
)

// counting counts the writes of a store.
type counting struct {
	market.Store
	writes atomic.Int64
}

func (c *counting) Write(ctx context.Context, lease settlement.Lease, b *market.Batch) (market.Written, error) {
	c.writes.Add(1)
	return c.Store.Write(ctx, lease, b)
}

// house is a whole market on one database.
type house struct {
	counted *counting
	*market.Market
	engine *settlement.Engine
	stop   func()
}

func newHouse(tb testing.TB, dir string) *house {
	db, err := pebbledb.Open(dir, nil)
	must := func(err error) {
		if err != nil {
			tb.Helper()
			tb.Fatal(err)
		}
	}
	must(err)
	receipts, err := receiptpebble.New(db, nil)
	must(err)
	ledger, err := settlementpebble.NewLedger(db, nil)
	must(err)
	state, err := settlementpebble.NewStore(db, nil)
	must(err)
	orders, err := marketpebble.New(db, receipts, nil)
	must(err)
	runner, err := workload.New(&workload.Options{CacheEntries: -1})
	must(err)
	h := &house{counted: &counting{Store: orders}}
	h.engine, err = settlement.Open(tb.Context(), receipts, ledger, state, &settlement.Options{
		Start: settlement.After(0), Leading: func(ctx context.Context) error { return h.Run(ctx) },
	})
	must(err)
	h.Market, err = market.New(h.counted, &market.Options{
		Engine: h.engine, Work: market.Local(runner), Limits: market.Limits{Orders: 1 << 30},
	})
	must(err)
	_, err = ledger.Post(tb.Context(), settlement.Lease{}, []settlement.Transfer{
		{ID: settlement.ID{1}, From: "issuer", To: "buyer", Amount: 1 << 60},
	})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.engine.Run(ctx) }()
	h.stop = func() {
		cancel()
		must(<-done)
		must(orders.Close())
		must(state.Close())
		must(ledger.Close())
		must(receipts.Close())
		must(db.Close())
	}
	for {
		_, err := h.Offer(tb.Context(), market.Offer{ID: "offer", Provider: "provider", Class: "transcode", Units: 1 << 40, Price: 1})
		if err == nil {
			return h
		}
		time.Sleep(time.Millisecond) // until it leads
	}
}

// jobs has submitters submit n jobs of 64 bytes, one after the other each, and
// returns when all are settled.
func (h *house) jobs(tb testing.TB, submitters, n int) {
	var next atomic.Int64
	var wg sync.WaitGroup
	before, err := h.engine.Status(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for range submitters {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				id := fmt.Sprintf("job-%d-%d", before.Applied, i)
				data := make([]byte, 64)
				copy(data, id)
				_, err := h.Submit(tb.Context(), market.Job{
					ID: id, Buyer: "buyer", Price: 1, Kind: workload.Transcode,
					Slices: []market.JobSlice{{Data: data, Reference: workload.Sum(data)}},
				})
				if err == nil {
					_, err = h.Wait(tb.Context(), id)
				}
				if err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for {
		s, err := h.engine.Status(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		if s.Applied == before.Applied+uint64(n) {
			return
		}
		h.engine.Wake()
		time.Sleep(100 * time.Microsecond)
	}
}

// floor writes what the jobs wrote with nothing around it: the same number of
// bytes in the same number of keys, in three synced batches for each round of all
// submitters.
func floor(b *testing.B, submitters, n int) time.Duration {
	db, err := pebbledb.Open(filepath.Join(b.TempDir(), "floor"), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	kv := dbtest.Inside(db)
	var value [512]byte
	keys := 0
	put := func(batch *pebble.Batch, sizes ...int) {
		for _, size := range sizes {
			keys++
			batch.Set(fmt.Appendf(nil, "x%031d", keys*7919%1000003), value[:size], nil)
		}
	}
	begin := time.Now()
	for i := 0; i < n; i += submitters {
		jobs := min(submitters, n-i)
		for _, sizes := range [][]int{
			{12, 4, 4, 190, 16, 68}, // an order: index, account, open, terms, progress, content
			{150, 8, 20, 80, 12},    // a receipt and its index, progress, outcome
			{60},                    // a transfer
		} {
			batch := kv.Batch()
			for range jobs {
				put(batch, sizes...)
			}
			if err := kv.Commit(batch); err != nil {
				b.Fatal(err)
			}
		}
	}
	return time.Since(begin)
}

func BenchmarkMarket(b *testing.B) {
	for name, submitters := range map[string]int{"alone": 1, "64": 64} {
		b.Run(name, func(b *testing.B) {
			h := newHouse(b, b.TempDir())
			defer h.stop()
			h.jobs(b, submitters, submitters*4)
			writes := h.counted.writes.Load()
			b.ResetTimer()
			begin := time.Now()
			h.jobs(b, submitters, b.N)
			took := time.Since(begin)
			b.StopTimer()
			b.ReportMetric(float64(h.counted.writes.Load()-writes)/float64(b.N), "writes/job")
			raw := floor(b, submitters, b.N)
			b.ReportMetric(float64(b.N)/took.Seconds(), "jobs/s")
			b.ReportMetric(raw.Seconds()/took.Seconds(), "xfloor")
		})
	}
}
