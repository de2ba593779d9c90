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
	lane, at := d.Lease.place()
	l := c.books.leases[lane].find(d.Lease, at, c.at(start))
	buyer, provider := l.buyer, l.provider
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
	if time.Duration(buyer.cost) < 6*time.Second || buyer.cost != provider.cost {
		t.Errorf("charged %v and %v", time.Duration(buyer.cost), time.Duration(provider.cost))
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

// TestEveryPlaceIsGivenOut fills both tables to the last place, beside long leases
// and short ones that come and go. Who is refused then is told when a place comes
// free, and not a nanosecond earlier or later it does.
func TestEveryPlaceIsGivenOut(t *testing.T) {
	for _, places := range []int{1, 2, 3, 40, 1000, 1024} {
		for _, lane := range Lanes {
			c := open(t, 1_000_000, Options{CapacityAge: MaxDuration, Burst: 24 * time.Hour, Leases: places})
			now := start
			r := ask("b", "p", 1, 700*time.Hour)
			r.Lane = lane
			hold := func(d time.Duration) Lease {
				t.Helper()
				r.Duration = d
				got := want(t, c.DecideAt(r, now), Admitted)
				if got.Lease == (Lease{}) {
					t.Fatal("admitted without a lease")
				}
				return got.Lease
			}
			var long []Lease
			for range places - 1 {
				long = append(long, hold(700*time.Hour))
			}
			for i := range 3*places + 10 { // one after the other, given back or lost
				l := hold(time.Millisecond)
				if i%2 == 0 {
					c.ReleaseAt(l, now)
				} else {
					now = now.Add(4 * time.Millisecond)
				}
			}
			hold(10 * time.Second)
			d := want(t, c.DecideAt(r, now), LeasesExhausted)
			if d.Lease != (Lease{}) || d.RetryAfter < 10*time.Second || d.RetryAfter > 10*time.Second+10*time.Second/31+2<<tickBits {
				t.Fatalf("%+v", d)
			}
			if s := c.StatusAt(now); s.Leased != uint64(places) || c.Refused(lane, LeasesExhausted) != 1 ||
				s.ConsumerDeferred+s.IndustrialDeferred != 1 || lane == Consumer && s.ConsumerDeferred != 1 {
				t.Errorf("%+v", s)
			}
			other := ask("b", "p", 1, time.Second) // has a table of its own
			other.Lane = Consumer + Industrial - lane
			want(t, c.DecideAt(other, now), Admitted)
			want(t, c.DecideAt(r, now.Add(d.RetryAfter-1)), LeasesExhausted)
			now = now.Add(d.RetryAfter)
			last := hold(time.Hour)
			want(t, c.DecideAt(r, now), LeasesExhausted)
			for _, l := range append(long, last) {
				if !c.ReleaseAt(l, now) || c.ReleaseAt(l, now) {
					t.Fatal("not released once")
				}
			}
			if c.StatusAt(now.Add(time.Minute)).Leased != 0 {
				t.Error("something is still held")
			}
		}
	}
}

// TestConsumersHoldWhatTheyGet shows that industry never gets shards that a
// consumer holds, however many leases there are.
func TestConsumersHoldWhatTheyGet(t *testing.T) {
	c := open(t, 100, Options{CapacityAge: MaxDuration, Burst: 24 * time.Hour, Leases: 4})
	for i := range 10 {
		d := c.DecideAt(consumer(25, time.Hour), start)
		if (d.Code == Admitted) != (i < 4) || (d.Lease != Lease{}) != (i < 4) {
			t.Errorf("consumer %d: %+v", i, d)
		}
	}
	want(t, c.DecideAt(ask("b", "p", 1, time.Second), start), Capacity)
	if s := c.StatusAt(start); s.Leased != 100 || s.ConsumerLeased != 100 || s.ConsumerAdmitted != 4 || s.ConsumerDeferred != 6 {
		t.Errorf("%+v", s)
	}
}
