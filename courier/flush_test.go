package courier_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierprom"
	"github.com/computemarket/computemarket/courier/couriertest"
)

// forwarder is a peer as a function.
type forwarder func(ctx context.Context, r courier.Receipt, bundle io.Reader) error

func (f forwarder) Forward(ctx context.Context, r courier.Receipt, bundle io.Reader) error {
	return f(ctx, r, bundle)
}

var (
	errDown = errors.New("no route to host")
	takes   = forwarder(func(context.Context, courier.Receipt, io.Reader) error { return nil })
	down    = forwarder(func(context.Context, courier.Receipt, io.Reader) error { return errDown })
)

// peer counts how often each receipt was delivered.
type peer struct {
	mu  sync.Mutex
	got map[courier.ID]int
}

func (p *peer) Forward(_ context.Context, r courier.Receipt, _ io.Reader) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.got == nil {
		p.got = map[courier.ID]int{}
	}
	p.got[r.ID]++
	return nil
}

func newCourier(t testing.TB, s courier.Store, o *courier.Options) *courier.Courier {
	t.Helper()
	c, err := courier.New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// send sends n bundles, and returns their receipts.
func send(t testing.TB, c *courier.Courier, n int) (rs []courier.Receipt) {
	t.Helper()
	for i := range n {
		r, err := c.Send(t.Context(), strings.NewReader(fmt.Sprint("bundle ", i)), "sender")
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

func report(t testing.TB, c *courier.Courier, f courier.Forwarder, want courier.Report) {
	t.Helper()
	got, err := c.Flush(t.Context(), f)
	if got != want || err != nil {
		t.Errorf("Flush: %+v, %v\nwant %+v", got, err, want)
	}
}

func metric(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			sum := 0.0
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
			return sum
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

func TestRetryUpdatesMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, metrics := prometheus.NewPedanticRegistry(), courierprom.New(nil)
		reg.MustRegister(metrics)
		c := newCourier(t, new(couriertest.Model), &courier.Options{Metrics: metrics})
		sent := send(t, c, 1)

		var at []time.Time
		fails := 3
		flaky := forwarder(func(context.Context, courier.Receipt, io.Reader) error {
			if at = append(at, time.Now()); len(at) <= fails {
				return errDown
			}
			return nil
		})
		report(t, c, flaky, courier.Report{Forwarded: 1})
		if n := metric(t, reg, "courier_flush_attempt_total"); n != 4 {
			t.Errorf("%v attempts counted, want 4", n)
		}
		if n := metric(t, reg, "courier_flush_failure_total"); n != 3 {
			t.Errorf("%v failures counted, want 3", n)
		}
		checkBackoff(t, at, 100*time.Millisecond, 10*time.Second)
		r, err := c.Get(t.Context(), sent[0].ID)
		if err != nil || !r.Acknowledged() || r.Since.Before(at[3].Add(-time.Microsecond)) {
			t.Errorf("acknowledged: %+v, %v", r, err)
		}

		send(t, c, 1)
		at, fails = nil, 99
		report(t, c, flaky, courier.Report{Failed: 1, Remaining: 1})
		if n := metric(t, reg, "courier_flush_attempt_total"); n != 9 {
			t.Errorf("%v attempts counted, want 9", n)
		}
		if n := metric(t, reg, "courier_flush_failure_total"); n != 8 {
			t.Errorf("%v failures counted, want 8", n)
		}
	})
}

func checkBackoff(t *testing.T, at []time.Time, d, limit time.Duration) {
	t.Helper()
	for i := range len(at) - 1 {
		if wait := at[i+1].Sub(at[i]); wait < d || wait > d+d/2 {
			t.Errorf("%v after attempt %d, want %v to %v", wait, i+1, d, d+d/2)
		}
		d = min(2*d, limit)
	}
}

func TestBackoffIsCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), &courier.Options{
			MaxAttempts: 70, Backoff: time.Second, MaxBackoff: 3 * time.Second,
		})
		send(t, c, 1)
		var at []time.Time
		report(t, c, forwarder(func(context.Context, courier.Receipt, io.Reader) error {
			at = append(at, time.Now())
			return errDown
		}), courier.Report{Failed: 1, Remaining: 1})
		if len(at) != 70 {
			t.Errorf("%d attempts, want 70", len(at))
		}
		checkBackoff(t, at, time.Second, 3*time.Second)
	})
}

// Receipts that always fail hold up no other, though there are more of them
// than attempts may be in progress.
func TestFailingDelayNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), &courier.Options{Concurrency: 2, StopAfter: -1})
		sent := send(t, c, 100)
		bad := map[courier.ID]bool{}
		for _, r := range sent[:40] {
			bad[r.ID] = true
		}
		began := time.Now()
		var late atomic.Int64
		report(t, c, forwarder(func(_ context.Context, r courier.Receipt, _ io.Reader) error {
			if bad[r.ID] {
				return errDown
			}
			if time.Since(began) > 0 {
				late.Add(1)
			}
			return nil
		}), courier.Report{Forwarded: 60, Failed: 40, Remaining: 40})
		if n := late.Load(); n > 0 {
			t.Errorf("%d good receipts waited for the bad ones", n)
		}
	})
}

func TestPeerThatFailsEveryThirdTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), &courier.Options{MaxAttempts: 20})
		send(t, c, 2000)
		var n atomic.Int64
		report(t, c, forwarder(func(context.Context, courier.Receipt, io.Reader) error {
			if n.Add(1)%3 == 0 {
				return errDown
			}
			return nil
		}), courier.Report{Forwarded: 2000})
		if got := n.Load(); got != 2999 { // the last of n attempts succeeds: n - n/3 = 2000
			t.Errorf("%d attempts, want 2999", got)
		}
	})
}

func TestDeadPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), nil)
		send(t, c, 1000)
		var n atomic.Int64
		got, err := c.Flush(t.Context(), forwarder(func(context.Context, courier.Receipt, io.Reader) error {
			n.Add(1)
			return errDown
		}))
		if !errors.Is(err, courier.ErrPeerDown) || !errors.Is(err, errDown) || got != (courier.Report{Remaining: 1000}) {
			t.Errorf("%+v, %v", got, err)
		}
		if n := n.Load(); n < 32 || n > 32+16 {
			t.Errorf("%d attempts, want 32 and those in progress", n)
		}
		report(t, c, takes, courier.Report{Forwarded: 1000})
	})
}

// However many receipts at the head of the queue always fail, those behind
// them are forwarded: a flush begins where the last one stopped.
func TestPoisonAtTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), nil)
		sent := send(t, c, 200)
		bad := map[courier.ID]bool{}
		for _, r := range sent[:100] {
			bad[r.ID] = true
		}
		f := forwarder(func(_ context.Context, r courier.Receipt, _ io.Reader) error {
			if bad[r.ID] {
				return errDown
			}
			return nil
		})
		for range 5 {
			got, err := c.Flush(t.Context(), f)
			if err != nil && !errors.Is(err, courier.ErrPeerDown) {
				t.Fatal(err)
			}
			if got.Remaining == 100 {
				return
			}
		}
		t.Error("good receipts stay behind the bad ones")
	})
}

func TestPeerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), &courier.Options{Timeout: time.Second, MaxAttempts: 2})
		send(t, c, 3)
		began := time.Now()
		report(t, c, forwarder(func(ctx context.Context, _ courier.Receipt, _ io.Reader) error {
			<-ctx.Done()
			return ctx.Err()
		}), courier.Report{Failed: 3, Remaining: 3})
		if took := time.Since(began); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A slow link is no peer that hangs, as long as it moves.
func TestSlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), &courier.Options{
			Timeout: time.Second, MaxAttempts: 1, Bundles: courier.DirBundles(t.TempDir()),
		})
		if _, err := c.Send(t.Context(), strings.NewReader(strings.Repeat("x", 100)), "s"); err != nil {
			t.Fatal(err)
		}
		report(t, c, forwarder(func(ctx context.Context, _ courier.Receipt, b io.Reader) error {
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(900 * time.Millisecond):
				}
				if _, err := b.Read(make([]byte, 10)); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
			}
		}), courier.Report{Forwarded: 1})
	})
}

func TestCancelInMidFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), &courier.Options{Concurrency: 4})
		send(t, c, 100)
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64
		got, err := c.Flush(ctx, forwarder(func(ctx context.Context, _ courier.Receipt, _ io.Reader) error {
			if n.Add(1) > 20 {
				cancel()
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}))
		if !errors.Is(err, context.Canceled) || got != (courier.Report{Forwarded: 20, Remaining: 80}) {
			t.Errorf("%+v, %v: want 20 forwarded, 80 remaining, Canceled", got, err)
		}
		report(t, c, takes, courier.Report{Forwarded: 80})
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), &courier.Options{Backoff: time.Hour, MaxBackoff: time.Hour})
		send(t, c, 3)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Flush(ctx, down); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if _, err := c.Flush(ctx, down); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("begun after the deadline: %v", err)
		}
		report(t, c, takes, courier.Report{Forwarded: 3})
	})
}

func TestRejected(t *testing.T) {
	reg, metrics := prometheus.NewPedanticRegistry(), courierprom.New(nil)
	reg.MustRegister(metrics)
	c := newCourier(t, new(couriertest.Model), &courier.Options{Metrics: metrics})
	sent := send(t, c, 3)
	report(t, c, forwarder(func(_ context.Context, r courier.Receipt, _ io.Reader) error {
		if r.ID == sent[1].ID {
			return fmt.Errorf("%w: %s", courier.ErrRejected, strings.Repeat("é", 1000))
		}
		return nil
	}), courier.Report{Forwarded: 2, Rejected: 1})
	if n := metric(t, reg, "courier_dead_letter_total"); n != 1 {
		t.Errorf("%v dead letters counted, want 1", n)
	}
	var dead []courier.Receipt
	for r, err := range c.List(t.Context(), courier.Dead) {
		if err != nil {
			t.Fatal(err)
		}
		dead = append(dead, r)
	}
	if len(dead) != 1 || dead[0].ID != sent[1].ID || dead[0].Cause != courier.Rejected || dead[0].Reason == "" {
		t.Fatalf("dead: %+v", dead)
	}
	report(t, c, takes, courier.Report{})
	if n, err := c.Requeue(t.Context(), sent[0].ID, sent[1].ID, sent[1].ID, courier.ID{}); n != 1 || err != nil {
		t.Errorf("Requeue: %d, %v", n, err)
	}
	report(t, c, takes, courier.Report{Forwarded: 1})
}

type clock struct{ now atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Unix(c.now.Load(), 0) }
func (c *clock) Advance(d time.Duration) { c.now.Add(int64(d / time.Second)) }

// A receipt expires once flushes have seen the lifetime pass since the first that
// met it: as the time passes, at most a sixty-fourth later.
func TestLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), &courier.Options{Lifetime: time.Hour, StopAfter: -1, MaxAttempts: 1})
		send(t, c, 300)
		report(t, c, down, courier.Report{Failed: 300, Remaining: 300})
		time.Sleep(time.Hour)
		send(t, c, 2)
		report(t, c, down, courier.Report{Failed: 302, Remaining: 302})
		time.Sleep(time.Minute)
		report(t, c, down, courier.Report{Failed: 2, Expired: 300, Remaining: 2})
		for r, err := range c.List(t.Context(), courier.Dead) {
			if err != nil || r.Cause != courier.Expired {
				t.Fatalf("%+v, %v", r, err)
			}
			if n, err := c.Discard(t.Context(), r.ID); n != 1 || err != nil {
				t.Fatalf("Discard: %d, %v", n, err)
			}
		}
		report(t, c, takes, courier.Report{Forwarded: 2})
		if n, err := c.Count(t.Context()); err != nil || n != (courier.Counts{Acknowledged: 2}) {
			t.Errorf("Count: %+v, %v", n, err)
		}
	})
}

func TestPrune(t *testing.T) {
	clock := new(clock)
	c := newCourier(t, new(couriertest.Model), &courier.Options{Clock: clock})
	send(t, c, 600)
	report(t, c, takes, courier.Report{Forwarded: 600})
	clock.Advance(time.Hour)
	send(t, c, 5)
	report(t, c, takes, courier.Report{Forwarded: 5})
	send(t, c, 7)
	for _, want := range []int{600, 0} {
		if n, err := c.Prune(t.Context(), time.Minute); n != want || err != nil {
			t.Errorf("Prune: %d, %v, want %d", n, err, want)
		}
	}
	if n, err := c.Count(t.Context()); err != nil || n != (courier.Counts{Pending: 7, Acknowledged: 5}) {
		t.Errorf("Count: %+v, %v", n, err)
	}
}

// Flushes at once forward each receipt once, and none twice at the same time.
func TestFlushesAtOnce(t *testing.T) {
	c := newCourier(t, new(couriertest.Model), &courier.Options{GroupSize: 8})
	sent := send(t, c, 500)
	var p peer
	var wg sync.WaitGroup
	var forwarded atomic.Uint64
	for range 4 {
		wg.Go(func() {
			got, err := c.Flush(t.Context(), &p)
			if err != nil {
				t.Error(err)
			}
			forwarded.Add(got.Forwarded)
		})
	}
	wg.Wait()
	for _, r := range sent {
		if p.got[r.ID] != 1 {
			t.Errorf("receipt %v was forwarded %d times", r.ID, p.got[r.ID])
		}
	}
	if n := forwarded.Load(); n != 500 {
		t.Errorf("reports say %d forwarded, want 500", n)
	}
}

func TestProgress(t *testing.T) {
	var seen []courier.Report
	c := newCourier(t, new(couriertest.Model), &courier.Options{
		GroupSize: 10, Progress: func(r courier.Report) { seen = append(seen, r) },
	})
	send(t, c, 100)
	report(t, c, takes, courier.Report{Forwarded: 100})
	if len(seen) < 10 || seen[len(seen)-1].Forwarded != 100 {
		t.Errorf("%d reports, the last: %+v", len(seen), seen[len(seen)-1])
	}
	for i := 1; i < len(seen); i++ {
		if seen[i].Forwarded < seen[i-1].Forwarded || seen[i].Forwarded > seen[i-1].Forwarded+10 {
			t.Errorf("report %d: %d forwarded after %d", i, seen[i].Forwarded, seen[i-1].Forwarded)
		}
	}
}
