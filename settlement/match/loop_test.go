package match

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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

// A log that fails leaves the orders in the book; the same receipts are tried
// again until they are there, once each, written by a failed append or not.
func TestFailingLog(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when+" writing", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fail := func(n int) error {
					if n <= 9 {
						return errDisk
					}
					return nil
				}
				var log faultyLog
				if when == "before" {
					log.before = fail
				} else {
					log.after = fail
				}
				b := newBook(t, nil)
				var m counter
				_, stop := running(t, b, &log, &LoopOptions{Metrics: &m})
				began := time.Now()
				bid(t, b, "b1", 5, 10)
				ask(t, b, "a1", 3, 10)
				synctest.Wait()
				if r, ok := b.Get("a1"); !ok || r.InFlight != 3 {
					t.Errorf("after a failed append: %+v, %v", r, ok)
				}
				ask(t, b, "a2", 2, 10) // matches meanwhile, and waits its turn
				time.Sleep(time.Minute)
				stop()
				wantJobs(t, &log, "b1|a1|0+3", "b1|a2|3+2")
				if len(b.Snapshot()) != 0 {
					t.Errorf("left: %v", b.Snapshot())
				}
				if m.failed != 9 || m.dry != 2 {
					t.Errorf("metrics %+v", &m)
				}
				var pauses []string
				for i, at := range log.times[:10] {
					if i > 0 {
						began = log.times[i-1]
					}
					pauses = append(pauses, at.Sub(began).String())
				}
				if got := strings.Join(pauses, " "); got != "0s 50ms 100ms 200ms 400ms 800ms 1.6s 3.2s 5s 5s" {
					t.Errorf("pauses: %s", got)
				}
			})
		})
	}
}

// refusing answers a status for one job, and writes the rest.
type refusing struct {
	receipttest.Mem
	job    string
	status receipt.Status
}

func (l *refusing) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	statuses := make([]receipt.Status, len(rs))
	for i := range rs {
		if rs[i].JobID == l.job {
			if l.status == 0 {
				rs[i].Key[0]++ // not valid any more
				return l.Mem.Append(ctx, rs)
			}
			statuses[i] = l.status
			continue
		}
		s, err := l.Mem.Append(ctx, rs[i:i+1])
		if err != nil {
			return nil, err
		}
		statuses[i] = s[0]
	}
	return statuses, receipt.Refusal(rs, statuses)
}

func TestRefusedReceipt(t *testing.T) {
	for _, c := range []struct {
		name   string
		status receipt.Status
		err    error
	}{
		{"conflict", receipt.Conflict, receipt.ErrConflict},
		{"corrupt", receipt.Corrupt, receipt.ErrCorrupt},
		{"invalid", 0, receipt.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, nil)
				bid(t, b, "b1", 1, 10)
				bid(t, b, "b2", 1, 10)
				bid(t, b, "b3", 1, 10)
				ask(t, b, "a", 3, 10)
				log := &refusing{job: "b2|a|0+1", status: c.status}
				var failed []error
				_, stop := running(t, b, log, &LoopOptions{OnFailed: func(m Match, err error) { failed = append(failed, err) }})
				time.Sleep(time.Hour)
				stop()
				// The others have theirs, the bid is gone, the ask is not harmed.
				wantJobs(t, log, "b1|a|0+1", "b3|a|0+1")
				if len(failed) != 1 || !errors.Is(failed[0], c.err) {
					t.Errorf("failed: %v", failed)
				}
				if left := b.Snapshot(); len(left) != 1 || left[0].ID != "a" || left[0].Open() != 1 {
					t.Errorf("left: %v", left)
				}
			})
		})
	}
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

// When it is not known whether a receipt was recorded, its units stay reserved
// over the end of Run, and the next one appends the very same receipt.
func TestUnknownOutcomeOverRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		down := true
		log := faultyLog{after: func(int) error {
			if down {
				return receipt.ErrUnknown
			}
			return nil
		}}
		l, stop := running(t, b, &log, nil)
		bid(t, b, "b1", 4, 10)
		ask(t, b, "a1", 2, 10)
		time.Sleep(time.Second)
		stop()
		if r, _ := b.Get("b1"); r.InFlight != 2 {
			t.Errorf("between the runs: %+v", r)
		}
		bid(t, b, "b0", 4, 11) // better than b1, and a1 must not be sold again
		down = false
		run(t, l)()
		wantJobs(t, &log, "b1|a1|0+2")
		if left := b.Snapshot(); len(left) != 2 || left[0].Open() != 2 || left[1].Open() != 4 {
			t.Errorf("left: %v", left)
		}
	})
}

// A log that hangs does not keep Run from ending.
func TestHangingLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		_, stop := running(t, b, hanging{}, nil)
		bid(t, b, "b", 1, 10)
		ask(t, b, "a", 1, 10)
		synctest.Wait()
		began := time.Now()
		stop()
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("ended after %v, want the grace of 5s", d)
		}
	})
}

type hanging struct{}

func (hanging) Append(ctx context.Context, _ []receipt.Receipt) ([]receipt.Status, error) {
	<-ctx.Done()
	return nil, ctx.Err()
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

func TestLoopOptions(t *testing.T) {
	for _, o := range []LoopOptions{
		{Parallel: -1}, {Batch: -1}, {IndustrialEvery: -1}, {OnFailure: 2}, {ReturnAfter: -1},
		{StarveAfter: -1}, {RetryMin: -1}, {RetryMax: -1}, {Grace: -1},
	} {
		if _, err := NewLoop(newBook(t, nil), &faultyLog{}, &o); err == nil {
			t.Errorf("accepted: %+v", o)
		}
	}
}

// crowd puts n crossing pairs into a lane.
func crowd(t *testing.T, b *Book, lane admission.Lane, n int) {
	t.Helper()
	for i := range n {
		put(t, b, Order{ID: fmt.Sprint(lane, "-b", i), Account: "x", Lane: lane, Side: Bid, Units: 1, Price: 5})
		put(t, b, Order{ID: fmt.Sprint(lane, "-a", i), Account: "y", Lane: lane, Side: Ask, Units: 1, Price: 5})
	}
}

func TestLaneFairness(t *testing.T) {
	for _, c := range []struct{ parallel, batch int }{{1, 0}, {3, 0}, {8, 0}, {100, 0}, {0, 16}, {0, 1024}} {
		t.Run(fmt.Sprintf("parallel=%d,batch=%d", c.parallel, c.batch), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, nil)
				crowd(t, b, admission.Consumer, 500)
				crowd(t, b, admission.Industrial, 500)
				o := LoopOptions{Batch: c.batch}
				if c.parallel > 0 {
					o.Parallel = c.parallel
					o.Finalize = func(context.Context, Match) error { time.Sleep(time.Second); return nil }
				}
				var lanes []admission.Lane
				o.OnFinal = func(m Match, _ receipt.Receipt) { lanes = append(lanes, m.Lane) }
				_, stop := running(t, b, &faultyLog{}, &o)
				time.Sleep(2000 * time.Second)
				stop()
				if len(lanes) != 1000 {
					t.Fatalf("%d matches", len(lanes))
				}
				// While both lanes have something, consumers get 7 of 8, and
				// industry is never without for longer than a pass and a turn.
				first := slices.Index(lanes, admission.Industrial)
				last := len(lanes) - 1
				for lanes[last] != admission.Consumer {
					last--
				}
				industrial := 0
				for _, l := range lanes[:last+1] {
					if l == admission.Industrial {
						industrial++
					}
				}
				if got := float64(industrial) / float64(last+1); c.parallel < 100 && c.batch < 1000 && (got < 0.11 || got > 0.14) {
					t.Errorf("industry has %.3f of the matches, want 1/8", got)
				}
				if most := max(c.parallel, c.batch, 8); first > most {
					t.Errorf("industry's first match is number %d", first)
				}
			})
		})
	}
}

func TestStarvationWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var out bytes.Buffer
		var log faultyLog
		l, stop := running(t, b, &log, &LoopOptions{
			Parallel:    1,
			StarveAfter: time.Minute,
			Finalize:    func(context.Context, Match) error { time.Sleep(10 * time.Minute); return nil },
			Logger:      slog.New(slog.NewTextHandler(&out, nil)),
		})
		crowd(t, b, admission.Consumer, 1)
		synctest.Wait()
		crowd(t, b, admission.Industrial, 1)
		synctest.Wait()
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if s := l.Stats(admission.Industrial); s.Starving || s.Waiting != 59*time.Second || s.Bids != 1 || s.Asks != 1 {
			t.Errorf("after 59 s: %+v", s)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		s := l.Stats(admission.Industrial)
		if !s.Starving || s.OldestID != "industrial-b0" {
			t.Errorf("after 6 min: %+v", s)
		}
		if s := l.Stats(admission.Consumer); s.Starving || s.Matches != 1 {
			t.Errorf("consumers: %+v", s)
		}
		if n := strings.Count(out.String(), "lane starves"); n != 1 || !strings.Contains(out.String(), "industrial") {
			t.Errorf("warned %d times:\n%s", n, out.String())
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if s := l.Stats(admission.Industrial); s.Starving || s.Matches != 1 {
			t.Errorf("once it had its turn: %+v", s)
		}
		time.Sleep(time.Hour)
		stop()
	})
}
