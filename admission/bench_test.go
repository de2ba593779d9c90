package admission

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// benchStart has no monotonic part: the benchmarks bring their own time.
var benchStart = time.Unix(1_700_000_000, 0)

func benchController(b *testing.B) *Controller {
	b.Helper()
	c, err := New(&Options{CapacityAge: MaxDuration})
	if err != nil {
		b.Fatal(err)
	}
	c.ObserveCapacityAt(1_000_000, benchStart)
	return c
}

// benchRequests are jobs of 64 buyers with 16 providers, one shard for 100
// microseconds each.
func benchRequests() []Request {
	rs := make([]Request, 64)
	for i := range rs {
		rs[i] = Request{
			JobID: fmt.Sprintf("job-%08d", i), Buyer: fmt.Sprintf("buyer-%04d", i),
			Provider: fmt.Sprintf("provider-%04d", i%16), Lane: Industrial,
			Shards: 1, Duration: 100 * time.Microsecond,
		}
	}
	return rs
}

// floor returns the time of two AllowN at the same time value: what two token
// buckets cost, for a buyer and a provider.
func floor(n int) time.Duration {
	a, b := rate.NewLimiter(1e12, 1e9), rate.NewLimiter(1e12, 1e9)
	now := benchStart
	began := time.Now()
	for range n {
		now = now.Add(200)
		a.AllowN(now, 1)
		b.AllowN(now, 1)
	}
	return time.Since(began)
}

func BenchmarkDecide(b *testing.B) {
	b.Run("admit", func(b *testing.B) {
		c, rs := benchController(b), benchRequests()
		now, n := benchStart, 0
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(200)
			if d := c.DecideAt(rs[n&63], now); d.Code != Admitted {
				b.Fatal(d.Code, d.RetryAfter)
			}
			n++
		}
		each := b.Elapsed()
		b.ReportMetric(float64(floor(n))/float64(each), "xfloor")
	})
	b.Run("consumer", func(b *testing.B) {
		c, r := benchController(b), benchRequests()[0]
		r.Lane = Consumer
		now := benchStart
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(200)
			c.DecideAt(r, now)
		}
	})
	b.Run("clock", func(b *testing.B) {
		c, err := New(&Options{CapacityAge: MaxDuration})
		if err != nil {
			b.Fatal(err)
		}
		c.ObserveCapacityAt(1_000_000, time.Now())
		rs, n := benchRequests(), 0
		b.ReportAllocs()
		for b.Loop() {
			if d := c.Decide(rs[n&63]); d.Code != Admitted {
				b.Fatal(d.Code, d.RetryAfter)
			}
			n++
		}
	})
	b.Run("release", func(b *testing.B) {
		c, rs := benchController(b), benchRequests()
		now, n := benchStart, 0
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(200)
			if d := c.DecideAt(rs[n&63], now); !c.ReleaseAt(d.Lease, now) {
				b.Fatal(d.Code)
			}
			n++
		}
	})
	for _, code := range []Code{Brownout, DeferredTight, BuyerShare, Capacity} {
		b.Run("reject/"+code.String(), func(b *testing.B) {
			c, r, now := rejecting(b, code)
			b.ReportAllocs()
			for b.Loop() {
				if d := c.DecideAt(r, now); d.Code != code {
					b.Fatal(d.Code)
				}
			}
		})
	}
	b.Run("contended", func(b *testing.B) {
		c, rs := benchController(b), benchRequests()
		var newest, worker atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			n, at := worker.Add(1)*17, int64(0)
			for pb.Next() {
				if n++; n&255 == 0 { // the workers' times must not run apart
					at = max(at, newest.Load())
					newest.Store(at)
				}
				at += 400
				c.DecideAt(rs[n&63], benchStart.Add(time.Duration(at)))
			}
		})
	})
}

// rejecting returns a controller that answers code to a request.
func rejecting(b *testing.B, code Code) (*Controller, Request, time.Time) {
	b.Helper()
	c, r, now := benchController(b), benchRequests()[0], benchStart
	switch code {
	case Brownout:
		for range 61 {
			c.ObserveCapacityAt(0, now)
		}
	case DeferredTight:
		c.SetComfortThresholdAt(1, now)
		for range 50 {
			c.ObserveConsumerFeeAt(100, now)
		}
		r.Shards, r.Duration = 1_000_000, 29*time.Second // more than a turn holds
	case BuyerShare:
		// Jobs that have run, while the clock stands still.
		r.Shards, r.Duration = 500_000, time.Second
		for {
			d := c.DecideAt(r, now)
			if d.Code != Admitted {
				break
			}
			spend(c, d.Lease)
		}
	case Capacity:
		r.Shards, r.Duration = 1_000_000, time.Second
		c.DecideAt(r, now)
		r.Shards = 1
	}
	return c, r, now
}
