package match

import (
	"context"
	"errors"
	"iter"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

// want checks what an order shows: units still wanted, filled, in flight.
func want(t *testing.T, b *Book, when, id string, units, filled, inFlight uint64) {
	t.Helper()
	r, ok := b.Get(id)
	if !ok || r.Units != units || r.Filled != filled || r.InFlight != inFlight || r.Open() != open(units, inFlight) {
		t.Errorf("%s: %q shows %d, %d filled, %d in flight; want %d, %d, %d",
			when, id, r.Units, r.Filled, r.InFlight, units, filled, inFlight)
	}
}

// resumed is what comes back of an order after a restart.
func resumed(t *testing.T, log History, o Order) Order {
	t.Helper()
	left, err := Resume(t.Context(), log, 0, []Order{o})
	if err != nil {
		t.Fatal(err)
	}
	if len(left) == 0 {
		return Order{}
	}
	return left[0]
}

// What Replace, Get and Snapshot return can be kept as it is, on both sides: an
// ask of 10 of which 6 are sold, replaced by 4 at another price, comes back as 4.
func TestReplacedOrderComesBack(t *testing.T) {
	for _, c := range []struct {
		side        Side
		price, then uint64
	}{{Ask, 5, 6}, {Bid, 5, 4}} {
		t.Run(c.side.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log receipttest.Mem
				b := newBook(t, nil)
				_, stop := running(t, b, &log, nil)
				sent := Order{ID: "o", Account: "x", Side: c.side, Units: 10, Price: c.price}
				put(t, b, sent)
				put(t, b, Order{ID: "p", Account: "y", Side: 3 - c.side, Units: 6, Price: c.price})
				synctest.Wait()
				want(t, b, "filled", "o", 4, 6, 0)
				got, _ := b.Get("o")
				for when, keep := range map[string]Order{"submitted": sent, "got": got.Order, "listed": b.Snapshot()[0].Order} {
					if o := resumed(t, &log, keep); o.Units != 4 || o.Filled != 6 {
						t.Errorf("as it was %s, it comes back as %+v", when, o)
					}
				}
				kept, err := b.Replace("o", 4, c.then, time.Now())
				if err != nil || kept.Units != 4 || kept.Filled != 6 {
					t.Errorf("replaced: %+v, %v", kept, err)
				}
				stop()
				if o := resumed(t, &log, kept.Order); o.Units != 4 || o.Filled != 6 || o.Price != c.then {
					t.Errorf("replaced, it comes back as %+v", o)
				}
				// Twice is as good as once.
				if o := resumed(t, &log, resumed(t, &log, kept.Order)); o.Units != 4 || o.Filled != 6 {
					t.Errorf("after two restarts: %+v", o)
				}
				b2 := newBook(t, nil)
				put(t, b2, resumed(t, &log, kept.Order))
				want(t, b2, "in the new book", "o", 4, 6, 0)
			})
		})
	}
}

// An order never comes back with less filled than its caller knows of, though
// the log has lost a receipt.
func TestResumeKeepsWhatIsFilled(t *testing.T) {
	var log receipttest.Mem
	for _, s := range []Side{Bid, Ask} {
		if o := resumed(t, &log, Order{ID: "o", Side: s, Units: 4, Filled: 6}); o.Units != 4 || o.Filled != 6 {
			t.Errorf("%v: %+v", s, o)
		}
	}
	if _, err := Resume(t.Context(), nil, 0, nil); !errors.Is(err, ErrOptions) {
		t.Errorf("no log: %v", err)
	}
	huge := Order{ID: "o", Side: Ask, Units: math.MaxUint64, Filled: math.MaxUint64}
	if o := resumed(t, &log, huge); o != huge {
		t.Errorf("%+v", o)
	}
}

// gated is a log that waits to be told what to do.
type gated struct {
	receipttest.Mem
	in   chan struct{}
	gate chan error
}

func (l *gated) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	l.in <- struct{}{}
	if err := <-l.gate; err != nil {
		if errors.Is(err, receipt.ErrUnknown) {
			l.Mem.Append(ctx, rs)
		}
		return nil, err
	}
	return l.Mem.Append(ctx, rs)
}

// While a receipt is on its way, and while it is in doubt, its units are in
// flight and belong to Units; they are Filled when they are durable.
func TestShownWhileOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := gated{in: make(chan struct{}), gate: make(chan error)}
		b := newBook(t, nil)
		_, stop := running(t, b, &log, nil)
		bid(t, b, "b", 9, 10)
		ask(t, b, "a", 6, 10)
		both := func(when string, left, filled, inFlight uint64) {
			t.Helper()
			synctest.Wait()
			want(t, b, when, "b", 9-filled, filled, inFlight)
			if left > 0 {
				want(t, b, when, "a", left, filled, inFlight)
			}
			for id, total := range map[string]uint64{"b": 9, "a": 6} {
				r, ok := b.Get(id)
				if !ok {
					continue
				}
				if o := resumed(t, &log, r.Order); o.Units+o.Filled != total && o.ID != "" {
					t.Errorf("%s: %q would come back as %+v", when, id, o)
				}
			}
		}
		<-log.in
		both("on its way", 6, 0, 6)
		log.gate <- receipt.ErrUnknown
		both("in doubt", 6, 0, 6)
		if r, err := b.Replace("a", 8, 11, time.Now()); err != nil || r.Units != 8 || r.Filled != 0 || r.InFlight != 6 {
			t.Errorf("replaced in doubt: %+v, %v", r, err)
		}
		<-log.in
		log.gate <- nil // a Duplicate: the receipt is there
		synctest.Wait()
		want(t, b, "durable", "b", 3, 6, 0)
		want(t, b, "durable", "a", 2, 6, 0)
		stop()
		if o := resumed(t, &log, Order{ID: "a", Side: Ask, Units: 8}); o.Units != 2 {
			t.Errorf("%+v", o)
		}
	})
}

// A match that has its name and is released leaves no trace: the next gets the
// numbers, and nothing counts as filled.
func TestReleasedNameIsFree(t *testing.T) {
	b := newBook(t, nil)
	bid(t, b, "b", 9, 10)
	ask(t, b, "a1", 2, 5)
	ask(t, b, "a2", 3, 6)
	ms, _ := pass(b)
	name := func(m Match, want string) {
		t.Helper()
		if got, err := b.JobID(m); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	release := func(m Match) {
		t.Helper()
		if err := errors.Join(b.Release(m, Bid), b.Release(m, Ask)); err != nil {
			t.Fatal(err)
		}
	}
	name(ms[0], "b|a1|0+2")
	name(ms[1], "b|a2|2+3")
	want(t, b, "named", "b", 9, 0, 5)
	release(ms[1])
	release(ms[0])
	want(t, b, "released", "b", 9, 0, 0)
	want(t, b, "released", "a1", 2, 0, 0)
	ms, _ = pass(b)
	name(ms[0], "b|a1|0+2")
	if err := b.Commit(ms[0]); err != nil {
		t.Fatal(err)
	}
	want(t, b, "one committed", "b", 7, 2, 3)
	// Named before, committed behind it: these numbers have to stay unused.
	ask(t, b, "a3", 4, 6)
	more, _ := pass(b)
	name(ms[1], "b|a2|2+3")
	name(more[0], "b|a3|5+4")
	release(ms[1])
	if err := b.Commit(more[0]); err != nil {
		t.Fatal(err)
	}
	want(t, b, "the later one committed", "b", 3, 6, 0)
	b.verify(t)
	// A match that is committed without having been named takes numbers too.
	ms, _ = pass(b)
	if err := b.Commit(ms[0]); err != nil {
		t.Fatal(err)
	}
	b.verify(t)
}

func TestMatchOfAnotherBook(t *testing.T) {
	b, other := newBook(t, nil), newBook(t, nil)
	for _, b := range []*Book{b, other} {
		bid(t, b, "b", 1, 10)
		ask(t, b, "a", 1, 10)
	}
	ms, _ := pass(b)
	pass(other)
	_, err := other.JobID(ms[0])
	for _, err := range []error{
		err, other.Commit(ms[0]), other.Release(ms[0], Bid), other.Drop(ms[0], Ask), other.giveBack(ms[0], 0), other.giveUp(ms[0], Bid), other.giveUp(ms[0], Ask), new(Book).Commit(ms[0]),
	} {
		if !errors.Is(err, ErrEnded) {
			t.Errorf("%v, want ErrEnded", err)
		}
	}
	want(t, other, "untouched", "b", 1, 0, 1)
	want(t, other, "untouched", "a", 1, 0, 1)
	if r, _ := other.Get("b"); r.Waiting {
		t.Error("the bid of another book waits")
	}
	if err := b.Commit(ms[0]); err != nil {
		t.Error(err)
	}
	// A copy that was tampered with is still the match it was.
	bid(t, b, "b2", 1, 10)
	ask(t, b, "a2", 1, 10)
	ms, _ = pass(b)
	ms[0].Bid, ms[0].Ask = "x|y", ""
	if id, err := b.JobID(ms[0]); id != "b2|a2|0+1" || err != nil {
		t.Errorf("%q, %v", id, err)
	}
}

func TestForeignJobIDs(t *testing.T) {
	long := strings.Repeat("x", MaxID+1)
	for _, s := range []string{long + "|a|0+1", "b|" + long + "|0+1", "\xff|a|0+1", "b|\xff|0+1", "b|a|0+1099511627777"} {
		if j, ok := ParseJob(s); ok {
			t.Errorf("%q parses as %+v", s, j)
		}
	}
	if _, ok := ParseJob("b|a|0+1099511627776"); !ok {
		t.Error("the most units do not parse")
	}
}

// A freed slot lets go of its strings.
func TestFreedSlotsKeepNothing(t *testing.T) {
	b := newBook(t, nil)
	end := []func(id string){
		func(id string) { b.Cancel(id) },
		func(id string) { b.Expire(nil, epoch.Add(time.Hour)) },
		func(id string) {
			ask(t, b, "a", 1, 1)
			ms, _ := pass(b)
			b.Commit(ms[0])
		},
		func(id string) {
			ask(t, b, "a2", 1, 1)
			ms, _ := pass(b)
			b.Cancel(id)
			b.Cancel("a2")
			b.Release(ms[0], Bid)
			b.Drop(ms[0], Ask)
		},
	}
	for i, f := range end {
		id := strings.Repeat(string(rune('k'+i)), 40)
		put(t, b, Order{ID: id, Account: "account", Side: Bid, Units: 1, Price: 9, Expires: epoch.Add(time.Minute)})
		f(id)
		if len(b.Snapshot()) != 0 {
			t.Fatalf("end %d: %v", i, b.Snapshot())
		}
		for _, c := range b.cold {
			if c.id != "" || c.account != "" {
				t.Errorf("end %d: %q of %q is still there", i, c.id, c.account)
			}
		}
	}
	if len(b.cold) != 3 {
		t.Errorf("%d slots", len(b.cold))
	}
}

func TestZeroValues(t *testing.T) {
	var b Book
	o := Order{ID: strings.Repeat("x", 50), Account: "a", Lane: 1, Side: Bid, Units: 1, Price: 1}
	if _, err := b.Submit(o, epoch); !errors.Is(err, ErrOptions) {
		t.Errorf("submit: %v", err)
	}
	if _, err := b.Cancel(o.ID); !errors.Is(err, ErrOptions) {
		t.Errorf("cancel: %v", err)
	}
	if _, err := b.Replace(o.ID, 1, 1, epoch); !errors.Is(err, ErrOptions) {
		t.Errorf("replace: %v", err)
	}
	if _, ok := b.Get(o.ID); ok {
		t.Error("got an order")
	}
	if _, ok := b.Best(1, Bid); ok {
		t.Error("a best bid")
	}
	if _, ok := b.NextExpiry(); ok {
		t.Error("an expiry")
	}
	if n := len(b.Propose(nil, 1, 9)) + len(b.Expire(nil, epoch)) + len(b.Snapshot()) + len(b.Depth(nil, 1, Bid, 9)); n != 0 {
		t.Errorf("%d of something", n)
	}
	if s := b.Stats(1); s != (Stats{}) {
		t.Errorf("stats %+v", s)
	}
	var l Loop
	if err := l.Run(t.Context()); !errors.Is(err, ErrOptions) {
		t.Errorf("run: %v", err)
	}
	if s := l.Stats(1); s != (LaneStats{}) {
		t.Errorf("stats %+v", s)
	}
	log := new(receipttest.Mem)
	for _, c := range []struct {
		book *Book
		log  Log
	}{{nil, log}, {&b, log}, {newBook(t, nil), nil}} {
		if _, err := NewLoop(c.book, c.log, nil); !errors.Is(err, ErrOptions) {
			t.Errorf("%v, %v: %v", c.book, c.log, err)
		}
	}
}

// A History that exits its goroutine is a failure, as is one that panics.
func TestHistoryThatFails(t *testing.T) {
	for _, fail := range []func(){func() { panic("boom") }, runtime.Goexit} {
		if _, err := Resume(t.Context(), history(fail), 0, nil); err == nil {
			t.Error("no error")
		}
	}
}

type history func()

func (h history) After(context.Context, uint64) iter.Seq2[receipt.Record, error] {
	return func(func(receipt.Record, error) bool) { h() }
}

// An id that is longer than any in the book is not there, whatever its length.
func TestAskedForLongIDs(t *testing.T) {
	b := newBook(t, nil)
	id := strings.Repeat("x", MaxID)
	bid(t, b, id, 1, 1)
	if _, ok := b.Get(id); !ok {
		t.Error("the longest id is not found")
	}
	id += "x"
	if n := b.name(id); n.tag != 0 {
		t.Error("it is hashed")
	}
	_, ok := b.Get(id)
	_, err1 := b.Cancel(id)
	_, err2 := b.Replace(id, 1, 1, epoch)
	if ok || !errors.Is(err1, ErrNotFound) || !errors.Is(err2, ErrNotFound) {
		t.Errorf("found %v, cancel %v, replace %v", ok, err1, err2)
	}
}

// An id counts on the side on which its order is: what another market wrote into
// the log is not the order's.
func TestResumeKnowsTheSide(t *testing.T) {
	var log receipttest.Mem
	for _, j := range []Job{{"x", "other", 0, 5}, {"another", "y", 0, 5}} {
		if _, err := log.Append(t.Context(), []receipt.Receipt{receipt.New(j.String(), "b", "p", 1, epoch)}); err != nil {
			t.Fatal(err)
		}
	}
	for id, s := range map[string]Side{"x": Ask, "y": Bid} {
		if o := resumed(t, &log, Order{ID: id, Side: s, Units: 9}); o.Units != 9 || o.Filled != 0 {
			t.Errorf("%v: %+v", s, o)
		}
	}
}
