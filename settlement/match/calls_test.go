package match

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement"
)

// host is a caller all of whose code runs do first.
type host struct {
	receipttest.Mem
	do  func(callback string)
	log lines
}

func (h *host) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	h.do("Log.Append")
	return h.Mem.Append(ctx, rs)
}
func (h *host) Now() time.Time                           { h.do("Clock.Now"); return time.Now() }
func (h *host) Mode() settlement.Mode                    { h.do("Engine.Mode"); return settlement.Real }
func (h *host) Wake()                                    { h.do("Engine.Wake") }
func (h *host) Matched(bool, time.Duration)              { h.do("Metrics.Matched") }
func (h *host) PersistFailed()                           { h.do("Metrics.PersistFailed") }
func (h *host) Enabled(context.Context, slog.Level) bool { return true }
func (h *host) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *host) WithGroup(string) slog.Handler            { return h }
func (h *host) Handle(ctx context.Context, r slog.Record) error {
	h.do("Logger")
	return h.log.logger().Handler().Handle(ctx, r)
}

func (h *host) options() *LoopOptions {
	return &LoopOptions{
		Clock: h, Engine: h, Metrics: h, Logger: slog.New(h), ReturnAfter: time.Minute, StarveAfter: time.Minute, Parallel: 1,
		Finalize: func(_ context.Context, m Match) error {
			h.do("Finalize")
			time.Sleep(time.Second)
			if m.Bid == "fails" {
				return errDisk
			}
			return nil
		},
		OnFinal:   func(Match, receipt.Receipt) { h.do("OnFinal") },
		OnFailed:  func(Match, error) { h.do("OnFailed") },
		OnExpired: func(Resting) { h.do("OnExpired") },
	}
}

// market makes every callback be called.
func (h *host) market(t *testing.T, b *Book) {
	t.Helper()
	bid(t, b, "fails", 1, 20)
	bid(t, b, "b1", 1, 10)
	bid(t, b, "b2", 1, 10)
	ask(t, b, "a", 4, 1)
	now(t, b, Order{ID: "brief", Account: "x", Lane: admission.Consumer, Side: Bid, Units: 1, Price: 0, Expires: time.Now().Add(time.Second)})
}

// Whatever one callback does, the loop lives on, the failure is in the log, and
// book and log agree: in the end every unit is bought once.
func TestCallbacksThatFail(t *testing.T) {
	names := []string{
		"Log.Append", "Clock.Now", "Engine.Mode", "Engine.Wake", "Metrics.Matched", "Metrics.PersistFailed",
		"Logger", "Finalize", "OnFinal", "OnFailed", "OnExpired",
	}
	for how, fail := range map[string]func(){
		"panic": func() { panic("boom") }, "typed nil": func() { var e *callback.Panic; panic(e) }, "Goexit": runtime.Goexit,
	} {
		for _, name := range names {
			t.Run(name+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBook(t, nil)
					fired := 0
					var h host
					h.do = func(who string) {
						if who == name && fired < 3 {
							fired++
							fail()
						}
						if name == "Metrics.PersistFailed" && who == "Log.Append" && fired == 0 {
							panic("so that there is something to count")
						}
					}
					l, stop := running(t, b, &h, h.options())
					h.market(t, b)
					time.Sleep(5 * time.Minute)
					stop()
					// "fails" never trades; all that its failures and the ones
					// planted leave of the others does.
					wantJobs(t, &h, "b1|a|0+1 real", "b2|a|0+1 real")
					want(t, b, "at the end", "a", 2, 2, 0)
					want(t, b, "at the end", "fails", 1, 0, 0)
					if l.Stats(admission.Consumer).Matches != 0 || len(b.Snapshot()) != 2 {
						t.Errorf("left: %v", b.Snapshot())
					}
					if fired == 0 {
						t.Error("it was not called")
					}
					if line := name; how == "panic" && name != "Logger" && !strings.Contains(h.log.text(), line) {
						t.Errorf("the log does not name it:\n%s", h.log.text())
					}
				})
			})
		}
	}
}

// No callback is called under a lock: each may call the book and the loop.
func TestCallbacksThatCallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var h host
		var l *Loop
		var inside atomic.Int32
		ids := 0
		called := make(map[string]bool)
		h.do = func(who string) {
			if inside.Add(1) == 1 { // not for what is called back
				called[who] = true
				ids++
				id := fmt.Sprint("extra-", ids)
				if _, err := b.Submit(Order{ID: id, Account: "z", Lane: admission.Industrial, Side: Bid, Units: 1, Price: 1}, time.Now()); err != nil {
					t.Error(err)
				}
				b.Replace(id, 2, 2, time.Now())
				b.Get(id)
				b.Cancel(id)
				b.Depth(nil, admission.Consumer, Bid, 9)
				b.Snapshot()
				if l != nil {
					l.Stats(admission.Consumer)
					if err := l.Run(context.Background()); !errors.Is(err, ErrRunning) {
						t.Errorf("%s: Run: %v", who, err)
					}
				}
			}
			inside.Add(-1)
		}
		o := h.options()
		o.ReturnAfter = time.Hour
		var err error
		if l, err = NewLoop(b, &h, o); err != nil {
			t.Fatal(err)
		}
		stop := run(t, l)
		// A lane that starves, for the logger to be asked about.
		crowd(t, b, admission.Consumer, 100)
		put(t, b, Order{ID: "ib", Account: "x", Lane: admission.Industrial, Side: Bid, Units: 1, Price: 5})
		put(t, b, Order{ID: "ia", Account: "y", Lane: admission.Industrial, Side: Ask, Units: 1, Price: 5})
		h.market(t, b)
		time.Sleep(10 * time.Minute)
		stop()
		for _, name := range []string{"Log.Append", "Clock.Now", "Engine.Mode", "Engine.Wake", "Metrics.Matched", "Logger", "Finalize", "OnFinal", "OnFailed", "OnExpired"} {
			if !called[name] {
				t.Errorf("%s was not called", name)
			}
		}
	})
}

type typedNil struct{ cause error }

func (e *typedNil) Error() string { return e.cause.Error() }
func (e *typedNil) Unwrap() error { return e.cause }

// picky is an error that does not like to be asked for a verdict.
type picky struct{}

func (picky) Error() string { return "picky" }
func (picky) Is(target error) bool {
	if target == ErrBadBid {
		panic("do not ask")
	}
	return false
}

// An error that cannot be asked anything is a failure like any other.
func TestUnusableErrors(t *testing.T) {
	var e *typedNil
	for name, finalize := range map[string]func() error{
		"returned": func() error { return e },
		"wrapped":  func() error { return errors.Join(errDisk, e) },
		"panicked": func() error { panic(e) },
		"picky":    func() error { return picky{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, nil)
				var log lines
				var failed []error
				_, stop := running(t, b, new(receipttest.Mem), &LoopOptions{
					Finalize: func(context.Context, Match) error { return finalize() },
					OnFailed: func(_ Match, err error) { failed = append(failed, err) }, Logger: log.logger(),
				})
				bid(t, b, "b", 1, 1)
				ask(t, b, "a", 1, 1)
				synctest.Wait()
				stop()
				if len(failed) != 1 || failed[0].Error() == "" || errors.Is(failed[0], ErrBadBid) {
					t.Errorf("failed: %v", failed)
				}
				want(t, b, "after it", "b", 1, 0, 0)
			})
		})
	}
}

// What OnFailed is told says who was dropped.
func TestFailedSaysWhoWasDropped(t *testing.T) {
	for _, c := range []struct {
		policy   FailurePolicy
		err      error
		bid, ask bool // dropped
	}{
		{ReturnBid, errDisk, false, false},
		{DropBid, errDisk, true, false},
		{DropBid, ErrBadAsk, true, true},
		{ReturnBid, ErrBadAsk, false, true},
		{ReturnBid, ErrBadBid, true, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook(t, nil)
			var failed []error
			_, stop := running(t, b, new(receipttest.Mem), &LoopOptions{
				OnFailure: c.policy, Finalize: func(context.Context, Match) error { return c.err },
				OnFailed: func(_ Match, err error) { failed = append(failed, err) },
			})
			bid(t, b, "b", 1, 1)
			ask(t, b, "a", 1, 1)
			synctest.Wait()
			_, bidThere := b.Get("b")
			_, askThere := b.Get("a")
			if len(failed) != 1 || !errors.Is(failed[0], c.err) || errors.Is(failed[0], ErrBadBid) != c.bid || errors.Is(failed[0], ErrBadAsk) != c.ask ||
				bidThere == c.bid || askThere == c.ask {
				t.Errorf("%v, %v: told %v; bid there %v, ask there %v", c.policy, c.err, failed, bidThere, askThere)
			}
			if r, _ := b.Get("b"); r.Waiting != (!c.bid && !c.ask) {
				t.Errorf("%v, %v: the bid waits: %v", c.policy, c.err, r.Waiting)
			}
			stop()
		})
	}
}

// A match that somebody else closed is lost to the loop, and to nobody else.
func TestMatchClosedBySomebodyElse(t *testing.T) {
	for _, named := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook(t, nil)
			log := gated{in: make(chan struct{}), gate: make(chan error)}
			var out lines
			var failed []error
			done := false
			_, stop := running(t, b, &log, &LoopOptions{
				Logger: out.logger(), OnFailed: func(_ Match, err error) { failed = append(failed, err) },
				Finalize: func(_ context.Context, m Match) error {
					switch {
					case done:
						return errDisk
					case !named:
						done = true
						return b.Release(m, Bid) // no business of its own
					default:
						done = true
						go func() {
							time.Sleep(time.Second)
							b.Release(m, Bid)
						}()
					}
					return nil
				},
			})
			bid(t, b, "b", 1, 9)
			ask(t, b, "a", 1, 9)
			if named {
				<-log.in
				time.Sleep(time.Minute)
				log.gate <- nil
				synctest.Wait()
				if _, ok := b.Get("a"); ok {
					t.Error("the ask is sold, and in the book")
				}
			} else {
				synctest.Wait()
				if len(failed) == 0 || !errors.Is(failed[0], ErrEnded) {
					t.Errorf("failed: %v", failed)
				}
			}
			if out.count("match lost") != 1 {
				t.Error(out.text())
			}
			b.Cancel("b")
			stop()
			b.verify(t)
		})
	}
}

// Finalize runs in parallel as told, however few receipts an append takes, and
// no append takes more.
func TestParallelBeyondBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var log faultyLog
		var working, peak atomic.Int32
		most := 0
		log.before = func(int) error { time.Sleep(time.Millisecond); return nil }
		sized := sizes{&log, &most}
		_, stop := running(t, b, sized, &LoopOptions{
			Parallel: 50, Batch: 4,
			Finalize: func(context.Context, Match) error {
				peak.Store(max(peak.Load(), working.Add(1)))
				time.Sleep(time.Second)
				working.Add(-1)
				return nil
			},
		})
		crowd(t, b, admission.Consumer, 100)
		time.Sleep(time.Minute)
		stop()
		if len(jobs(t, &log)) != 100 || peak.Load() != 50 || most != 4 {
			t.Errorf("%d receipts, %d at a time, %d in an append", len(jobs(t, &log)), peak.Load(), most)
		}
	})
}

type sizes struct {
	*faultyLog
	most *int
}

func (s sizes) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	*s.most = max(*s.most, len(rs))
	return s.faultyLog.Append(ctx, rs)
}

func TestHugeCounts(t *testing.T) {
	for _, n := range []int{most + 1, math.MaxInt, -1} {
		for _, o := range []LoopOptions{{Parallel: n}, {Batch: n}, {IndustrialEvery: n}} {
			if _, err := NewLoop(newBook(t, nil), &faultyLog{}, &o); !errors.Is(err, ErrOptions) {
				t.Errorf("%d: %v", n, err)
			}
		}
		if _, err := NewBook(&Options{Capacity: n | 1<<24}); !errors.Is(err, ErrOptions) {
			t.Errorf("capacity %d: %v", n, err)
		}
	}
	if _, err := NewLoop(newBook(t, nil), &faultyLog{}, &LoopOptions{Parallel: most, Batch: most, IndustrialEvery: most}); err != nil {
		t.Error(err)
	}
}
