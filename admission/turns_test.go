package admission

import (
	"fmt"
	"testing"
	"time"
)

// TestTrickle gives every waiting tenant its turn, in the order of asking, however
// often each of them asks.
func TestTrickle(t *testing.T) {
	const n, period = 20, 10 * time.Second
	c := open(t, 100, Options{CapacityAge: MaxDuration, FeeAge: MaxDuration, TricklePeriod: period})
	tighten(c, start)
	now, order := start, []int{}
	got := map[int]bool{}
	for len(order) < n {
		if now.Sub(start) > n*period {
			t.Fatalf("after %v only %v had a turn", now.Sub(start), order)
		}
		for i := range n {
			for range 1 + i%3*5 { // some are impatient
				r := ask(fmt.Sprint(i), "p", 2, period) // all that a turn holds, less rounding
				r.Duration -= time.Millisecond
				d := c.DecideAt(r, now)
				if d.Code == Admitted && !got[i] {
					got[i] = true
					order = append(order, i)
				} else if d.Code != Admitted {
					want(t, d, DeferredTight)
					if d.RetryAfter <= 0 || d.RetryAfter > (n+1)*period {
						t.Fatalf("retry after %v", d.RetryAfter)
					}
				}
			}
		}
		now = now.Add(time.Second)
	}
	for i, tenant := range order {
		if i != tenant {
			t.Fatalf("order %v", order)
		}
	}
}

// TestTrickleRate bounds what comes in while the mode is tight.
func TestTrickleRate(t *testing.T) {
	const period = 10 * time.Second
	c := open(t, 1000, Options{CapacityAge: MaxDuration, FeeAge: MaxDuration, TricklePeriod: period, TrickleShare: 0.05})
	tighten(c, start)
	work := time.Duration(0)
	now := start
	for range 1000 {
		now = now.Add(time.Second)
		for i := range 50 {
			for c.DecideAt(ask(fmt.Sprint(i), "p", 1, 20*time.Second), now).Code == Admitted {
				work += 20 * time.Second
			}
		}
	}
	most := time.Duration(0.05 * 1000 * float64(1000*time.Second+period))
	t.Logf("%v came in, %v may", work, most)
	if work > most || work < most*9/10 {
		t.Errorf("%v came in, %v may", work, most)
	}
	// More than a turn holds has to wait for normal.
	d := want(t, c.DecideAt(ask("big", "p", 100, 20*time.Second), now), DeferredTight)
	if d.RetryAfter <= 0 {
		t.Error(d.RetryAfter)
	}
}

// TestTheDeadWaitForNobody has a thousand ids ask once and never again. A buyer
// that asks when it is told to comes next.
func TestTheDeadWaitForNobody(t *testing.T) {
	const period = 10 * time.Second
	for _, dead := range []int{1, 50, maxTurns - 1, maxTurns, 3 * maxTurns} {
		c := open(t, 100, Options{CapacityAge: MaxDuration, FeeAge: MaxDuration, TricklePeriod: period})
		tighten(c, start)
		for i := range dead {
			c.DecideAt(ask(fmt.Sprint(i), "p", 1, time.Second), start)
		}
		r := ask("honest", "p", 1, time.Second)
		now, asks := start, 0
		for ; ; asks++ {
			d := c.DecideAt(r, now)
			if d.Code == Admitted {
				break
			}
			if want(t, d, DeferredTight); d.RetryAfter <= 0 || d.RetryAfter > period {
				t.Fatalf("retry after %v", d.RetryAfter)
			}
			now = now.Add(d.RetryAfter)
		}
		if waited := now.Sub(start); waited > period+time.Second+1 || asks > 2 {
			t.Errorf("behind %d dead: waited %v, asked %d times", dead, waited, asks)
		}
	}
}

// TestPassedOnAtOnce has the one whose turn it is want more shards than are free.
// The next one gets the turn when it asks, and the first one its place behind it.
func TestPassedOnAtOnce(t *testing.T) {
	const period = 10 * time.Second
	c := open(t, 100, Options{CapacityAge: MaxDuration, FeeAge: MaxDuration, TricklePeriod: period})
	tighten(c, start)
	want(t, c.DecideAt(consumer(99, 30*time.Second), start), Admitted)
	small, big := ask("small", "p", 1, time.Second), ask("big", "p", 2, time.Second)
	want(t, c.DecideAt(ask("now", "p", 1, time.Millisecond), start), Admitted)
	next := want(t, c.DecideAt(big, start), DeferredTight).RetryAfter
	want(t, c.DecideAt(small, start), DeferredTight)
	now := start.Add(next)
	want(t, c.DecideAt(small, now), DeferredTight) // big is before it, and has a moment
	d := want(t, c.DecideAt(big, now), Capacity)
	want(t, c.DecideAt(small, now), Admitted)
	if d.RetryAfter < 20*time.Second {
		t.Errorf("retry after %v", d.RetryAfter)
	}
	want(t, c.DecideAt(big, now), DeferredTight) // the turn is small's
	want(t, c.DecideAt(small, now.Add(2*time.Second)), Admitted)
}

// TestKeepsItsPlace has one that polls all the time and one that comes when it is
// told to, a little late: the latter is not overtaken.
func TestKeepsItsPlace(t *testing.T) {
	const period = 10 * time.Second
	c := open(t, 100, Options{CapacityAge: MaxDuration, FeeAge: MaxDuration, TricklePeriod: period})
	tighten(c, start)
	full := func(id string) Request { return ask(id, "p", 2, period-time.Millisecond) }
	want(t, c.DecideAt(full("first"), start), Admitted)
	d := want(t, c.DecideAt(full("patient"), start), DeferredTight)
	want(t, c.DecideAt(full("impatient"), start), DeferredTight)
	until := start.Add(d.RetryAfter + 900*time.Millisecond)
	for now := start; now.Before(until); now = now.Add(10 * time.Millisecond) {
		want(t, c.DecideAt(full("impatient"), now), DeferredTight)
	}
	want(t, c.DecideAt(full("patient"), until), Admitted)
	// Who comes later than a second has lost its place to who is there.
	d = want(t, c.DecideAt(full("impatient"), until), DeferredTight)
	next := until.Add(d.RetryAfter)
	want(t, c.DecideAt(full("impatient"), next.Add(period)), Admitted)
}

// TestStrangersTakeWhatNobodyWaitsFor has no records left for new buyers.
func TestStrangersTakeWhatNobodyWaitsFor(t *testing.T) {
	const period = 10 * time.Second
	c := open(t, 100, Options{CapacityAge: MaxDuration, FeeAge: MaxDuration, TricklePeriod: period, Tenants: 1, Burst: time.Hour})
	want(t, c.DecideAt(ask("known", "p", 1, 30*time.Minute), start), Admitted)
	tighten(c, start)
	want(t, c.DecideAt(ask("stranger", "p", 1, time.Second), start), Admitted)
	d := want(t, c.DecideAt(ask("other", "p", 1, time.Second), start), DeferredTight)
	now := start.Add(d.RetryAfter)
	want(t, c.DecideAt(ask("other", "p", 1, time.Second), now), Admitted)
	want(t, c.DecideAt(ask("known", "p", 1, time.Second), now), DeferredTight) // and waits
	now = now.Add(period)
	d = want(t, c.DecideAt(ask("stranger", "p", 1, time.Second), now), DeferredTight)
	want(t, c.DecideAt(ask("stranger", "p", 1, time.Second), now.Add(d.RetryAfter)), Admitted)
}

// TestQueueIsBounded lets more tenants wait than there are turns.
func TestQueueIsBounded(t *testing.T) {
	c := open(t, 100, Options{CapacityAge: MaxDuration, FeeAge: MaxDuration, Tenants: 64})
	tighten(c, start)
	for i := range 10 * maxTurns {
		d := c.DecideAt(ask(fmt.Sprint(i), "p", 1, time.Second), start)
		if d.Code == DeferredTight && (d.RetryAfter <= 0 || d.RetryAfter > 10*time.Second) {
			t.Fatalf("retry after %v", d.RetryAfter)
		}
		if q := &c.books.turns; q.next-q.first > maxTurns || q.first > q.next {
			t.Fatalf("%d wait", q.next-q.first)
		}
	}
	if n := c.books.buyers.n; n > 64 {
		t.Errorf("%d records of 64", n)
	}
}
