package admission

import (
	"testing"
	"time"
)

// start has no monotonic part, as the times that a caller brings along.
var start = time.Unix(1_700_000_000, 0)

type fixed struct{ t time.Time }

func (f *fixed) Now() time.Time { return f.t }

// open returns a controller at start, with capacity if that is not 0.
func open(t testing.TB, capacity uint64, o Options) *Controller {
	t.Helper()
	if o.Clock == nil {
		o.Clock = &fixed{start}
	}
	if o.Leases == 0 {
		o.Leases = 1 << 13
	}
	c, err := New(&o)
	if err != nil {
		t.Fatal(err)
	}
	if capacity > 0 {
		c.ObserveCapacityAt(capacity, start)
	}
	return c
}

// ask returns an industrial request.
func ask(buyer, provider string, shards uint64, d time.Duration) Request {
	return Request{JobID: "job", Buyer: buyer, Provider: provider, Lane: Industrial, Shards: shards, Duration: d}
}

func consumer(shards uint64, d time.Duration) Request {
	r := ask("somebody", "anybody", shards, d)
	r.Lane = Consumer
	return r
}

func want(t testing.TB, d Decision, code Code) Decision {
	t.Helper()
	if d.Code != code {
		t.Fatalf("got %v (mode %v, retry after %v), want %v", d.Code, d.Mode, d.RetryAfter, code)
	}
	return d
}

func tighten(c *Controller, now time.Time) {
	c.SetComfortThresholdAt(100, now)
	for range 50 {
		c.ObserveConsumerFeeAt(150, now)
	}
}

// spend frees what a lease holds but keeps its charges: the job has run, only the
// clock stands still.
func spend(c *Controller, l Lease) {
	b := &c.books
	lane, at := l.place()
	h := b.leases[lane].find(l, at, b.tick<<tickBits)
	b.drop(h, lane, at)
	h.end = 0
}

func leased(c *Controller) int64 {
	c.books.mu.Lock()
	defer c.books.mu.Unlock()
	return c.books.held()
}
