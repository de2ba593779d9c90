package match

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

var crossing = flag.Int("crossing", 20_000, "how many bids and how many asks of one account cross in TestHostileAccount")

// spent returns how many steps f costs the book.
func (b *Book) spent(f func()) int {
	was := b.steps
	f()
	return int(b.steps - was)
}

// few is what a message may cost in a book of n orders: some heaps, some of
// their levels each.
func few(n int) int { return 8*bits.Len(uint(n)) + 16 }

// industry puts n bids and n asks of one account into the industrial lane, all
// of which cross.
func industry(t *testing.T, b *Book, n int, spread uint64) {
	t.Helper()
	for i := range n {
		o := Order{ID: fmt.Sprint("b", i), Account: "hostile", Lane: admission.Industrial, Side: Bid, Units: 1}
		o.Price = 1<<40 + uint64(i)*spread
		put(t, b, o)
		o.ID, o.Side, o.Price = fmt.Sprint("a", i), Ask, 1<<39-uint64(i)*spread
		put(t, b, o)
	}
}

func all(b *Book, lane admission.Lane) []Match { return b.Propose(nil, lane, math.MaxInt) }

// One account's own crossing orders, however many, cost each message of anybody
// no more than some steps down a heap, and cost the other lane nothing.
func TestHostileAccount(t *testing.T) {
	n := *crossing
	for _, c := range []struct {
		name   string
		spread uint64
	}{{"one price", 0}, {"a price each", 1}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(t, &Options{Capacity: max(2*n+1000, 1<<20)})
			industry(t, b, n, c.spread)
			// Once, each order is moved out of the way; no turn under the lock is long.
			turns := 0
			for more := true; more; turns++ {
				cost := b.spent(func() { _, more = b.propose(nil, admission.Industrial, 1) })
				if most := hold * few(2*n); cost > most {
					t.Fatalf("a turn of %d steps, at most %d", cost, most)
				}
			}
			if turns < n/hold {
				t.Errorf("%d turns", turns)
			}
			b.verify(t)
			check := func(what string, f func()) {
				t.Helper()
				if cost := b.spent(f); cost > few(2*n) {
					t.Errorf("%s costs %d steps, at most %d", what, cost, few(2*n))
				}
			}
			for i := range 200 {
				check("a replace", func() {
					if _, err := b.Replace(fmt.Sprint("b", i), 1, 1<<41+uint64(i), epoch); err != nil {
						t.Fatal(err)
					}
					all(b, admission.Industrial)
				})
				// Somebody else's orders come in front, trade or go.
				check("a stranger's trade", func() {
					put(t, b, Order{ID: fmt.Sprint("s", i), Account: "stranger", Lane: admission.Industrial, Side: Side(1 + i%2), Units: 1, Price: 1 << 39 << (i % 2)})
					ms := all(b, admission.Industrial)
					if len(ms) != 1 {
						t.Fatalf("%d matches", len(ms))
					}
					for _, s := range []Side{Bid, Ask} {
						if err := b.Release(ms[0], s); err != nil {
							t.Fatal(err)
						}
					}
					if ms = all(b, admission.Industrial); len(ms) != 1 || b.Commit(ms[0]) != nil {
						t.Fatal("it did not come back")
					}
				})
				check("a stranger's visit", func() {
					put(t, b, Order{ID: fmt.Sprint("v", i), Account: "visitor", Lane: admission.Industrial, Side: Ask, Units: 1, Price: 1 << 42})
					all(b, admission.Industrial)
					if _, err := b.Cancel(fmt.Sprint("v", i)); err != nil {
						t.Fatal(err)
					}
					all(b, admission.Industrial)
				})
				if cost := b.spent(func() {
					bid(t, b, fmt.Sprint("cb", i), 1, 1)
					ask(t, b, fmt.Sprint("ca", i), 1, 1)
					for _, m := range all(b, admission.Consumer) {
						if err := b.Commit(m); err != nil {
							t.Fatal(err)
						}
					}
				}); cost > 4 {
					t.Errorf("a consumers' trade costs %d steps", cost)
				}
			}
			b.verify(t)
		})
	}
}

// However long it takes to clear the way, the best bid has the first ask that is
// not of its account, and a turn ends after so many matches.
func TestTurnsKeepPriority(t *testing.T) {
	b := newBook(t, nil)
	own := func(id string, s Side, price uint64) {
		put(t, b, Order{ID: id, Account: "hostile", Side: s, Units: 1, Price: price})
	}
	own("best", Bid, 100)
	own("a", Ask, 1)
	if ms, _ := pass(b); len(ms) != 0 { // both are set aside
		t.Fatal(show(ms))
	}
	for i := range 4 * hold {
		own(fmt.Sprint("a", i), Ask, 1)
	}
	bid(t, b, "second", 1, 99)
	ask(t, b, "dear", 1, 50)
	var ms []Match
	turns := 0
	for more := true; more; turns++ {
		ms, more = b.propose(ms, admission.Consumer, 2-len(ms))
	}
	if got := show(ms); got != "best-dear 1@50, second-a 1@1" || turns < 4 {
		t.Errorf("%s in %d turns", got, turns)
	}

	b = newBook(t, nil)
	for i := range 4 * hold {
		bid(t, b, fmt.Sprint("b", i), 1, 1)
	}
	ask(t, b, "a", 4*hold, 1)
	if ms, more := b.propose(nil, admission.Consumer, math.MaxInt); len(ms) > hold || !more {
		t.Errorf("%d matches in a turn", len(ms))
	}
}

// What is in flight in front of everybody is not passed by again and again, and
// comes back to its place for some steps each.
func TestManyInFlight(t *testing.T) {
	const n = 20_000
	b := newBook(t, nil)
	for i := range n {
		bid(t, b, fmt.Sprint("b", i), 1, 1<<40-uint64(i/2))
		ask(t, b, fmt.Sprint("a", i), 1, 1)
	}
	ms := all(b, admission.Consumer)
	if len(ms) != n {
		t.Fatalf("%d matches", len(ms))
	}
	for i := range 100 {
		if cost := b.spent(func() {
			bid(t, b, fmt.Sprint("late", i), 1, 5)
			ask(t, b, fmt.Sprint("late too", i), 1, 5)
			if got := all(b, admission.Consumer); len(got) != 1 {
				t.Fatal(show(got))
			}
		}); cost > few(n) {
			t.Errorf("%d steps", cost)
		}
	}
	for i, m := range ms {
		if cost := b.spent(func() { b.Release(m, Bid) }); cost > few(n) {
			t.Fatalf("release %d: %d steps", i, cost)
		}
	}
	b.verify(t)
	ask(t, b, "one more", 3, 1)
	if _, got := pass(b); got != "b0-one more 1@1, b1-one more 1@1, b2-one more 1@1" {
		t.Errorf("they are not back where they were: %s", got)
	}
}

// One turn of the loop serves consumers whatever industry has to be cleared
// away: orders in each other's way, orders that expire, bids that have waited.
func TestLanesDoNotPayForEachOther(t *testing.T) {
	const n = 5000
	for _, c := range []struct {
		name string
		prep func(t *testing.T, b *Book)
	}{
		{"in the way", func(t *testing.T, b *Book) { industry(t, b, n, 1) }},
		{"expiring", func(t *testing.T, b *Book) {
			for i := range n {
				put(t, b, Order{ID: fmt.Sprint("e", i), Account: "x", Lane: admission.Industrial, Side: Bid, Units: 1, Price: 1, Expires: epoch.Add(1)})
			}
		}},
		{"waiting", func(t *testing.T, b *Book) {
			for i := range n {
				put(t, b, Order{ID: fmt.Sprint("b", i), Account: "x", Lane: admission.Industrial, Side: Bid, Units: 1, Price: 1})
			}
			put(t, b, Order{ID: "a", Account: "y", Lane: admission.Industrial, Side: Ask, Units: n, Price: 1})
			for _, m := range all(b, admission.Industrial) {
				if err := b.giveBack(m, 0); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(t, nil)
			c.prep(t, b)
			bid(t, b, "cb", 1, 1)
			ask(t, b, "ca", 1, 1)
			var log receipttest.Mem
			l, err := NewLoop(b, &log, &LoopOptions{Clock: fixed(epoch.Add(time.Hour)), Batch: 4096})
			if err != nil {
				t.Fatal(err)
			}
			var workers sync.WaitGroup
			var wait time.Duration
			cost := b.spent(func() { wait, _ = l.turn(t.Context(), t.Context(), &workers) })
			if wait != 0 {
				t.Errorf("the first turn waits for %v", wait)
			}
			if most := hold * few(n); cost > most {
				t.Errorf("a turn of %d steps, at most %d", cost, most)
			}
			l.finish(t.Context(), <-l.appended)
			if got := jobs(t, &log); len(got) == 0 || got[0] != "cb|ca|0+1" {
				t.Errorf("the first turn appends %q", got)
			}
			b.verify(t)
		})
	}
}

type fixed time.Time

func (f fixed) Now() time.Time { return time.Time(f) }

// A bid of many units and an ask whose work fails: both are tried once in each
// ReturnAfter, and nothing grows with the failures.
func TestFailingPairWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		calls, failed := 0, 0
		var out lines
		_, stop := running(t, b, new(receipttest.Mem), &LoopOptions{
			Parallel: 2, ReturnAfter: time.Second, Logger: out.logger(),
			Finalize: func(context.Context, Match) error { calls++; return errDisk },
			OnFailed: func(Match, error) { failed++ },
		})
		bid(t, b, "b", MaxUnits, 10)
		ask(t, b, "a", 1, 10)
		synctest.Wait()
		if r, _ := b.Get("b"); r.InFlight != 0 || !r.Waiting || r.Open() != 0 || r.Units != MaxUnits {
			t.Errorf("the bid waits: %+v", r)
		}
		if r, _ := b.Get("a"); r.Open() != 1 || r.Waiting {
			t.Errorf("the ask does not: %+v", r)
		}
		if d := b.Depth(nil, admission.Consumer, Bid, 9); len(d) != 0 {
			t.Errorf("depth shows what cannot match: %v", d)
		}
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if calls != 60 || failed != 60 || len(b.held) > 3 {
			t.Errorf("%d calls, %d failures, %d reservations", calls, failed, len(b.held))
		}
		if n := out.count("match not final"); n != 60 {
			t.Errorf("%d lines", n)
		}
		stop()
		if r, _ := b.Get("b"); r.Waiting {
			t.Errorf("after the end: %+v", r)
		}
	})
}

// A thousand bids that fail at once are told to the caller each, and to the log
// in a line or two.
func TestManyFailuresFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var out lines
		failed := 0
		_, stop := running(t, b, new(receipttest.Mem), &LoopOptions{
			Logger: out.logger(), ReturnAfter: math.MaxInt64,
			Finalize: func(context.Context, Match) error { panic("no") },
			OnFailed: func(Match, error) { failed++ },
		})
		for i := range 1000 {
			bid(t, b, fmt.Sprint("b", i), 1, 10)
		}
		ask(t, b, "a", 1, 10)
		time.Sleep(time.Hour)
		stop()
		if failed != 1000 || out.count("match not final") != 2 || out.count("more=999") != 1 {
			t.Errorf("%d failures; %s", failed, out.text())
		}
	})
}

// What an account alone is given when its order is set aside, it has from the one
// before: an order that comes and goes allocates nothing. A crowd's places go.
func TestAsideAllocatesNothing(t *testing.T) {
	b := newBook(t, nil)
	bid(t, b, "b", 1, 9)
	ask(t, b, "a", 1, 9)
	ms := make([]Match, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		ms = b.Propose(ms[:0], admission.Consumer, 8)
		b.Release(ms[0], Bid)
		b.Release(ms[0], Ask)
	}); n != 0 {
		t.Errorf("%v allocations for a match that comes back", n)
	}
	b = newBook(t, nil)
	industry(t, b, 10*hold, 1)
	all(b, admission.Industrial)
	for i := range 10 * hold {
		b.Cancel(fmt.Sprint("b", i))
		b.Cancel(fmt.Sprint("a", i))
	}
	for i, g := range b.groups {
		if cap(g.orders.items) > hold || g.account != "" {
			t.Errorf("group %d of %q keeps room for %d", i, g.account, cap(g.orders.items))
		}
	}
	b.verify(t)
}

// Nothing grows with the number of failures, whatever fails: the work, by itself or
// having closed its match, the log, or both.
func TestManyFailuresKeepNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var out lines
		var calls, failed atomic.Int64
		log := faultyLog{before: func(n int) error {
			if n%2 == 0 {
				return receipt.ErrUnknown
			}
			return nil
		}}
		l, stop := running(t, b, &log, &LoopOptions{
			Parallel: 8, Batch: 4, ReturnAfter: 10 * time.Millisecond, RetryMin: 1, RetryMax: 1, Logger: out.logger(),
			Finalize: func(_ context.Context, m Match) error {
				switch calls.Add(1) % 4 {
				case 0:
					panic("no")
				case 1:
					b.Release(m, Bid)
					return nil
				case 2:
					b.Release(m, Ask)
					return errDisk
				}
				return errDisk
			},
			OnFailed: func(Match, error) { failed.Add(1) },
		})
		const n = 50
		crowd(t, b, admission.Consumer, n)
		sizes := func() string {
			b.mu.Lock()
			defer b.mu.Unlock()
			ln := &b.lanes[admission.Consumer-1]
			return fmt.Sprintln(len(b.orders), len(b.levels), len(b.groups), len(b.index.cells), len(b.moments),
				len(b.held) <= 8+2*(8+4)+1, cap(ln.sleepers.items) <= 2*n, len(ln.sides[0].queue.spare) < 3, len(ln.sides[0].aside.spare) < 3,
				len(l.reports.kinds) < 9, cap(l.ready) < 64, cap(l.batch) < 64, cap(l.lost) < 64)
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		before, was := sizes(), failed.Load()
		time.Sleep(time.Second)
		synctest.Wait()
		failures := failed.Load()
		if failures < was+2000 {
			t.Errorf("only %d failures", failures)
		}
		if after := sizes(); after != before || strings.Contains(after, "false") {
			t.Errorf("after %d failures %s, after %d %s", was, before, failures, after)
		}
		stop()
		if got := b.Stats(admission.Consumer); got.Bids != n || got.Asks != n || got.Matches != 0 {
			t.Errorf("left: %+v", got)
		}
		if n := out.count("msg="); n > 100 {
			t.Errorf("%d lines for %d failures", n, failures)
		}
	})
}
