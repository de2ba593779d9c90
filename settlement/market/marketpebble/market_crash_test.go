package marketpebble_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/crashtest"
	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/market"
	"github.com/computemarket/computemarket/settlement/market/marketpebble"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
	"github.com/computemarket/computemarket/settlement/settlementtest"
	"github.com/computemarket/computemarket/workload"
)

var marketPoints = flag.Int("marketpoints", 1000, "points at which TestMarketCrash crashes")

// withMarket runs f on a whole market on disk, from its first job to its last
// settled receipt.
func withMarket(disk vfs.FS, f func(ctx context.Context, m *market.Market, e *settlement.Engine, l *settlementpebble.Ledger) error) (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	db, err := dbtest.Open("db", &kv.Options{FS: disk, MemTableBytes: 128 << 10, CacheBytes: 1 << 20})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	receipts, e1 := receiptpebble.New(db, nil)
	ledger, e2 := settlementpebble.NewLedger(db, nil)
	state, e3 := settlementpebble.NewStore(db, nil)
	if err := errors.Join(e1, e2, e3); err != nil {
		return err
	}
	orders, err := marketpebble.New(db, receipts, nil)
	if err != nil {
		return err
	}
	runner, err := workload.New(nil)
	if err != nil {
		return err
	}
	var m *market.Market
	engine, err := settlement.Open(ctx, receipts, ledger, state, &settlement.Options{
		Start: settlement.After(0), Leading: func(ctx context.Context) error { return m.Run(ctx) },
	})
	if err != nil {
		return err
	}
	m, err = market.New(orders, &market.Options{Engine: engine, Work: market.Local(runner)})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := engine.Run(ctx)
		cancel() // a disk that fails ends all
		done <- err
	}()
	for ctx.Err() == nil { // until it leads
		if _, err := m.Cancel(ctx, "nothing"); !errors.Is(err, market.ErrStandby) {
			break
		}
		time.Sleep(100 * time.Microsecond)
	}
	err = f(ctx, m, engine, ledger)
	cancel()
	return errors.Join(err, <-done)
}

const jobsPerRun, slicesPerJob, price = 6, 2, 3

func jobAt(i int) market.Job {
	j := market.Job{ID: fmt.Sprint("job-", i), Buyer: "buyer", Price: price + 1, Kind: workload.Inference}
	for s := range slicesPerJob {
		data := fmt.Appendf(nil, "slice %d of %d", s, i)
		j.Slices = append(j.Slices, market.JobSlice{Data: data, Reference: workload.Sum(data)})
	}
	return j
}

// trade offers, submits and waits, all of it the same whatever was done before.
func trade(ctx context.Context, m *market.Market, e *settlement.Engine, l *settlementpebble.Ledger, ack func()) error {
	if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{
		{ID: settlement.ID{1}, From: "issuer", To: "buyer", Amount: 1000},
	}); err != nil {
		return err
	}
	for i := range jobsPerRun {
		_, err := m.Submit(ctx, jobAt(i))
		if err == nil && i%2 == 0 { // one offer for two jobs
			_, err = m.Offer(ctx, market.Offer{ID: fmt.Sprint("offer-", i), Provider: "provider", Class: "inference", Units: 2 * slicesPerJob, Price: price})
		}
		if err != nil {
			return err
		}
		ack()
	}
	for i := range jobsPerRun {
		o, err := m.Wait(ctx, fmt.Sprint("job-", i))
		if err != nil || o.State != market.Done || o.Filled != slicesPerJob {
			return fmt.Errorf("%+v: %w", o, err)
		}
		ack()
	}
	const receipts = jobsPerRun * slicesPerJob
	for {
		s, err := e.Status(ctx)
		if err != nil {
			return err
		}
		if s.Owed == 0 && s.Applied >= receipts {
			break
		}
		e.Wake()
		time.Sleep(100 * time.Microsecond)
	}
	if err := settlementtest.Conserved(ctx, l); err != nil {
		return err
	}
	if got, err := l.Balance(ctx, "provider"); err != nil || got != receipts*price {
		return fmt.Errorf("the provider has %d, %w, want %d", got, err, receipts*price)
	}
	return nil
}

// A crash at any write of a market loses no job that was acknowledged, and has no
// slice paid twice: whoever says it all again finds it done, or has it done.
func TestMarketCrash(t *testing.T) {
	work := func(disk vfs.FS, _ uint64, ack func()) error {
		return withMarket(disk, func(ctx context.Context, m *market.Market, e *settlement.Engine, l *settlementpebble.Ledger) error {
			return trade(ctx, m, e, l, ack)
		})
	}
	check := func(disk vfs.FS, _ uint64, acked int) error {
		return withMarket(disk, func(ctx context.Context, m *market.Market, e *settlement.Engine, l *settlementpebble.Ledger) error {
			for i := range min(acked, jobsPerRun) {
				if o, err := m.Order(ctx, fmt.Sprint("job-", i)); err != nil || o.Side != match.Bid {
					return fmt.Errorf("job %d was acknowledged: %+v, %w", i, o, err)
				}
			}
			for i := range acked - jobsPerRun {
				if o, err := m.Order(ctx, fmt.Sprint("job-", i)); err != nil || o.State != market.Done {
					return fmt.Errorf("job %d was done: %+v, %w", i, o, err)
				}
			}
			if err := trade(ctx, m, e, l, func() {}); err != nil {
				return err
			}
			n := 0
			for _, err := range m.Orders(ctx, market.Filter{State: market.Done}) {
				if n++; err != nil {
					return err
				}
			}
			if n != jobsPerRun+jobsPerRun/2 {
				return fmt.Errorf("%d orders are done", n)
			}
			return nil
		})
	}
	crashtest.Crash(t, *marketPoints, work, check)
}
