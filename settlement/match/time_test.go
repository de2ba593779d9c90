package match

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

// An expiry is an instant of the wall clock, whatever monotonic readings the
// caller's times carry: time.Now has one, what came over a wire has none.
func TestExpiryIsOnTheWallClock(t *testing.T) {
	now := time.Now()
	wire := now.Add(time.Hour).Round(0) // as it comes over a wire
	// The same moment, after the wall clock was set forward by d: time.Now would
	// return a reading with the old monotonic part, which Add keeps.
	set := func(d time.Duration) time.Time { return now.Round(0).Add(d) }
	for _, expires := range []time.Time{wire, now.Add(time.Hour)} {
		for _, c := range []struct {
			at   time.Time
			gone bool
		}{{set(time.Hour - 1), false}, {set(time.Hour), true}, {now.Add(time.Hour - 1), false}, {now.Add(time.Hour), true}} {
			b := newBook(t, nil)
			o := Order{ID: "o", Account: "x", Lane: admission.Consumer, Side: Bid, Units: 1, Price: 1, Expires: expires}
			if _, err := b.Submit(o, now); err != nil {
				t.Fatal(err)
			}
			if r, _ := b.Get("o"); !r.Expires.Equal(wire) || r.Expires != r.Expires.Round(0) {
				t.Errorf("expires %v, want %v", r.Expires, wire)
			}
			if gone := b.Expire(nil, c.at); len(gone) == 1 != c.gone {
				t.Errorf("expires %v, at %v: %v", expires, c.at, gone)
			}
			o.ID = "late"
			if _, err := b.Submit(o, c.at); errors.Is(err, ErrExpired) != c.gone {
				t.Errorf("expires %v, submitted at %v: %v", expires, c.at, err)
			}
		}
	}
}

// Times far from each other are kept as they are.
func TestFarTimes(t *testing.T) {
	far := time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
	for i, now := range []time.Time{{}, time.Unix(0, 0), epoch, far.Add(-1)} {
		b := newBook(t, nil)
		for k, first := range []time.Time{{}, now} { // also where the first now is the zero time
			o := Order{ID: fmt.Sprint(k), Account: "x", Lane: admission.Consumer, Side: Bid, Units: 1, Price: 1, Expires: far}
			if _, err := b.Submit(o, first); err != nil {
				t.Fatal(err)
			}
			if r, _ := b.Get(o.ID); !r.Since.Equal(first) || !r.Expires.Equal(far) {
				t.Errorf("now %d: since %v, expires %v; want %v, %v", i, r.Since, r.Expires, first, far)
			}
		}
		o := Order{ID: "back", Account: "x", Lane: admission.Consumer, Side: Bid, Units: 1, Price: 1}
		if _, err := b.Submit(o, time.Time{}); err != nil { // set back again
			t.Fatal(err)
		}
		if r, _ := b.Get("back"); !r.Since.IsZero() {
			t.Errorf("now %d: since %v", i, r.Since)
		}
		if at, _ := b.NextExpiry(); !at.Equal(far) {
			t.Errorf("next expiry %v", at)
		}
		if gone := b.Expire(nil, far.Add(-1)); len(gone) != 0 {
			t.Errorf("gone early: %v", gone)
		}
		if gone := b.Expire(nil, far); len(gone) != 2 {
			t.Errorf("gone: %v", gone)
		}
	}
	// More ages than there is room for: nothing breaks.
	b := newBook(t, nil)
	for i := range 100 {
		o := Order{ID: fmt.Sprint(i), Account: "x", Lane: admission.Consumer, Side: Bid, Units: 1, Price: 1}
		if _, err := b.Submit(o, epoch.AddDate(i*500, 0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if r, _ := b.Get("20"); r.Since.Year() != epoch.Year()+20*500 {
		t.Errorf("since %v", r.Since)
	}
	b.verify(t)
}

// stepped is a clock that can be set.
type stepped struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *stepped) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Round(0).Add(c.ahead)
}

func (c *stepped) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// When the clock is set forward, what has expired goes at the next look, which
// is a second off at most, and does not match before. When it is set back, there
// is more time.
func TestLoopFollowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var clock stepped
		var gone []string
		var log receipttest.Mem
		_, stop := running(t, b, &log, &LoopOptions{Clock: &clock, OnExpired: func(r Resting) { gone = append(gone, r.ID) }})
		o := Order{ID: "hour", Account: "x", Lane: admission.Consumer, Side: Bid, Units: 1, Price: 5, Expires: clock.Now().Add(time.Hour)}
		now(t, b, o)
		o.ID, o.Expires = "day", clock.Now().Add(24*time.Hour)
		now(t, b, o)
		clock.step(2 * time.Hour)
		ask(t, b, "a", 1, 5) // a message: the loop looks
		synctest.Wait()
		if len(gone) != 1 || gone[0] != "hour" {
			t.Errorf("gone: %v", gone)
		}
		wantJobs(t, &log, "day|a|0+1")
		o.ID = "day 2"
		now(t, b, o)
		clock.step(-12 * time.Hour)
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if len(gone) != 1 {
			t.Errorf("gone: %v", gone)
		}
		clock.step(24 * time.Hour)
		time.Sleep(time.Second) // and no message
		synctest.Wait()
		if len(gone) != 2 {
			t.Errorf("gone: %v", gone)
		}
		stop()
	})
}

// Delays and ages are times that pass: setting the clock back makes none longer.
func TestDelaysSurviveTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var clock stepped
		broken := true
		log := faultyLog{before: func(int) error {
			if broken {
				return errDisk
			}
			return nil
		}}
		l, stop := running(t, b, &log, &LoopOptions{Clock: &clock, RetryMin: 10 * time.Second, RetryMax: 10 * time.Second})
		bid(t, b, "b", 1, 1)
		ask(t, b, "a", 1, 1)
		synctest.Wait()
		broken = false
		clock.step(-time.Hour)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		wantJobs(t, &log, "b|a|0+1")
		if s := l.Stats(admission.Consumer); s.Oldest != 0 {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// The longest durations mean for ever: nothing is tried in a tight loop.
func TestForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		log := faultyLog{before: func(n int) error { return errDisk }}
		_, stop := running(t, b, &log, &LoopOptions{
			RetryMin: math.MaxInt64, RetryMax: math.MaxInt64, ReturnAfter: math.MaxInt64, StarveAfter: math.MaxInt64,
		})
		bid(t, b, "b", 1, 1)
		ask(t, b, "a", 1, 1)
		time.Sleep(time.Hour)
		synctest.Wait()
		if log.n != 1 {
			t.Errorf("%d appends with a pause for ever", log.n)
		}
		stop()
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		log := faultyLog{before: func(n int) error { return receipt.ErrUnknown }}
		_, stop := running(t, b, &log, &LoopOptions{RetryMin: time.Second, RetryMax: math.MaxInt64})
		bid(t, b, "b", 1, 1)
		ask(t, b, "a", 1, 1)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if log.n > 17 { // it doubles each time
			t.Errorf("%d appends", log.n)
		}
		stop()
	})
}

func TestLaterSaturates(t *testing.T) {
	if later(math.MaxInt64-1, 2) != math.MaxInt64 || later(1, math.MaxInt64) != math.MaxInt64 || later(1, 2) != 3 {
		t.Error("later does not saturate")
	}
}

// A clock that is set, also to and fro, makes no delay shorter, and none longer.
func TestDelaysWhateverTheClock(t *testing.T) {
	for _, c := range []struct {
		name string
		opts LoopOptions
		work error
		log  error
	}{
		{"a bid waits", LoopOptions{ReturnAfter: time.Hour}, errDisk, nil},
		{"an append waits", LoopOptions{RetryMin: time.Hour, RetryMax: time.Hour}, nil, errDisk},
		{"a lane starves", LoopOptions{StarveAfter: time.Hour, Batch: 1, RetryMin: math.MaxInt64}, nil, errDisk},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, nil)
				var clock stepped
				var out lines
				tries := 0
				log := faultyLog{before: func(int) error { return c.log }}
				o := c.opts
				o.Clock, o.Logger = &clock, out.logger()
				o.Finalize = func(context.Context, Match) error { tries++; return c.work }
				if c.work == nil {
					o.Finalize = nil
				}
				_, stop := running(t, b, &log, &o)
				n := 1
				if c.opts.Batch == 1 {
					n = 9
				}
				crowd(t, b, admission.Consumer, n)
				for range 10 {
					for _, d := range []time.Duration{2 * time.Hour, -2 * time.Hour, -50 * time.Second, 50 * time.Second} {
						clock.step(d)
						time.Sleep(2 * time.Second)
					}
				}
				events := func() int { return max(tries, log.n) + out.count("lane starves") }
				synctest.Wait()
				if events() != 1 {
					t.Errorf("80 s of an hour: %d tries, %d appends; %s", tries, log.n, out.text())
				}
				clock.step(-5 * time.Hour)
				time.Sleep(time.Hour)
				synctest.Wait()
				if events() != 2 {
					t.Errorf("after the hour: %d tries, %d appends; %s", tries, log.n, out.text())
				}
				stop()
			})
		})
	}
}

// What the metrics are told is how long it took, wherever the clock is set.
func TestTookWhateverTheClock(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook(t, nil)
			var clock stepped
			var took took
			_, stop := running(t, b, new(receipttest.Mem), &LoopOptions{
				Clock: &clock, Metrics: &took,
				Finalize: func(context.Context, Match) error {
					time.Sleep(time.Second)
					clock.step(step)
					time.Sleep(time.Second)
					return nil
				},
			})
			time.Sleep(10 * time.Second)
			bid(t, b, "b", 1, 9)
			ask(t, b, "a", 1, 9)
			time.Sleep(time.Minute)
			stop()
			if took < 0 || took > took2s {
				t.Errorf("a step of %v: %v", step, time.Duration(took))
			}
		})
	}
}

type took time.Duration

const took2s = took(2 * time.Second)

func (k *took) Matched(_ bool, d time.Duration) { *k = took(d) }
func (k *took) PersistFailed()                  {}

// A clock that tells what no receipt can hold has failed: the bids are not at
// fault, and the last reading counts.
func TestClockBeyondReceipts(t *testing.T) {
	for _, year := range []int{-5, 0, 10000, 200000} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook(t, nil)
			var log receipttest.Mem
			var out lines
			began := time.Now()
			_, stop := running(t, b, &log, &LoopOptions{
				Clock: fixed(time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC)), Logger: out.logger(),
				OnFailed: func(_ Match, err error) { t.Error(err) },
			})
			bid(t, b, "b", 1, 9)
			ask(t, b, "a", 1, 9)
			time.Sleep(time.Minute)
			stop()
			wantJobs(t, &log, "b|a|0+1")
			for r := range log.After(t.Context(), 0) {
				if r.IssuedAt.Before(began.Add(-time.Second)) || r.IssuedAt.After(time.Now()) {
					t.Errorf("issued at %v", r.IssuedAt)
				}
			}
			if out.count("clock failed") == 0 {
				t.Error("nothing tells of it")
			}
		})
	}
}

// Of a clock that stands still a moment before something is due, the loop takes no
// more readings than one in a millisecond.
func TestClockThatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		at := time.Now()
		var clock readings
		clock.at = at
		_, stop := running(t, b, new(receipttest.Mem), &LoopOptions{Clock: &clock})
		if _, err := b.Submit(Order{ID: "b", Account: "x", Lane: admission.Consumer, Side: Bid, Units: 1, Price: 1, Expires: at.Add(1)}, at); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		stop()
		if n := clock.n.Load(); n < 90 || n > 110 {
			t.Errorf("%d readings in 100 ms", n)
		}
	})
}

type readings struct {
	at time.Time
	n  atomic.Int32
}

func (r *readings) Now() time.Time { r.n.Add(1); return r.at }
