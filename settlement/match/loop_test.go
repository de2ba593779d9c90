package match

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement"
)

// faultyLog is a log in memory whose n-th append, counted from 1, fails as told:
// before anything is written or after all is.
type faultyLog struct {
	receipttest.Mem
	mu     sync.Mutex
	n      int
	before func(n int) error
	after  func(n int) error
	times  []time.Time
}

var errDisk = errors.New("disk on fire")

func (l *faultyLog) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	l.times = append(l.times, time.Now())
	if l.before != nil {
		if err := l.before(l.n); err != nil {
			return nil, err
		}
	}
	statuses, err := l.Mem.Append(ctx, rs)
	if l.after != nil {
		if err := l.after(l.n); err != nil {
			return nil, err
		}
	}
	return statuses, err
}

// jobs lists what is in the log, in order.
func jobs(t testing.TB, log History) (ids []string) {
	t.Helper()
	for r, err := range log.After(context.Background(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		id := r.JobID
		if !r.DryRun {
			id += " real"
		}
		ids = append(ids, id)
	}
	return ids
}

func wantJobs(t *testing.T, log History, want ...string) {
	t.Helper()
	if got := jobs(t, log); !slices.Equal(got, want) {
		t.Errorf("log: %q\nwant %q", got, want)
	}
}

// running starts a loop in a synctest bubble; the returned function stops it.
func running(t *testing.T, b *Book, log Log, opts *LoopOptions) (*Loop, func()) {
	t.Helper()
	l, err := NewLoop(b, log, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l, run(t, l)
}

func run(t *testing.T, l *Loop) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	synctest.Wait()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		l.book.verify(t)
	}
}

func now(t *testing.T, b *Book, orders ...Order) {
	t.Helper()
	for _, o := range orders {
		if _, err := b.Submit(o, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
}

func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var log faultyLog
		var engine fakeEngine
		var prices []uint64
		var m counter
		_, stop := running(t, b, &log, &LoopOptions{
			Engine: &engine,
			OnFinal: func(m Match, r receipt.Receipt) {
				if r.QuotePrice != m.Units*m.Price {
					t.Errorf("%d units at %d quoted at %d", m.Units, m.Price, r.QuotePrice)
				}
				prices = append(prices, m.Price)
			},
			Metrics: &m,
		})
		bid(t, b, "b1", 5, 10)
		ask(t, b, "a1", 3, 7)
		synctest.Wait()
		engine.mode.Store(uint32(settlement.Real))
		ask(t, b, "a2", 1, 8)
		synctest.Wait()
		ask(t, b, "a3", 9, 11) // does not cross
		synctest.Wait()
		stop()
		wantJobs(t, &log, "b1|a1|0+3", "b1|a2|3+1 real")
		if !slices.Equal(prices, []uint64{7, 8}) || engine.wakes.Load() != 2 {
			t.Errorf("prices %v, %d wakes", prices, engine.wakes.Load())
		}
		if r, _ := b.Get("b1"); r.Units != 1 || r.InFlight != 0 {
			t.Errorf("left of b1: %+v", r)
		}
		if _, ok := b.Get("a1"); ok {
			t.Error("a1 is filled and still there")
		}
		if m.dry != 1 || m.real != 1 || m.failed != 0 {
			t.Errorf("metrics %+v", &m)
		}
	})
}

var _ Engine = (*settlement.Engine)(nil)

type fakeEngine struct {
	mode  atomic.Uint32
	wakes atomic.Int32
}

func (e *fakeEngine) Mode() settlement.Mode { return settlement.Mode(e.mode.Load()) }
func (e *fakeEngine) Wake()                 { e.wakes.Add(1) }

type counter struct {
	mu                sync.Mutex
	dry, real, failed int
}

func (c *counter) Matched(dry bool, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if dry {
		c.dry++
	} else {
		c.real++
	}
}

func (c *counter) PersistFailed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed++
}

// The mode that counts is the one when the orders met, not when the work ended.
func TestModeAtTheMatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var log faultyLog
		var engine fakeEngine
		engine.mode.Store(uint32(settlement.Real))
		_, stop := running(t, b, &log, &LoopOptions{
			Parallel: 2,
			Engine:   &engine,
			Finalize: func(context.Context, Match) error { time.Sleep(time.Minute); return nil },
		})
		bid(t, b, "b1", 1, 10)
		ask(t, b, "a1", 1, 10)
		time.Sleep(time.Second)
		engine.mode.Store(uint32(settlement.Armed))
		bid(t, b, "b2", 1, 10)
		ask(t, b, "a2", 1, 10)
		time.Sleep(time.Second)
		engine.mode.Store(uint32(settlement.Real))
		time.Sleep(2 * time.Minute)
		stop()
		wantJobs(t, &log, "b1|a1|0+1 real", "b2|a2|0+1")
	})
}

func TestFailedFinalize(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy FailurePolicy
		err    error
		bid    bool // still there afterwards
		ask    bool
	}{
		{"returned", ReturnBid, errors.New("no"), true, true},
		{"dropped", DropBid, errors.New("no"), false, true},
		{"bid at fault", ReturnBid, fmt.Errorf("bad slice: %w", ErrBadBid), false, true},
		{"ask at fault", ReturnBid, fmt.Errorf("bad proof: %w", ErrBadAsk), true, false},
		{"both at fault", ReturnBid, errors.Join(ErrBadBid, ErrBadAsk), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, nil)
				var log faultyLog
				calls, failed := 0, 0
				_, stop := running(t, b, &log, &LoopOptions{
					OnFailure: c.policy,
					Parallel:  1,
					Finalize:  func(context.Context, Match) error { calls++; return c.err },
					OnFailed:  func(Match, error) { failed++ },
				})
				bid(t, b, "b1", 2, 10)
				ask(t, b, "a1", 3, 10)
				synctest.Wait()
				if calls != 1 || failed != 1 {
					t.Errorf("%d calls, %d failures before any delay", calls, failed)
				}
				stop()
				wantJobs(t, &log)
				r, ok := b.Get("b1")
				if ok != c.bid || ok && (r.Units != 2 || r.InFlight != 0 || r.Seq != 1) {
					t.Errorf("bid %+v, %v", r, ok)
				}
				r, ok = b.Get("a1")
				if ok != c.ask || ok && (r.Units != 3 || r.InFlight != 0) {
					t.Errorf("ask %+v, %v", r, ok)
				}
			})
		})
	}
}

// A bid that comes back is first again, but another may have the ask meanwhile.
func TestReturnedBidKeepsPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var log faultyLog
		fails := 2
		_, stop := running(t, b, &log, &LoopOptions{
			Parallel:    1,
			ReturnAfter: time.Minute,
			Finalize: func(_ context.Context, m Match) error {
				if m.Bid == "b1" && fails > 0 {
					fails--
					return errors.New("no")
				}
				return nil
			},
		})
		bid(t, b, "b1", 2, 10)
		bid(t, b, "b2", 1, 10)
		ask(t, b, "a1", 2, 10)
		time.Sleep(time.Second)
		wantJobs(t, &log, "b2|a1|0+1")
		bid(t, b, "b3", 1, 9)
		time.Sleep(3 * time.Minute)
		ask(t, b, "a2", 9, 9)
		synctest.Wait()
		stop()
		wantJobs(t, &log, "b2|a1|0+1", "b1|a1|0+1", "b1|a2|1+1", "b3|a2|0+1")
	})
}

func TestSlowFinalize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var log faultyLog
		var now, most int
		var mu sync.Mutex
		_, stop := running(t, b, &log, &LoopOptions{
			Parallel: 3,
			Finalize: func(_ context.Context, m Match) error {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				d := time.Second
				if m.Bid == "b0" {
					d = time.Hour
				}
				time.Sleep(d)
				mu.Lock()
				now--
				mu.Unlock()
				return nil
			},
		})
		for i := range 20 {
			bid(t, b, fmt.Sprint("b", i), 1, 10)
			ask(t, b, fmt.Sprint("a", i), 1, 10)
		}
		time.Sleep(15 * time.Second)
		if got := jobs(t, &log); len(got) != 19 {
			t.Errorf("one slow job held up others: %d receipts", len(got))
		}
		time.Sleep(time.Hour)
		stop()
		if got := jobs(t, &log); len(got) != 20 || got[19] != "b0|a0|0+1" {
			t.Errorf("receipts: %q", got)
		}
		if most != 3 {
			t.Errorf("%d at a time, want 3", most)
		}
	})
}

// Cancelled while the work runs: what is in flight still counts, the rest does
// not match any more, and nothing comes back if the work fails.
func TestCancelInTheMiddle(t *testing.T) {
	for _, failing := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook(t, nil)
			var log faultyLog
			_, stop := running(t, b, &log, &LoopOptions{Finalize: func(context.Context, Match) error {
				time.Sleep(time.Second)
				if failing {
					return errors.New("no")
				}
				return nil
			}})
			bid(t, b, "b", 5, 10)
			ask(t, b, "a1", 2, 10)
			synctest.Wait()
			if units, err := b.Cancel("b"); units != 3 || err != nil {
				t.Errorf("cancelled %d, %v", units, err)
			}
			ask(t, b, "a2", 2, 10)
			time.Sleep(time.Minute)
			stop()
			if failing {
				wantJobs(t, &log)
			} else {
				wantJobs(t, &log, "b|a1|0+2")
			}
			if _, ok := b.Get("b"); ok {
				t.Error("the cancelled bid is back")
			}
			if r, _ := b.Get("a2"); r.Open() != 2 {
				t.Errorf("a2: %+v", r)
			}
		})
	}
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var log faultyLog
		l, stop := running(t, b, &log, &LoopOptions{
			Parallel: 2,
			Finalize: func(ctx context.Context, m Match) error {
				<-ctx.Done()
				if m.Bid == "b1" {
					return nil // done at the last moment
				}
				return ctx.Err()
			},
		})
		bid(t, b, "b1", 1, 10)
		ask(t, b, "a1", 1, 10)
		bid(t, b, "b2", 1, 10)
		ask(t, b, "a2", 1, 10)
		synctest.Wait()
		if err := l.Run(t.Context()); !errors.Is(err, ErrRunning) {
			t.Errorf("second Run: %v", err)
		}
		stop()
		wantJobs(t, &log, "b1|a1|0+1")
		if left := b.Snapshot(); len(left) != 2 || left[0].ID != "b2" || left[0].Open() != 1 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestLoopExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var log faultyLog
		var mu sync.Mutex
		var gone []string
		wantGone := func(want ...string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(gone, want) {
				t.Errorf("gone: %q, want %q", gone, want)
			}
		}
		_, stop := running(t, b, &log, &LoopOptions{OnExpired: func(r Resting) {
			mu.Lock()
			defer mu.Unlock()
			gone = append(gone, fmt.Sprint(r.ID, " ", time.Since(r.Since)))
		}})
		o := Order{ID: "late", Account: "x", Lane: admission.Consumer, Side: Bid, Units: 1, Price: 1}
		o.Expires = time.Now().Add(time.Hour)
		now(t, b, o)
		o.ID, o.Expires = "soon", time.Now().Add(time.Minute) // earlier than the one waited for
		now(t, b, o)
		time.Sleep(time.Minute)
		synctest.Wait()
		wantGone("soon 1m0s")
		time.Sleep(time.Hour)
		stop()
		wantGone("soon 1m0s", "late 1h0m0s")
	})
}

func TestRetryBounds(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range [][4]time.Duration{ // set, and what they become
		{0, 0, 50 * ms, 5000 * ms}, {0, 10 * ms, 10 * ms, 10 * ms}, {0, 60 * ms, 50 * ms, 60 * ms},
		{9000 * ms, 0, 9000 * ms, 9000 * ms}, {1, 2, 1, 2}, {3, 2, 3, 3},
	} {
		o := LoopOptions{RetryMin: c[0], RetryMax: c[1]}
		if err := o.defaults(); err != nil || o.RetryMin != c[2] || o.RetryMax != c[3] {
			t.Errorf("%v: %v and %v, %v", c, o.RetryMin, o.RetryMax, err)
		}
	}
}

func TestLoopOptions(t *testing.T) {
	for _, o := range []LoopOptions{
		{Parallel: -1}, {Batch: -1}, {IndustrialEvery: -1}, {OnFailure: 2}, {ReturnAfter: -1},
		{StarveAfter: -1}, {RetryMin: -1}, {RetryMax: -1}, {Grace: -1},
	} {
		if _, err := NewLoop(newBook(t, nil), &faultyLog{}, &o); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
