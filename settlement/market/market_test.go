package market_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/market"
	"github.com/computemarket/computemarket/settlement/market/marketmem"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/settlement/settlementtest"
	"github.com/computemarket/computemarket/workload"
)

// house is a whole market on models.
type house struct {
	t      *testing.T
	log    receipttest.Mem
	ledger settlementtest.Ledger
	state  settlementtest.Store
	store  *marketmem.Store
	opts   market.Options

	*market.Market
	engine *settlement.Engine
	stop   func() error
}

func newHouse(t *testing.T, opts market.Options) *house {
	h := &house{t: t, opts: opts}
	var err error
	if h.store, err = marketmem.New(&h.log); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ledger.Post(t.Context(), settlement.Lease{}, []settlement.Transfer{
		{ID: settlement.ID{1}, From: h.ledger.Issuer(), To: "alice", Amount: 1000},
	}); err != nil {
		t.Fatal(err)
	}
	h.start()
	t.Cleanup(func() {
		if h.stop != nil {
			h.end()
		}
	})
	return h
}

// start begins a life of the market on what the last one left.
func (h *house) start() {
	h.t.Helper()
	var m *market.Market
	engine, err := settlement.Open(h.t.Context(), &h.log, &h.ledger, &h.state, &settlement.Options{
		Start: settlement.After(0), Policy: settlement.Quarantine,
		Leading: func(ctx context.Context) error { return m.Run(ctx) },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	opts := h.opts
	opts.Engine = engine
	if m, err = market.New(h.store, &opts); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	h.Market, h.engine = m, engine
	h.stop = func() error { cancel(); return <-done }
	synctest.Wait()
}

func (h *house) end() {
	h.t.Helper()
	if err := h.stop(); err != nil {
		h.t.Error(err)
	}
	h.stop = nil
}

func (h *house) restart() { h.end(); h.start() }

func (h *house) balance(account string, want uint64) {
	h.t.Helper()
	time.Sleep(2 * time.Second) // the engine looks once a second
	if got, err := h.ledger.Balance(h.t.Context(), account); err != nil || got != want {
		h.t.Errorf("%s has %d, %v, want %d", account, got, err, want)
	}
}

func (h *house) submit(j market.Job) market.Order {
	h.t.Helper()
	o, err := h.Submit(h.t.Context(), j)
	if err != nil {
		h.t.Fatal(err)
	}
	return o
}

func (h *house) offer(o market.Offer) market.Order {
	h.t.Helper()
	r, err := h.Offer(h.t.Context(), o)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *house) wait(id string, want market.State) market.Order {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	o, err := h.Wait(ctx, id)
	if err != nil || o.State != want {
		h.t.Fatalf("%s is %+v, %v, want %v", id, o, err, want)
	}
	return o
}

func job(id string, contents ...string) market.Job {
	j := market.Job{ID: id, Buyer: "alice", Price: 30, Kind: workload.Transcode}
	for _, c := range contents {
		j.Slices = append(j.Slices, market.JobSlice{Data: []byte(c), Reference: workload.Sum([]byte(c))})
	}
	return j
}

func offer(id string, units uint64) market.Offer {
	return market.Offer{ID: id, Provider: "bob", Class: "transcode", Units: units, Price: 20}
}

func local(t *testing.T) func(context.Context, *market.Task) (market.Proof, error) {
	r, err := workload.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return market.Local(r)
}

func TestJobToPaidReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var trades []market.Trade
		h := newHouse(t, market.Options{Work: local(t), OnTrade: func(tr market.Trade) {
			mu.Lock()
			defer mu.Unlock()
			trades = append(trades, tr)
		}})
		h.offer(offer("o", 3))
		o := h.submit(job("j", "one", "two"))
		if o.Seq != 2 || o.State != market.Open || o.Class != "transcode" || o.Units != 2 {
			t.Errorf("%+v", o)
		}
		o = h.wait("j", market.Done)
		for i, out := range o.Outcomes {
			want := workload.Sum([]byte([]string{"one", "two"}[i]))
			if out.Slice != i || out.State != market.Done || out.Output != want {
				t.Errorf("outcome %d: %+v, want %v", i, out, want)
			}
			if rec, err := h.log.Get(t.Context(), out.Receipt); err != nil || rec.QuotePrice != 20 || rec.DryRun {
				t.Errorf("its receipt: %+v, %v", rec, err)
			}
		}
		h.balance("alice", 960)
		h.balance("bob", 40)
		if o, err := h.Order(t.Context(), "o"); err != nil || o.Filled != 2 || o.State != market.Open {
			t.Errorf("the offer: %+v, %v", o, err)
		}
		mu.Lock()
		if len(trades) != 2 || trades[0].Bid != "j" || trades[0].Price != 20 || trades[0].DryRun {
			t.Errorf("trades %+v", trades)
		}
		mu.Unlock()
		h.submit(job("k", "three"))
		h.wait("k", market.Done)
		h.wait("o", market.Done)
	})
}

func TestSameRequestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, market.Options{Work: local(t)})
		first := h.submit(job("j", "one"))
		for range 2 {
			if again := h.submit(job("j", "one")); again.Seq != first.Seq || !again.At.Equal(first.At) {
				t.Errorf("%+v, want %+v", again, first)
			}
			h.restart()
		}
		other := job("j", "two")
		dearer := job("j", "one")
		dearer.Price++
		for _, j := range []market.Job{other, dearer} {
			if _, err := h.Submit(t.Context(), j); !errors.Is(err, market.ErrRepeated) {
				t.Errorf("%v, want ErrRepeated", err)
			}
		}
		if _, err := h.Offer(t.Context(), offer("j", 1)); !errors.Is(err, market.ErrRepeated) {
			t.Errorf("an offer under the job's id: %v, want ErrRepeated", err)
		}
		h.offer(offer("o", 1))
		h.wait("j", market.Done)
		// Not even after it is over, nor after a restart.
		for range 2 {
			if again := h.submit(job("j", "one")); again.State != market.Done {
				t.Errorf("%+v", again)
			}
			if _, err := h.Submit(t.Context(), other); !errors.Is(err, market.ErrRepeated) {
				t.Errorf("%v, want ErrRepeated", err)
			}
			h.restart()
		}
		// Many at once are one.
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { h.submit(job("many", "x")) })
		}
		wg.Wait()
		h.offer(offer("p", 5))
		h.wait("many", market.Done)
		h.balance("alice", 960)
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, market.Options{Work: local(t)})
		h.submit(job("first", "a", "b"))
		h.submit(job("second", "c"))
		h.restart()
		h.offer(offer("o", 1))
		time.Sleep(time.Second)
		h.restart()
		h.offer(offer("p", 1))
		h.wait("first", market.Done) // it came first
		h.restart()
		h.wait("o", market.Done)
		if o, err := h.Order(t.Context(), "second"); err != nil || o.State != market.Open {
			t.Errorf("%+v, %v", o, err)
		}
		h.offer(offer("q", 7))
		h.wait("second", market.Done)
		h.balance("bob", 60)
	})
}

func TestWorkThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		work := local(t)
		h := newHouse(t, market.Options{Work: func(ctx context.Context, task *market.Task) (market.Proof, error) {
			switch {
			case broken && task.Ask == "bad":
				return market.Proof{}, fmt.Errorf("%w: it lies", match.ErrBadAsk)
			case broken && task.Slice == 1:
				return market.Proof{}, errors.New("not now")
			}
			return work(ctx, task)
		}})
		j := job("j", "a", "b", "c")
		j.Slices[2].Reference = workload.Hash{1} // the buyer is wrong
		h.submit(j)
		h.offer(offer("bad", 3))
		h.wait("bad", market.Failed)
		h.offer(offer("good", 9))
		time.Sleep(10 * time.Second)
		o, err := h.Order(t.Context(), "j")
		if err != nil || o.State != market.Open || len(o.Outcomes) != 2 || o.Outcomes[0].State != market.Done || o.Outcomes[1].State != market.Failed {
			t.Errorf("%+v, %v", o, err)
		}
		h.restart() // what failed stays so
		broken = false
		o = h.wait("j", market.Failed)
		if o.Filled != 2 || !strings.Contains(o.Reason, "reference") {
			t.Errorf("%+v", o)
		}
		h.balance("bob", 40)
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		going := make(chan error)
		h := newHouse(t, market.Options{Work: func(ctx context.Context, task *market.Task) (market.Proof, error) {
			select {
			case err := <-going:
				return market.Proof{}, err
			case <-ctx.Done():
				return market.Proof{}, ctx.Err()
			}
		}})
		cancel := func(id string, want market.State) market.Order {
			t.Helper()
			o, err := h.Cancel(t.Context(), id)
			if err != nil || o.State != want {
				t.Errorf("Cancel: %+v, %v, want %v", o, err, want)
			}
			return o
		}
		h.submit(job("idle", "a"))
		cancel("idle", market.Cancelled)
		cancel("idle", market.Cancelled)
		if _, err := h.Cancel(t.Context(), "none"); !errors.Is(err, market.ErrNotFound) {
			t.Errorf("%v, want ErrNotFound", err)
		}
		// Two of three are in flight: one becomes final, one fails.
		h.submit(job("j", "a", "b", "c"))
		h.offer(offer("o", 2))
		synctest.Wait()
		if o := cancel("j", market.Open); len(o.Outcomes) != 1 || o.Outcomes[0].State != market.Cancelled {
			t.Errorf("%+v", o)
		}
		cancel("o", market.Open)
		going <- nil
		going <- errors.New("no")
		o := h.wait("j", market.Cancelled)
		if o.Filled != 1 || len(o.Outcomes) != 3 {
			t.Errorf("%+v", o)
		}
		if o := h.wait("o", market.Cancelled); o.Filled != 1 {
			t.Errorf("%+v", o)
		}
		// Cancelled while in flight, and then the process ends.
		h.submit(job("k", "a"))
		h.offer(offer("p", 1))
		synctest.Wait()
		cancel("k", market.Open)
		h.restart()
		h.wait("k", market.Cancelled)
		h.balance("alice", 980)
	})
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, market.Options{Work: local(t)})
		j := job("j", "a")
		j.Expires = time.Now().Add(time.Minute)
		h.submit(j)
		o := offer("o", 1)
		o.Class, o.Expires = "other", time.Now().Add(time.Hour)
		h.offer(o)
		time.Sleep(time.Minute + time.Second)
		h.wait("j", market.Expired)
		j.ID = "late"
		if _, err := h.Submit(t.Context(), j); !errors.Is(err, market.ErrInvalid) {
			t.Errorf("a job of the past: %v, want ErrInvalid", err)
		}
		h.end()
		time.Sleep(time.Hour)
		h.start()
		h.wait("o", market.Expired)
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, market.Options{Work: local(t), Limits: market.Limits{Orders: 3, Bytes: 10}, MaxClasses: 1})
		h.submit(job("a", "1", "2"))
		for what, j := range map[string]market.Job{"orders": job("b", "1", "2"), "bytes": job("c", "123456789")} {
			if _, err := h.Submit(t.Context(), j); !errors.Is(err, market.ErrLimit) {
				t.Errorf("%s: %v, want ErrLimit", what, err)
			}
		}
		o := offer("o", 1)
		o.Class = "another"
		if _, err := h.Offer(t.Context(), o); !errors.Is(err, market.ErrLimit) {
			t.Errorf("a second class: %v, want ErrLimit", err)
		}
		h.offer(offer("o", 2)) // of another account
		h.wait("a", market.Done)
		h.wait("o", market.Done)
		h.submit(job("b", "1", "2", "3"))
		h.restart()
		if _, err := h.Submit(t.Context(), job("d", "1")); !errors.Is(err, market.ErrLimit) {
			t.Errorf("after a restart: %v, want ErrLimit", err)
		}
		if _, err := h.Cancel(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		o.ID = "p"
		h.offer(o) // the first class is empty
	})
}

func TestStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, market.Options{})
		h.submit(job("j", "a"))
		h.end()
		_, submit := h.Submit(t.Context(), job("k", "a"))
		_, cancel := h.Cancel(t.Context(), "j")
		_, wait := h.Wait(t.Context(), "j")
		for what, err := range map[string]error{"Submit": submit, "Cancel": cancel, "Wait": wait} {
			if !errors.Is(err, market.ErrStandby) {
				t.Errorf("%s: %v, want ErrStandby", what, err)
			}
		}
		if o, err := h.Order(t.Context(), "j"); err != nil || o.State != market.Open {
			t.Errorf("%+v, %v", o, err)
		}
	})
}

func TestInvalidRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, market.Options{})
		change := func(f func(*market.Job)) market.Job { j := job("j", "a"); f(&j); return j }
		for what, j := range map[string]market.Job{
			"no buyer":           change(func(j *market.Job) { j.Buyer = "" }),
			"no kind":            change(func(j *market.Job) { j.Kind = "" }),
			"slices and units":   change(func(j *market.Job) { j.Units = 1 }),
			"neither":            change(func(j *market.Job) { j.Slices, j.Kind, j.Class = nil, "", "c" }),
			"an id with a slash": change(func(j *market.Job) { j.ID = "a/0" }),
			"a long id":          change(func(j *market.Job) { j.ID = strings.Repeat("x", market.MaxID+1) }),
			"a class with a bar": change(func(j *market.Job) { j.Class = "a|b" }),
			"no lane":            change(func(j *market.Job) { j.Lane = 77 }),
			"too large":          change(func(j *market.Job) { j.Slices[0].Data = make([]byte, market.MaxInline+1) }),
			"not kept":           change(func(j *market.Job) { j.Slices[0] = market.JobSlice{Kept: market.Kept{Size: 1}} }),
			"kept and data":      change(func(j *market.Job) { j.Slices[0].Kept.Size = 1 }),
		} {
			if _, err := h.Submit(t.Context(), j); !errors.Is(err, market.ErrInvalid) {
				t.Errorf("%s: %v, want ErrInvalid", what, err)
			}
		}
		o := offer("o", 0)
		if _, err := h.Offer(t.Context(), o); !errors.Is(err, market.ErrInvalid) {
			t.Errorf("no units: %v, want ErrInvalid", err)
		}
		for range h.Orders(t.Context(), market.Filter{}) {
			t.Error("something was written")
		}
	})
}
