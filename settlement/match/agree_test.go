package match

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

var steps = flag.Int("steps", 10_000, "how many steps TestBookAndLogAgree takes")

// TestBookAndLogAgree lets callers submit, replace and cancel orders at random,
// lets them expire and fail, with a log that is slow, fails or leaves its answer
// in doubt, and a clock that is set forward and back. At random moments the
// process dies, and Resume makes a new book of what the callers were told to
// keep. Whatever happened: at every look Units plus Filled of an order is what
// it wants in all, no more units of it are in the log than that, at rest the
// book says exactly what the log does, and in the end nothing that can trade has
// not traded. -steps sets the length.
func TestBookAndLogAgree(t *testing.T) {
	const each = 1000
	lives, receipts := 0, 0
	for seed := range max(1, *steps/each) {
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, rng: rand.New(rand.NewPCG(11, uint64(seed))), orders: make(map[string]*wanted)}
			w.chance = rand.New(rand.NewPCG(12, uint64(seed)))
			w.play(each)
			lives += w.lives
			receipts += len(w.inLog().from)
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d lives, %d bids with receipts", lives, receipts)
}

// world is what outlives a process: the disk, and the callers with their orders.
type world struct {
	t     *testing.T
	rng   *rand.Rand // the driver's
	disk  receipttest.Mem
	lives int
	ids   int
	last  []string // ids, the youngest last

	mu     sync.Mutex
	chance *rand.Rand // of work and of the log
	orders map[string]*wanted
	dead   bool          // what the process still does reaches nobody
	calm   bool          // nothing fails any more
	ahead  time.Duration // of the clock

	book *Book
	loop *Loop
	stop func()
}

// wanted is an order as its caller knows it.
type wanted struct {
	keep  Order
	total uint64 // Units and Filled
	most  uint64 // that the log may name, with what no cancel recalls
	seq   uint64
	over  bool // filled, cancelled, expired or dropped: not kept any more
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead).Round(0)
}

// luck draws from what work and log use.
func (w *world) luck(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chance.IntN(n)
}

func (w *world) quiet() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calm
}

// Append is the log on a bad day.
func (w *world) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	if w.quiet() {
		return w.disk.Append(ctx, rs)
	}
	x := w.luck(20)
	if x < 8 {
		time.Sleep(time.Duration(w.luck(20)) * time.Millisecond)
	}
	w.mu.Lock()
	dead := w.dead
	w.mu.Unlock()
	switch {
	case dead && x%2 == 0, x == 9, x == 10:
		return nil, errDisk
	case x == 11: // in doubt: the time of the call is over, not that of ctx
		return nil, context.DeadlineExceeded
	case x == 12:
		panic("the log broke before it wrote")
	}
	statuses, err := w.disk.Append(ctx, rs)
	switch x {
	case 13, 14:
		return nil, receipt.ErrUnknown
	case 15:
		runtime.Goexit()
	case 16:
		return statuses[:len(statuses)-1], nil
	}
	return statuses, err
}

func (w *world) finalize(context.Context, Match) error {
	time.Sleep(time.Duration(w.luck(30)) * time.Millisecond)
	if w.quiet() {
		return nil
	}
	switch w.luck(20) {
	case 0, 1, 2:
		return errors.New("no")
	case 3:
		return fmt.Errorf("%w: bad slice", ErrBadBid)
	case 4:
		return fmt.Errorf("%w: bad proof", ErrBadAsk)
	case 5:
		panic(ErrBadBid)
	case 6:
		runtime.Goexit()
	}
	return nil
}

// end takes an order off a caller's list, unless the process died before it said
// so.
func (w *world) end(id string, most uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.orders[id]; !w.dead && o != nil {
		o.over = true
		o.most = min(o.most, most)
	}
}

func (w *world) play(steps int) {
	w.start()
	for range steps {
		w.step()
		if w.t.Failed() {
			break
		}
	}
	w.mu.Lock()
	w.calm, w.ahead = true, max(w.ahead, 0)
	w.mu.Unlock()
	w.rest()
	w.traded()
	w.stop()
	w.book.verify(w.t)
}

// start is the start of a process.
func (w *world) start() {
	w.lives++
	log := w.inLog()
	keep := w.kept()
	if w.rng.IntN(2) == 0 {
		w.rng.Shuffle(len(keep), func(i, j int) { keep[i], keep[j] = keep[j], keep[i] })
	}
	left, err := Resume(w.t.Context(), &w.disk, 0, keep)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.dead = false
	back := make(map[string]bool)
	for _, o := range left {
		back[o.ID] = true
		if x := w.orders[o.ID]; o.Filled != log.units[o.ID] || o.Units+o.Filled != x.total {
			w.t.Errorf("%q comes back as %+v; it wants %d, the log has %d", o.ID, o, x.total, log.units[o.ID])
		}
	}
	for _, o := range keep {
		if x := w.orders[o.ID]; !back[o.ID] {
			if log.units[o.ID] < x.total {
				w.t.Errorf("%q wants %d, has %d, and is lost", o.ID, x.total, log.units[o.ID])
			}
			x.over = true
		}
	}
	w.mu.Unlock()

	w.book = newBook(w.t, nil)
	opts := &LoopOptions{
		Batch: 1 + w.rng.IntN(6), Parallel: 1 + w.rng.IntN(4), OnFailure: FailurePolicy(w.rng.IntN(4) / 3),
		ReturnAfter: 20 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: 8 * time.Millisecond,
		Finalize: w.finalize, Clock: w,
		OnFinal: func(_ Match, r receipt.Receipt) {
			if _, err := w.disk.Get(context.Background(), r.Key); err != nil {
				w.t.Errorf("%q is final, and in the log: %v", r.JobID, err)
			}
		},
		OnExpired: func(r Resting) { w.end(r.ID, r.Filled+r.InFlight) },
		OnFailed: func(m Match, err error) {
			if errors.Is(err, ErrBadBid) {
				w.end(m.Bid, ^uint64(0))
			}
			if errors.Is(err, ErrBadAsk) {
				w.end(m.Ask, ^uint64(0))
			}
		},
	}
	if w.rng.IntN(4) == 0 {
		opts.Finalize = nil
	}
	if w.loop, err = NewLoop(w.book, w, opts); err != nil {
		w.t.Fatal(err)
	}
	w.run()
	for _, o := range left {
		switch seq, err := w.book.Submit(o, w.Now()); {
		case errors.Is(err, ErrExpired):
			w.end(o.ID, log.units[o.ID])
		case err != nil:
			w.t.Error(err)
		default:
			w.orders[o.ID].seq = seq
		}
	}
}

func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.loop.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// kept is what the callers have, in the order in which they sent it.
func (w *world) kept() (os []Order) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*wanted
	for _, o := range w.orders {
		if !o.over {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(x, y *wanted) int { return cmp.Compare(x.seq, y.seq) })
	for _, o := range all {
		os = append(os, o.keep)
	}
	return os
}

func (w *world) step() {
	switch x := w.rng.IntN(100); {
	case x < 35:
		w.submit()
	case x < 50:
		w.replace()
	case x < 55:
		w.cancel()
	case x < 85:
		time.Sleep(time.Duration(w.rng.IntN(15)) * time.Millisecond)
	case x < 95:
		w.look()
	case x < 97:
		w.mu.Lock()
		w.ahead += time.Duration(w.rng.IntN(2001)-1000) * time.Millisecond
		w.mu.Unlock()
	case x < 98:
		w.calmly()
	case x < 99: // the loop ends, the process lives
		w.stop()
		w.look()
		w.run()
	default:
		w.die()
	}
}

func (w *world) submit() {
	w.ids++
	o := Order{
		ID: fmt.Sprint("o", w.ids), Account: string(rune('A' + w.rng.IntN(4))), Lane: admission.Lanes[w.rng.IntN(2)],
		Side: Side(1 + w.rng.IntN(2)), Units: 1 + w.rng.Uint64N(12), Price: 10 + w.rng.Uint64N(6),
	}
	if w.rng.IntN(4) == 0 {
		o.Expires = w.Now().Add(time.Duration(1+w.rng.IntN(2000)) * time.Millisecond)
	}
	x := &wanted{keep: o, total: o.Units, most: o.Units}
	w.mu.Lock()
	w.orders[o.ID] = x // before the book has it: it may be over before Submit returns
	w.mu.Unlock()
	seq, err := w.book.Submit(o, w.Now())
	if err != nil {
		w.t.Errorf("submit: %v", err)
	}
	x.seq = seq
	w.last = append(w.last, o.ID)
}

// pick is one of the younger orders.
func (w *world) pick() string {
	if len(w.last) == 0 {
		return "none"
	}
	return w.last[len(w.last)-1-w.rng.IntN(min(len(w.last), 30))]
}

func (w *world) replace() {
	id := w.pick()
	r, err := w.book.Replace(id, 1+w.rng.Uint64N(12), 10+w.rng.Uint64N(6), w.Now())
	if errors.Is(err, ErrNotFound) {
		return
	}
	if err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.orders[id]
	x.keep, x.seq = r.Order, r.Seq
	x.total = r.Units + r.Filled
	x.most = max(x.total, r.Filled+r.InFlight)
}

func (w *world) cancel() {
	id := w.pick()
	if units, err := w.book.Cancel(id); err == nil {
		w.mu.Lock()
		w.orders[id].most -= min(units, w.orders[id].most)
		w.mu.Unlock()
		w.end(id, ^uint64(0))
	}
}

// look checks an order, whatever is under way, and keeps what it sees of it.
func (w *world) look() {
	id := w.pick()
	before := w.inLog().units[id]
	r, ok := w.book.Get(id)
	if !ok {
		return
	}
	after := w.inLog().units[id]
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.orders[id]
	if r.Units+r.Filled != x.total {
		w.t.Errorf("%q wants %d in all, and shows %+v", id, x.total, r)
	}
	if r.Filled > after || r.Filled+r.InFlight < before {
		w.t.Errorf("%q has %d to %d units in the log, and shows %+v", id, before, after, r)
	}
	x.keep = r.Order
}

// calmly waits until nothing is in flight, and compares.
func (w *world) calmly() {
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.rest()
	w.mu.Lock()
	w.calm = false
	w.mu.Unlock()
}

func (w *world) rest() {
	time.Sleep(10 * time.Second)
	synctest.Wait()
	log := w.inLog()
	left := make(map[string]Resting)
	for _, r := range w.book.Snapshot() {
		left[r.ID] = r
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, o := range w.orders {
		n := log.units[id]
		if n > o.most {
			w.t.Errorf("%q: %d units in the log, at most %d are wanted", id, n, o.most)
		}
		r, ok := left[id]
		delete(left, id)
		if rests := !o.over && n < o.total; ok != rests {
			w.t.Errorf("%q of %d has %d in the log, over %v, in the book %v", id, o.total, n, o.over, ok)
		} else if ok && (r.Filled != n || r.Units+r.Filled != o.total || r.InFlight != 0 || r.Waiting) {
			w.t.Errorf("%q of %d has %d in the log, and shows %+v", id, o.total, n, r)
		}
	}
	for id := range left {
		w.t.Errorf("%q is in the book, and nobody sent it", id)
	}
	w.book.verify(w.t)
}

// traded checks that nothing is left that can trade.
func (w *world) traded() {
	all := w.book.Snapshot()
	for _, b := range all {
		for _, a := range all {
			if b.Side == Bid && a.Side == Ask && b.Lane == a.Lane && b.Account != a.Account && b.Price >= a.Price {
				w.t.Errorf("%+v and %+v have not traded", b, a)
			}
		}
	}
}

// die ends the process. What it does from now on, nobody learns; of what is on
// its way to the log, some arrives.
func (w *world) die() {
	w.mu.Lock()
	w.dead = true
	w.mu.Unlock()
	w.stop()
	w.start()
}

// logged is what the log says.
type logged struct {
	units map[string]uint64 // by order
	from  map[string]uint64 // by bid: the next number
}

func (w *world) inLog() logged {
	l := logged{make(map[string]uint64), make(map[string]uint64)}
	for r, err := range w.disk.After(context.Background(), 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		j, ok := ParseJob(r.JobID)
		if !ok || j.From != l.from[j.Bid] {
			w.t.Errorf("%q: the units of the bid before it end at %d", r.JobID, l.from[j.Bid])
		}
		l.from[j.Bid] += j.Units
		l.units[j.Bid] += j.Units
		l.units[j.Ask] += j.Units
	}
	return l
}
