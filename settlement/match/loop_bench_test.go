package match_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement/match"
)

// BenchmarkLoop takes fresh orders to durable receipts on disk, in batches of
// 8,192: submit, match, name, append, take out of the book. xfloor is its speed
// over that of Append alone, given finished receipts in the same batches. An
// operation is one receipt. Target: 0.5.
func BenchmarkLoop(b *testing.B) {
	const batch, each = 8192, 8 * 8192
	open := func() *receiptpebble.Store {
		s, err := receiptpebble.Open(b.TempDir(), nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		return s
	}
	log, bare := &counted{Log: open()}, open()
	book, err := match.NewBook(nil)
	if err != nil {
		b.Fatal(err)
	}
	final := make(chan struct{})
	n := 0
	loop, err := match.NewLoop(book, log, &match.LoopOptions{
		Batch: batch,
		OnFinal: func(match.Match, receipt.Receipt) {
			if n++; n == each {
				n = 0
				final <- struct{}{}
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- loop.Run(ctx) }()

	var took, floor time.Duration
	for round := 0; b.Loop(); round++ {
		var orders []match.Order
		var receipts []receipt.Receipt
		for i := range each {
			buyer, provider := fmt.Sprint("buyer-", i%1000), fmt.Sprint("provider-", i%1000)
			lane := admission.Lanes[i%2]
			o := match.Order{ID: fmt.Sprintf("bid-%d-%d", round, i), Account: buyer, Lane: lane, Side: match.Bid, Units: 5, Price: 1000 + uint64(i%64)}
			p := o
			p.ID, p.Account, p.Side, p.Price = fmt.Sprintf("ask-%d-%d", round, i), provider, match.Ask, 1000
			orders = append(orders, o, p)
			job := match.Job{Bid: o.ID, Ask: p.ID, Units: 5}
			receipts = append(receipts, receipt.New(job.String(), buyer, provider, 5*p.Price, time.Now()))
		}
		alone := func() {
			began := time.Now()
			for i := 0; i < each; i += batch {
				if _, err := bare.Append(ctx, receipts[i:i+batch]); err != nil {
					b.Fatal(err)
				}
			}
			floor += time.Since(began)
		}
		looped := func() {
			began := time.Now()
			for _, o := range orders {
				if _, err := book.Submit(o, began); err != nil {
					b.Fatal(err)
				}
			}
			<-final
			took += time.Since(began)
		}
		// In turn, because the stores compact in the background and each pays
		// for the other.
		if round%2 == 0 {
			alone()
			looped()
		} else {
			looped()
			alone()
		}
	}
	stop()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	per := float64(b.N) * each
	b.ReportMetric(float64(took.Nanoseconds())/per, "ns/receipt")
	b.ReportMetric(float64(floor.Nanoseconds())/per, "floor-ns/receipt")
	b.ReportMetric(per/float64(log.n), "receipts/append")
	b.ReportMetric(floor.Seconds()/took.Seconds(), "xfloor")
}

type counted struct {
	match.Log
	n int
}

func (c *counted) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	c.n++
	return c.Log.Append(ctx, rs)
}
