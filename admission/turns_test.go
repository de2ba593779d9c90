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

// TestQueueIsBounded lets more tenants wait than there are turns.
func TestQueueIsBounded(t *testing.T) {
	c := open(t, 100, Options{CapacityAge: MaxDuration, FeeAge: MaxDuration, Tenants: 64})
	tighten(c, start)
	for i := range 10 * maxTurns {
		d := c.DecideAt(ask(fmt.Sprint(i), "p", 1, time.Second), start)
		if d.Code == DeferredTight && (d.RetryAfter <= 0 || d.RetryAfter > (maxTurns+1)*10*time.Second) {
			t.Fatalf("retry after %v", d.RetryAfter)
		}
	}
	if ahead := c.books.turns.next - c.line.newest()/c.books.turns.period; ahead > maxTurns {
		t.Errorf("turns are given away %d periods ahead", ahead)
	}
}
