package match

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/computemarket/computemarket/admission"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newBook(t testing.TB, opts *Options) *Book {
	t.Helper()
	b, err := NewBook(opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bid and ask put an order of the account of the same name into the consumer
// lane, and fail the test if it is refused.
func bid(t testing.TB, b *Book, id string, units, price uint64) {
	t.Helper()
	put(t, b, Order{ID: id, Account: "buyer of " + id, Side: Bid, Units: units, Price: price})
}

func ask(t testing.TB, b *Book, id string, units, price uint64) {
	t.Helper()
	put(t, b, Order{ID: id, Account: "provider of " + id, Side: Ask, Units: units, Price: price})
}

func put(t testing.TB, b *Book, o Order) {
	t.Helper()
	if o.Lane == 0 {
		o.Lane = admission.Consumer
	}
	if _, err := b.Submit(o, epoch); err != nil {
		t.Fatal(err)
	}
}

// pass proposes everything in the consumer lane and prints it.
func pass(b *Book) ([]Match, string) {
	ms := b.Propose(nil, admission.Consumer, math.MaxInt)
	return ms, show(ms)
}

func show(ms []Match) string {
	var sb strings.Builder
	for i, m := range ms {
		if i > 0 {
			sb.WriteString(", ")
		}
		fmt.Fprintf(&sb, "%s-%s %d@%d", m.Bid, m.Ask, m.Units, m.Price)
	}
	return sb.String()
}

func TestBadOrders(t *testing.T) {
	good := Order{ID: "o", Account: "a", Lane: admission.Consumer, Side: Bid, Units: 1, Price: 1}
	for _, c := range []struct {
		name string
		edit func(*Order)
		want error
	}{
		{"empty id", func(o *Order) { o.ID = "" }, ErrID},
		{"longest id", func(o *Order) { o.ID = strings.Repeat("x", MaxID) }, nil},
		{"over-long id", func(o *Order) { o.ID = strings.Repeat("x", MaxID+1) }, ErrID},
		{"separator in id", func(o *Order) { o.ID = "a|b" }, ErrID},
		{"id not UTF-8", func(o *Order) { o.ID = "\xff" }, ErrID},
		{"repeated id", func(o *Order) { o.ID = "there" }, ErrRepeated},
		{"empty account", func(o *Order) { o.Account = "" }, ErrAccount},
		{"over-long account", func(o *Order) { o.Account = strings.Repeat("x", MaxAccount+1) }, ErrAccount},
		{"account not UTF-8", func(o *Order) { o.Account = "\xc3\x28" }, ErrAccount},
		{"no lane", func(o *Order) { o.Lane = 0 }, admission.ErrLane},
		{"unknown lane", func(o *Order) { o.Lane = 3 }, admission.ErrLane},
		{"no side", func(o *Order) { o.Side = 0 }, ErrSide},
		{"unknown side", func(o *Order) { o.Side = 3 }, ErrSide},
		{"zero units", func(o *Order) { o.Units = 0 }, ErrUnits},
		{"most units", func(o *Order) { o.Units = MaxUnits }, nil},
		{"too many units", func(o *Order) { o.Units = MaxUnits + 1 }, ErrUnits},
		{"filled beyond counting", func(o *Order) { o.Filled = math.MaxUint64 - 1 }, ErrUnits},
		{"greatest bid", func(o *Order) { o.Price = math.MaxUint64 }, nil},
		{"bid overflows", func(o *Order) { o.Units, o.Price = 2, math.MaxUint64/2+1 }, ErrPrice},
		{"ask cannot overflow", func(o *Order) { o.Side, o.Units, o.Price = Ask, 2, math.MaxUint64 }, nil},
		{"free", func(o *Order) { o.Price = 0 }, nil},
		{"expired", func(o *Order) { o.Expires = epoch.Add(-1) }, ErrExpired},
		{"expires now", func(o *Order) { o.Expires = epoch }, ErrExpired},
		{"expires in a moment", func(o *Order) { o.Expires = epoch.Add(1) }, nil},
		{"expires in the year 9999", func(o *Order) { o.Expires = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(t, nil)
			bid(t, b, "there", 1, 1)
			o := good
			c.edit(&o)
			if _, err := b.Submit(o, epoch); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			want := 1
			if c.want == nil {
				want = 2
			}
			if got := len(b.Snapshot()); got != want {
				t.Errorf("%d orders in the book, want %d", got, want)
			}
			b.verify(t)
		})
	}
}

func TestCapacity(t *testing.T) {
	for _, n := range []int{-1, 1<<23 + 1} {
		if _, err := NewBook(&Options{Capacity: n}); !errors.Is(err, ErrOptions) {
			t.Errorf("capacity %d: %v", n, err)
		}
	}
	for _, n := range []int{1, 1 << 23} {
		newBook(t, &Options{Capacity: n})
	}
	b := newBook(t, &Options{Capacity: 2})
	bid(t, b, "b1", 1, 1)
	ask(t, b, "a1", 1, 9)
	full := Order{ID: "b2", Account: "x", Lane: admission.Consumer, Side: Bid, Units: 1, Price: 1}
	if _, err := b.Submit(full, epoch); !errors.Is(err, ErrFull) {
		t.Fatalf("%v, want ErrFull", err)
	}
	other := full
	other.Lane = admission.Industrial
	put(t, b, other) // a full lane does not fill the other
	if _, err := b.Cancel("a1"); err != nil {
		t.Fatal(err)
	}
	full.ID = "b3"
	put(t, b, full)
}

func TestPriority(t *testing.T) {
	b := newBook(t, nil)
	// Everything comes at the same instant: only the sequence tells the order.
	bid(t, b, "b1", 2, 10)
	bid(t, b, "b2", 2, 10)
	bid(t, b, "b3", 2, 12)
	ask(t, b, "a1", 3, 10)
	ask(t, b, "a2", 1, 9)
	ask(t, b, "a3", 9, 10)
	ask(t, b, "a4", 1, 11)
	// The best bid first, at the price of the ask it meets; then first in, first
	// out; a4 crosses nobody that has units left.
	if _, got := pass(b); got != "b3-a2 1@9, b3-a1 1@10, b1-a1 2@10, b2-a3 2@10" {
		t.Error(got)
	}
	if _, got := pass(b); got != "" {
		t.Errorf("matched twice: %s", got)
	}
	if p, ok := b.Best(admission.Consumer, Ask); !ok || p != 10 {
		t.Errorf("best ask %d, %v", p, ok)
	}
	if _, ok := b.Best(admission.Consumer, Bid); ok {
		t.Error("a best bid, but all are in flight")
	}
}

func TestLanesNeverMeet(t *testing.T) {
	b := newBook(t, nil)
	bid(t, b, "b", 1, 10)
	put(t, b, Order{ID: "a", Account: "p", Lane: admission.Industrial, Side: Ask, Units: 1, Price: 1})
	for _, lane := range admission.Lanes {
		if ms := b.Propose(nil, lane, 10); len(ms) != 0 {
			t.Errorf("%v: %s", lane, show(ms))
		}
	}
	if ms := b.Propose(nil, 0, 10); len(ms) != 0 {
		t.Errorf("no lane: %s", show(ms))
	}
}

func TestSelfDealing(t *testing.T) {
	b := newBook(t, nil)
	own := func(id string, s Side, units, price uint64) {
		put(t, b, Order{ID: id, Account: "x", Side: s, Units: units, Price: price})
	}
	own("xb", Bid, 5, 20)
	own("xa1", Ask, 5, 10)
	own("xa2", Ask, 5, 11)
	if _, got := pass(b); got != "" {
		t.Fatalf("an account met itself: %s", got)
	}
	// Others trade with the account's orders, and its bid takes the best ask
	// that is not its own.
	ask(t, b, "a", 2, 12)
	bid(t, b, "b", 3, 15)
	if _, got := pass(b); got != "xb-a 2@12, b-xa1 3@10" {
		t.Error(got)
	}
}

// One account's orders that cross each other must not make passes quadratic.
func TestSelfDealingIsLinear(t *testing.T) {
	b := newBook(t, nil)
	const n = 50_000
	for i := range n {
		put(t, b, Order{ID: fmt.Sprint("b", i), Account: "x", Side: Bid, Units: 1, Price: 1000})
		put(t, b, Order{ID: fmt.Sprint("a", i), Account: "x", Side: Ask, Units: 1, Price: 1})
	}
	if _, got := pass(b); got != "" { // 2.5e9 steps if every bid tried every ask
		t.Fatal(got)
	}
	for i := range 100 {
		ask(t, b, fmt.Sprint("c", i), 1, 500)
	}
	if ms, _ := pass(b); len(ms) != 100 {
		t.Errorf("%d matches, want 100", len(ms))
	}
}

func TestReleaseKeepsPriority(t *testing.T) {
	b := newBook(t, nil)
	bid(t, b, "b1", 4, 10)
	bid(t, b, "b2", 4, 10)
	ask(t, b, "a1", 2, 8)
	ask(t, b, "a2", 2, 9)
	ms, _ := pass(b)
	bid(t, b, "b3", 4, 10) // younger than all that is in flight
	for i := len(ms) - 1; i >= 0; i-- {
		for _, s := range []Side{Ask, Bid} {
			if err := b.Release(ms[i], s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, got := pass(b); got != "b1-a1 2@8, b1-a2 2@9" {
		t.Error(got)
	}
}

// A match that is kept after its end must not end another that took its place.
func TestStaleMatch(t *testing.T) {
	b := newBook(t, nil)
	bid(t, b, "b1", 1, 10)
	ask(t, b, "a1", 1, 10)
	old, _ := pass(b)
	if err := b.Commit(old[0]); err != nil {
		t.Fatal(err)
	}
	bid(t, b, "b2", 1, 10)
	ask(t, b, "a2", 1, 10)
	if _, got := pass(b); got != "b2-a2 1@10" {
		t.Fatal(got)
	}
	for _, err := range []error{
		b.Commit(old[0]), b.Release(old[0], Bid), b.Drop(old[0], Ask), b.Commit(Match{}),
	} {
		if !errors.Is(err, ErrEnded) {
			t.Errorf("%v, want ErrEnded", err)
		}
	}
	if err := b.Release(old[0], 0); !errors.Is(err, ErrSide) {
		t.Errorf("no side: %v", err)
	}
	if r, _ := b.Get("b2"); r.InFlight != 1 {
		t.Errorf("the other match: %+v", r)
	}
	b.verify(t)
}

func TestCancelInFlight(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*Book, Match) error
	}{
		{"commit", (*Book).Commit},
		{"release", func(b *Book, m Match) error { return errors.Join(b.Release(m, Bid), b.Release(m, Ask)) }},
		{"drop", func(b *Book, m Match) error { return errors.Join(b.Drop(m, Bid), b.Release(m, Ask)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(t, nil)
			bid(t, b, "b", 5, 10)
			ask(t, b, "a", 2, 10)
			ms, _ := pass(b)
			if units, err := b.Cancel("b"); units != 3 || err != nil {
				t.Fatalf("cancelled %d, %v; want the 3 units not in flight", units, err)
			}
			if _, err := b.Cancel("b"); !errors.Is(err, ErrNotFound) {
				t.Errorf("second cancel: %v", err)
			}
			// The id stays taken, or the end of the match would hit a stranger.
			o := Order{ID: "b", Account: "x", Lane: admission.Consumer, Side: Bid, Units: 1, Price: 1}
			if _, err := b.Submit(o, epoch); !errors.Is(err, ErrRepeated) {
				t.Errorf("id used again: %v", err)
			}
			if err := c.end(b, ms[0]); err != nil {
				t.Fatal(err)
			}
			if _, ok := b.Get("b"); ok {
				t.Error("a cancelled order came back")
			}
			b.verify(t)
			put(t, b, o)
		})
	}
}

func TestReplace(t *testing.T) {
	b := newBook(t, nil)
	bid(t, b, "b1", 5, 10)
	bid(t, b, "b2", 5, 10)
	bid(t, b, "b3", 5, 10)
	if r, err := b.Replace("b1", 3, 10, epoch); err != nil || r.Seq != 1 || r.Units != 3 {
		t.Errorf("fewer units: %+v, %v", r, err)
	}
	if r, err := b.Replace("b2", 6, 10, epoch); err != nil || r.Seq != 4 {
		t.Errorf("more units: %+v, %v", r, err)
	}
	if _, err := b.Replace("b2", 0, 10, epoch); !errors.Is(err, ErrUnits) {
		t.Errorf("zero units: %v", err)
	}
	if _, err := b.Replace("b2", 2, math.MaxUint64, epoch); !errors.Is(err, ErrPrice) {
		t.Errorf("overflow: %v", err)
	}
	if _, err := b.Replace("b9", 1, 1, epoch); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	ask(t, b, "a", 14, 10)
	ms, got := pass(b)
	if got != "b1-a 3@10, b3-a 5@10, b2-a 6@10" {
		t.Error(got)
	}
	// Fewer units than are in flight: the match goes on, nothing is left after.
	r, err := b.Replace("b2", 2, 10, epoch)
	if err != nil || r.Open() != 0 || r.InFlight != 6 {
		t.Errorf("below what is in flight: %+v, %v", r, err)
	}
	if err := b.Release(ms[2], Bid); err != nil {
		t.Fatal(err)
	}
	if r, _ := b.Get("b2"); r.Open() != 2 {
		t.Errorf("after release: %+v", r)
	}
	b.verify(t)
}

func TestExpire(t *testing.T) {
	b := newBook(t, nil)
	for i, s := range []int{3, 1, 2, 1} {
		put(t, b, Order{
			ID: fmt.Sprint(i), Account: "x", Side: Bid, Units: 1, Price: 1,
			Expires: epoch.Add(time.Duration(s) * time.Second),
		})
	}
	bid(t, b, "stays", 1, 1)
	if at, ok := b.NextExpiry(); !ok || !at.Equal(epoch.Add(time.Second)) {
		t.Errorf("next expiry %v, %v", at, ok)
	}
	// A clock that runs backward expires nothing.
	if gone := b.Expire(nil, epoch.Add(-time.Hour)); len(gone) != 0 {
		t.Errorf("expired early: %v", gone)
	}
	var got string
	for _, r := range b.Expire(nil, epoch.Add(2*time.Second)) {
		got += r.ID
	}
	if got != "132" {
		t.Errorf("expired %q, want 132: by time, then by sequence", got)
	}
	b.Expire(nil, epoch.Add(time.Hour))
	if _, ok := b.NextExpiry(); ok || len(b.Snapshot()) != 1 {
		t.Errorf("left: %v", b.Snapshot())
	}
}

func TestJobNamesPartialFills(t *testing.T) {
	b := newBook(t, nil)
	bid(t, b, "b", 6, 10)
	name := func(m Match) string {
		t.Helper()
		id, err := b.JobID(m)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	ask(t, b, "a", 2, 5)
	first, _ := pass(b)
	ask(t, b, "c", 2, 5)
	second, _ := pass(b)
	// Named in the order in which they become final, not in which they met.
	if got := name(second[0]); got != "b|c|0+2" {
		t.Error(got)
	}
	if got := name(first[0]); got != "b|a|2+2" {
		t.Error(got)
	}
	if got := name(second[0]); got != "b|c|0+2" {
		t.Errorf("asked again: %s", got)
	}
	for _, m := range []Match{first[0], second[0]} {
		if err := b.Commit(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.JobID(first[0]); !errors.Is(err, ErrEnded) {
		t.Errorf("after commit: %v", err)
	}
	if r, _ := b.Get("b"); r.Units != 2 || r.Filled != 4 {
		t.Errorf("left: %+v", r)
	}
}

func TestParseJob(t *testing.T) {
	for _, s := range []string{
		"", "b", "b|a", "b|a|", "b|a|0", "b|a|0+", "b|a|+1", "b|a|0+0", "b|a|00+1", "b|a|0+01", "b|a|0+1|",
		"|a|0+1", "b||0+1", "b|a|-1+1", "b|a|0+1 ", "b|a|18446744073709551615+1", "b|a|18446744073709551616+1",
	} {
		if j, ok := ParseJob(s); ok {
			t.Errorf("%q parses as %+v", s, j)
		}
	}
	long := strings.Repeat("x", MaxID)
	j := Job{long, long, math.MaxUint64 - MaxUnits, MaxUnits}
	if got, ok := ParseJob(j.String()); !ok || got != j || len(j.String()) > 256 {
		t.Errorf("%d bytes: %+v, %v", len(j.String()), got, ok)
	}
}

func FuzzParseJob(f *testing.F) {
	f.Add("b|a|0+1")
	f.Fuzz(func(t *testing.T, s string) {
		if j, ok := ParseJob(s); ok && j.String() != s {
			t.Errorf("%q came back as %q", s, j.String())
		}
	})
}

func TestNoAllocations(t *testing.T) {
	b := newBook(t, nil)
	fill, msgs := newTapes(1000, 20_000, 100)
	buf := make([]Match, 0, 1024)
	b.replay(&fill, 0, 1000, buf, nil)
	b.replay(&msgs, 0, 10_000, buf, nil)
	i := 10_000
	if n := testing.AllocsPerRun(9_000, func() { b.replay(&msgs, i, 1, buf, nil); i++ }); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}
