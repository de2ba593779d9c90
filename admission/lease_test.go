package admission

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRelease gives back what was not used, once.
func TestRelease(t *testing.T) {
	c := open(t, 100, Options{CapacityAge: time.Hour, Burst: 10 * time.Second})
	r := ask("b", "p", 80, 2*time.Second)
	d := want(t, c.DecideAt(r, start), Admitted)
	full := c.books.total.tat
	l := *c.books.find(d.Lease, c.at(start))
	half := start.Add(time.Second)
	if s := c.StatusAt(half); s.Leased != 80 {
		t.Fatalf("%+v", s)
	}
	if !c.ReleaseAt(d.Lease, half) {
		t.Fatal("not released")
	}
	if s := c.StatusAt(half); s.Leased != 0 {
		t.Fatalf("%+v", s)
	}
	// 80 of 100 shards for two seconds are 1.6 s of capacity; half came back.
	if back := time.Duration(full - c.books.total.tat); (back - 800*time.Millisecond).Abs() > time.Microsecond {
		t.Errorf("%v given back, want 800ms", back)
	}
	if time.Duration(l.buyer.cost) < 6*time.Second || l.buyer.cost != l.provider.cost {
		t.Errorf("charged %v and %v", time.Duration(l.buyer.cost), time.Duration(l.provider.cost))
	}
	if c.ReleaseAt(d.Lease, half) {
		t.Error("released twice")
	}
	if c.ReleaseAt(Lease{}, half) {
		t.Error("released nothing")
	}
}

// TestLeaseExpires frees what was lost, at its deadline and not before.
func TestLeaseExpires(t *testing.T) {
	c := open(t, 100, Options{CapacityAge: time.Hour})
	d := want(t, c.DecideAt(ask("b", "p", 100, time.Second), start), Admitted)
	before, after := start.Add(time.Second-time.Nanosecond), start.Add(time.Second+time.Second/31+2<<tickBits)
	want(t, c.DecideAt(ask("c", "q", 1, time.Second), before), Capacity)
	want(t, c.DecideAt(ask("c", "q", 1, time.Second), after), Admitted)
	if c.ReleaseAt(d.Lease, after) {
		t.Error("released after its deadline")
	}
	if s := c.StatusAt(after); s.Leased != 1 {
		t.Errorf("%+v", s)
	}
}

// TestReleaseRaces lets many release the same leases at once.
func TestReleaseRaces(t *testing.T) {
	c := open(t, 1000, Options{CapacityAge: time.Hour})
	var leases []Lease
	for range 100 {
		leases = append(leases, want(t, c.DecideAt(consumer(3, time.Minute), start), Admitted).Lease)
	}
	var found atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, l := range leases {
				if c.ReleaseAt(l, start) {
					found.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if found.Load() != 100 || leased(c) != 0 {
		t.Errorf("%d releases, %d shards left", found.Load(), leased(c))
	}
}

// TestLeasesRunOut fills the table: industry is refused, consumers go on, and
// every place comes back by itself.
func TestLeasesRunOut(t *testing.T) {
	c := open(t, 1_000_000, Options{CapacityAge: time.Hour, Leases: 64})
	small := ask("b", "p", 1, time.Second)
	n := 0
	for ; n < 100; n++ {
		if d := c.DecideAt(small, start); d.Code != Admitted {
			want(t, d, Capacity)
			break
		}
	}
	if n < 32 || n > 64 {
		t.Errorf("%d leases in 64 places", n)
	}
	held := c.StatusAt(start).Leased
	if held != uint64(n) {
		t.Errorf("%d held by %d leases", held, n)
	}
	for range 200 {
		want(t, c.DecideAt(consumer(1, time.Second), start), Admitted)
	}
	want(t, c.DecideAt(small, start.Add(1100*time.Millisecond)), Admitted)
}
