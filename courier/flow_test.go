package courier_test

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriertest"
)

// As many attempts are in progress at once as allowed, and never more.
func TestConcurrency(t *testing.T) {
	for _, most := range []int64{1, 2, 16, 100} {
		synctest.Test(t, func(t *testing.T) {
			c := newCourier(t, new(couriertest.Model), &courier.Options{Concurrency: int(most)})
			send(t, c, 400)
			var mu sync.Mutex
			var now, seen int64
			began := time.Now()
			report(t, c, forwarder(func(context.Context, courier.Receipt, io.Reader) error {
				mu.Lock()
				now++
				seen = max(seen, now)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				return nil
			}), courier.Report{Forwarded: 400})
			if seen != most {
				t.Errorf("%d at once, want %d", seen, most)
			}
			if took, want := time.Since(began), time.Duration(400/most)*time.Second; took > want+want/10 {
				t.Errorf("%d at once took %v, want about %v", most, took, want)
			}
		})
	}
}

// stuck is a store whose Move waits.
type stuck struct {
	*couriertest.Model
	release chan struct{}
}

func (s stuck) Move(ctx context.Context, moves []courier.Move) (int, error) {
	<-s.release
	return s.Model.Move(ctx, moves)
}

// While a group is not acknowledged, no more is forwarded than one further group
// and what was in progress.
func TestSlowStoreHoldsForwarding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stuck{new(couriertest.Model), make(chan struct{})}
		c := newCourier(t, s, &courier.Options{Concurrency: 4, GroupSize: 20})
		send(t, c, 500)
		var n atomic.Int64
		go func() {
			synctest.Wait()
			if n := n.Load(); n < 20 || n > 20+20+4 {
				t.Errorf("%d forwarded while none is acknowledged", n)
			}
			close(s.release)
		}()
		report(t, c, forwarder(func(context.Context, courier.Receipt, io.Reader) error {
			n.Add(1)
			return nil
		}), courier.Report{Forwarded: 500})
	})
}

// While as many wait for their next attempt as allowed, no first attempt begins.
func TestMaxWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), &courier.Options{
			Concurrency: 2, MaxWaiting: 10, MaxAttempts: 2, Backoff: time.Hour, MaxBackoff: time.Hour, StopAfter: -1,
		})
		send(t, c, 100)
		var n atomic.Int64
		go func() {
			synctest.Wait()
			if n := n.Load(); n < 10 || n > 10+2 {
				t.Errorf("%d attempted before the first waited long enough", n)
			}
		}()
		report(t, c, forwarder(func(context.Context, courier.Receipt, io.Reader) error {
			n.Add(1)
			return errDown
		}), courier.Report{Failed: 100, Remaining: 100})
		if n := n.Load(); n != 200 {
			t.Errorf("%d attempts, want 200", n)
		}
	})
}

// An attempt that hangs ends alone: those beside it, those after it on the same
// worker, and its own next one have their full time.
func TestHangEndsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), &courier.Options{Timeout: time.Second, Concurrency: 2, MaxAttempts: 2})
		sent := send(t, c, 20)
		first := true
		report(t, c, forwarder(func(ctx context.Context, r courier.Receipt, _ io.Reader) error {
			wait := 900 * time.Millisecond
			if r.ID == sent[0].ID && first {
				first, wait = false, time.Hour
			}
			select {
			case <-time.After(wait):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}), courier.Report{Forwarded: 20})
	})
}

// A flush that hangs keeps another from no more than it has in hand.
func TestHungFlushHoldsFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourier(t, new(couriertest.Model), &courier.Options{Concurrency: 4, Timeout: time.Hour, MaxAttempts: 1})
		send(t, c, 300)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Flush(ctx, forwarder(func(ctx context.Context, _ courier.Receipt, _ io.Reader) error {
				<-ctx.Done()
				return ctx.Err()
			}))
		}()
		synctest.Wait()
		report(t, c, takes, courier.Report{Forwarded: 296, Remaining: 4})
		cancel()
		<-done
		report(t, c, takes, courier.Report{Forwarded: 4})
	})
}
