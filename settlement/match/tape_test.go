package match

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/computemarket/computemarket/admission"
)

var sweep = flag.Int("sweep", 1, "how many times as many random tapes to run")

// errs are the sentinels that book and model must agree on.
var errs = []error{
	ErrID, ErrAccount, ErrSide, ErrUnits, ErrPrice, ErrExpired, ErrRepeated, ErrFull,
	ErrNotFound, ErrEnded, admission.ErrLane,
}

func sentinel(err error) error {
	for _, e := range errs {
		if errors.Is(err, e) {
			return e
		}
	}
	return err
}

// player runs operations, drawn from bytes, against a book and its model, and
// fails at the first difference.
type player struct {
	t     testing.TB
	data  []byte
	book  *Book
	model *naive
	now   time.Time
	clock time.Duration // that has passed, for the orders that wait

	flying []Match // proposed and not closed
	open   [][2]bool
}

const modelCapacity = 20

func play(t testing.TB, data []byte) {
	book, err := NewBook(&Options{Capacity: modelCapacity})
	if err != nil {
		t.Fatal(err)
	}
	p := &player{t: t, data: data, book: book, model: newNaive(modelCapacity), now: epoch}
	for len(p.data) > 0 {
		p.step()
		p.compare()
		if t.Failed() {
			t.FailNow()
		}
	}
	// A pass without limit leaves nothing that crosses.
	for _, lane := range admission.Lanes {
		p.propose(lane, math.MaxInt)
		p.uncrossed(lane)
	}
	// Close everything: what is in flight must come back or be taken out.
	for len(p.flying) > 0 {
		p.close(0)
		p.compare()
	}
	if s := book.Stats(admission.Consumer).Matches + book.Stats(admission.Industrial).Matches; s != 0 {
		t.Errorf("%d matches in flight after all are closed", s)
	}
}

// draw returns a number below n; a tape that has ended gives zeros.
func (p *player) draw(n int) int {
	if len(p.data) == 0 {
		return 0
	}
	x := int(p.data[0])
	p.data = p.data[1:]
	return x % n
}

// id is short or long, and long ones differ in their ends only.
func (p *player) id() string {
	n := p.draw(48)
	return fmt.Sprintf("%0*d", [...]int{1, shortID, shortID + 1, MaxID}[n%4], n)
}

// price is mostly one of a few neighbours, so that levels are shared and cross.
func (p *player) price() uint64 {
	switch x := p.draw(16); x {
	case 14:
		return 0
	case 15:
		return math.MaxUint64
	default:
		return 100 + uint64(x%7)
	}
}

func (p *player) units() uint64 {
	switch x := p.draw(32); x {
	case 30:
		return 0
	case 31:
		return MaxUnits + uint64(p.draw(2))
	default:
		return uint64(1 + x%6)
	}
}

func (p *player) step() {
	switch op := p.draw(32); {
	case op < 14:
		o := Order{
			ID: p.id(), Account: string(rune('A' + p.draw(3))), Lane: admission.Lane(1 + p.draw(2)),
			Side: Side(1 + p.draw(2)), Units: p.units(), Price: p.price(),
		}
		if x := p.draw(8); x < 3 {
			o.Expires = p.now.Add(time.Duration(x) * time.Second)
		}
		got, err := p.book.Submit(o, p.now)
		want, wantErr := p.model.submit(o, p.now)
		p.same("submit", got, want, err, wantErr)
	case op < 17:
		id := p.id()
		got, err := p.book.Cancel(id)
		want, wantErr := p.model.cancel(id)
		p.same("cancel", got, want, err, wantErr)
	case op < 19:
		id, units, price := p.id(), p.units(), p.price()
		_, err := p.book.Replace(id, units, price, p.now)
		wantErr := p.model.replace(id, units, price)
		p.same("replace", 0, 0, err, wantErr)
	case op < 21:
		p.now = p.now.Add(time.Duration(p.draw(3)) * time.Second)
		var got []string
		for _, r := range p.book.Expire(nil, p.now) {
			got = append(got, r.ID)
		}
		if want := p.model.expire(p.now); !slices.Equal(got, want) {
			p.t.Errorf("expire: %v, model %v", got, want)
		}
	case op == 21:
		p.clock += time.Duration(p.draw(3)) * time.Second
		lane := admission.Lanes[p.draw(2)]
		for p.book.wake(lane, p.clock) {
		}
		p.model.wake(lane, p.clock)
	case op < 26:
		p.propose(admission.Lanes[p.draw(2)], p.draw(5))
	default:
		if len(p.flying) > 0 {
			p.close(p.draw(len(p.flying)))
		}
	}
}

func (p *player) propose(lane admission.Lane, max int) {
	got := p.book.Propose(nil, lane, max)
	want := p.model.propose(lane, max)
	if !slices.EqualFunc(got, want, func(g, w Match) bool { return g.public() == w }) {
		p.t.Errorf("propose %v at most %d:\n got %v\nwant %v", lane, max, got, want)
	}
	for _, m := range got {
		if m.Buyer == m.Provider {
			p.t.Errorf("%v: an account deals with itself", m)
		}
		p.flying = append(p.flying, m)
		p.open = append(p.open, [2]bool{true, true})
	}
}

// public is a match without its reservation.
func (m Match) public() Match {
	m.book, m.slot, m.number = nil, 0, 0
	return m
}

// close ends match i, or one side of it, in one of the ways there are.
func (p *player) close(i int) {
	m, open := p.flying[i], &p.open[i]
	if *open == [2]bool{true, true} && p.draw(2) == 0 {
		if p.draw(2) == 0 {
			p.name(m, true)
		}
		if err := p.book.Commit(m); err != nil {
			p.t.Errorf("commit: %v", err)
		}
		p.model.commit(m)
		*open = [2]bool{}
	} else {
		s := Side(1 + p.draw(2))
		if !open[s-1] {
			// Closed already: an error, and nothing may change.
			if err := p.book.Release(m, s); !errors.Is(err, ErrEnded) {
				p.t.Errorf("second release: %v", err)
			}
			if err := p.book.Commit(m); !errors.Is(err, ErrEnded) {
				p.t.Errorf("commit after release: %v", err)
			}
			s = 3 - s
		}
		if p.draw(4) == 0 {
			p.name(m, *open == [2]bool{true, true})
		}
		var err error
		switch x := p.draw(4); {
		case x == 0:
			err = p.book.Drop(m, s)
			p.model.drop(m, s)
		case x == 1 && s == Bid:
			due := p.clock + time.Duration(p.draw(3))*time.Second
			err = p.book.giveBack(m, due)
			p.model.giveBack(m, due)
		default:
			err = p.book.Release(m, s)
			p.model.release(m, s)
		}
		if err != nil {
			p.t.Errorf("close %v: %v", s, err)
		}
		open[s-1] = false
	}
	if *open == [2]bool{} {
		p.flying = slices.Delete(p.flying, i, i+1)
		p.open = slices.Delete(p.open, i, i+1)
		if err := p.book.Commit(m); !errors.Is(err, ErrEnded) {
			p.t.Errorf("commit of a closed match: %v", err)
		}
	}
}

func (p *player) name(m Match, ok bool) {
	id, err := p.book.JobID(m)
	if !ok {
		if !errors.Is(err, ErrEnded) {
			p.t.Errorf("a match of which one side is closed is named %q, %v", id, err)
		}
		return
	}
	again, err2 := p.book.JobID(m)
	if err != nil || err2 != nil || id != again {
		p.t.Errorf("job id %q, %v, then %q, %v", id, err, again, err2)
	}
	j, ok := ParseJob(id)
	if !ok || j.Bid != m.Bid || j.Ask != m.Ask || j.Units != m.Units {
		p.t.Errorf("job id %q does not say what %v is", id, m)
	}
}

func (p *player) same(op string, got, want uint64, err, wantErr error) {
	p.t.Helper()
	if got != want || sentinel(err) != sentinel(wantErr) {
		p.t.Errorf("%s: %d, %v; model %d, %v", op, got, err, want, wantErr)
	}
}

// uncrossed checks that no two open orders could still trade.
func (p *player) uncrossed(lane admission.Lane) {
	for _, b := range p.model.side(lane, Bid) {
		for _, a := range p.model.side(lane, Ask) {
			if b.Price >= a.Price && b.Account != a.Account {
				p.t.Errorf("%v: bid %v and ask %v still cross after a pass", lane, b.Order, a.Order)
			}
		}
	}
}

// compare checks everything that can be seen of the book against the model, and
// the book against itself.
func (p *player) compare() {
	p.t.Helper()
	var want []Resting
	for _, o := range p.model.orders {
		if o.Units > 0 {
			want = append(want, Resting{Order: o.Order, Seq: o.seq, InFlight: o.held, Waiting: o.waiting})
		}
	}
	slices.SortFunc(want, func(x, y Resting) int { return int(x.Seq) - int(y.Seq) })
	got := p.book.Snapshot()
	if !slices.EqualFunc(got, want, func(g, w Resting) bool {
		if !g.Expires.Equal(w.Expires) {
			return false
		}
		g.Since, g.Expires, w.Expires = time.Time{}, time.Time{}, time.Time{}
		return g == w
	}) {
		p.t.Errorf("snapshot:\n got %v\nwant %v", got, want)
	}
	for _, lane := range admission.Lanes {
		prices := 0
		for _, s := range []Side{Bid, Ask} {
			var levels []Level
			for _, o := range p.model.side(lane, s) {
				if n := len(levels); n == 0 || levels[n-1].Price != o.Price {
					levels = append(levels, Level{Price: o.Price})
				}
				levels[len(levels)-1].Units += o.open()
				levels[len(levels)-1].Orders++
			}
			prices += len(levels)
			depth := p.book.Depth(nil, lane, s, 100)
			if !slices.Equal(depth, levels) {
				p.t.Errorf("depth of %v %v: %v, model %v", lane, s, depth, levels)
			}
		}
		if got := p.book.Stats(lane).Levels; got != prices {
			p.t.Errorf("%v: %d levels, model %d", lane, got, prices)
		}
	}
	p.book.verify(p.t)
}

// verify checks the structure of a book: every invariant that the code relies
// on.
func (b *Book) verify(t testing.TB) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var placed, expiring, sleeping int
	for i := range b.lanes {
		ln := &b.lanes[i]
		for s := range ln.sides {
			sd := &ln.sides[s]
			twice := 0
			for _, aside := range []bool{false, true} {
				placed += b.verifyLadder(t, sd.ladder(aside), uint8(i), uint8(s), aside)
			}
			for w := sd.aside.walk(); w.ok(); w.next() {
				if _, _, ok := sd.queue.find(w.key()); ok {
					twice++
				}
			}
			if twice != sd.twice {
				t.Errorf("lane %d side %d: %d prices on both ladders, says %d", i, s, twice, sd.twice)
			}
			b.verifyGroups(t, sd)
		}
		for k, e := range ln.expiries.items {
			if int(b.orders[e.slot].heap) != k+1 || b.cold[e.slot].seq() != e.seq || int(b.cold[e.slot].lane()) != i {
				t.Errorf("expiry %d is %+v, the order says %d", k, e, b.orders[e.slot].heap)
			}
		}
		for k, e := range ln.sleepers.items {
			if p := &b.orders[e.slot]; int(p.next) != k || p.level != 0 || p.left == 0 || !b.cold[e.slot].waiting() {
				t.Errorf("sleeper %d: %+v", k, *p)
			}
		}
		ln.expiries.verify(t)
		ln.sleepers.verify(t)
		expiring += len(ln.expiries.items)
		sleeping += len(ln.sleepers.items)
	}
	b.verifyOrders(t, placed, expiring, sleeping)
}

func (h *heap[E]) verify(t testing.TB) {
	t.Helper()
	for i := 1; i < len(h.items); i++ {
		if h.before(h.items[i], h.items[(i-1)/2]) {
			t.Errorf("entry %d of a heap comes before its parent", i)
		}
	}
}

func (b *Book) verifyLadder(t testing.TB, l *ladder, lane, side uint8, aside bool) (orders int) {
	t.Helper()
	last, first := uint64(0), true
	for i, bl := range l.blocks {
		if bl.n == 0 || bl.n > blockLen || l.lows[i] != bl.keys[0] {
			t.Errorf("block %d: %d levels, low %d, first key %d", i, bl.n, l.lows[i], bl.keys[0])
		}
		for k := range bl.n {
			if key := bl.keys[k]; !first && key <= last {
				t.Errorf("keys %d, %d out of order", last, key)
			}
			first, last = false, bl.keys[k]
			lv := bl.levels[k]
			if got := b.levels[lv]; got.lane != lane || got.side != side || got.aside != aside || got.n == 0 ||
				got.price != last^b.lanes[lane].sides[side].flip {
				t.Errorf("level %d: %+v, want lane %d, side %d, aside %v, key %d", lv, got, lane, side, aside, last)
			}
			if !aside {
				b.verifyQueue(t, lv)
			}
			orders += int(b.levels[lv].n)
		}
	}
	return orders
}

func (b *Book) verifyQueue(t testing.TB, lv uint32) {
	t.Helper()
	l := &b.levels[lv]
	units, n, prev, seq := uint64(0), 0, uint32(0), uint64(0)
	for slot := l.head; slot != 0; slot = b.orders[slot].next {
		p := &b.orders[slot]
		if p.prev != prev || p.level != lv || p.price != l.price {
			t.Errorf("order %q: prev %d, level %d, price %d", b.cold[slot].id, p.prev, p.level, p.price)
		}
		if s := b.cold[slot].seq(); s <= seq {
			t.Errorf("order %q: %d after %d in one queue", b.cold[slot].id, s, seq)
		}
		seq, prev = b.cold[slot].seq(), slot
		units += open(p.left, p.held)
		n++
	}
	if l.tail != prev || int(l.n) != n || l.open != units {
		t.Errorf("level at %d: tail %d, n %d, open %d; want %d, %d, %d", l.price, l.tail, l.n, l.open, prev, n, units)
	}
}

// verifyGroups checks what is set aside on one side.
func (b *Book) verifyGroups(t testing.TB, sd *side) {
	t.Helper()
	sum := make(map[uint32]level)
	sd.top.verify(t)
	for i, g := range sd.top.items {
		gr := &b.groups[g]
		if gr.at != i || sd.byName[gr.account] != g || len(gr.orders.items) == 0 {
			t.Errorf("group %d of %q stands at %d, not %d", g, gr.account, gr.at, i)
		}
		gr.orders.verify(t)
		for k, r := range gr.orders.items {
			p, c := &b.orders[r.slot], &b.cold[r.slot]
			if p.next != g || int(p.prev) != k || r.seq != c.seq() || r.key != p.price^sd.flip || c.account != gr.account || c.waiting() {
				t.Errorf("order %q aside: %+v, %+v", c.id, *p, r)
			}
			l := sum[p.level]
			l.n++
			l.open += open(p.left, p.held)
			sum[p.level] = l
		}
	}
	if len(sum) != sd.aside.count() || len(sd.byName) != len(sd.top.items) {
		t.Errorf("%d levels aside, want %d; %d names for %d groups", sd.aside.count(), len(sum), len(sd.byName), len(sd.top.items))
	}
	for lv, want := range sum {
		if l := b.levels[lv]; l.n != want.n || l.open != want.open {
			t.Errorf("level aside at %d: n %d, open %d; want %d, %d", l.price, l.n, l.open, want.n, want.open)
		}
	}
}

func (b *Book) verifyOrders(t testing.TB, placed, expiring, sleeping int) {
	t.Helper()
	held, named := make(map[uint32]uint64), make(map[uint32]uint64)
	for _, r := range b.held {
		for i, slot := range r.orders {
			if slot != 0 {
				held[slot] += r.units
				if r.named && Side(i+1) == Bid {
					named[slot] += r.units
				}
			}
		}
	}
	var taken int
	var resting [len(admission.Lanes)][2]int
	for slot := 1; slot < len(b.orders); slot++ {
		p, c := &b.orders[slot], &b.cold[slot]
		if p.left == 0 && p.held == 0 {
			if c.id != "" || c.account != "" || c.waiting() {
				t.Errorf("a free slot keeps %q of %q", c.id, c.account)
			}
			continue
		}
		taken++
		if p.held != held[uint32(slot)] {
			t.Errorf("order %q: %d in flight, the reservations say %d", c.id, p.held, held[uint32(slot)])
		}
		if c.side() == uint8(Bid-1) && c.named < c.filled+named[uint32(slot)] {
			t.Errorf("order %q: %d named, %d filled, %d on their way", c.id, c.named, c.filled, named[uint32(slot)])
		}
		if (p.level != 0) != (open(p.left, p.held) > 0 && !c.waiting()) {
			t.Errorf("order %q: level %d, left %d, held %d, waiting %v", c.id, p.level, p.left, p.held, c.waiting())
		}
		if p.left > 0 {
			resting[c.lane()][c.side()]++
		}
		if p.level != 0 {
			placed--
		}
		if p.heap != 0 {
			expiring--
		}
		if c.waiting() {
			sleeping--
		}
		name := b.name(c.id)
		if pos, ok := b.find(name, c.id); !ok || b.index.cells[pos].slot != uint32(slot) {
			t.Errorf("order %q is not in the index", c.id)
		}
	}
	if taken != b.index.n || placed != 0 || expiring != 0 || sleeping != 0 {
		t.Errorf("%d orders, index has %d; %d, %d, %d too many on ladders, expiring, sleeping",
			taken, b.index.n, placed, expiring, sleeping)
	}
	for i := range b.lanes {
		for s := range b.lanes[i].sides {
			if got := b.lanes[i].sides[s].orders; got != resting[i][s] {
				t.Errorf("lane %d side %d counts %d, has %d", i, s, got, resting[i][s])
			}
		}
	}
}

// TestTapes plays random tapes against the naive book. -sweep multiplies them.
func TestTapes(t *testing.T) {
	n := 150 * *sweep
	if testing.Short() {
		n /= 10
	}
	for seed := range n {
		rng := rand.New(rand.NewPCG(7, uint64(seed)))
		data := make([]byte, 2000)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		play(t, data)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzBook(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21})
	// A bid and an ask that meet, a pass, a commit.
	f.Add([]byte{0, 1, 0, 0, 0, 0, 3, 7, 0, 2, 1, 0, 1, 0, 3, 7, 21, 0, 4, 25, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) { play(t, data) })
}

// TestManyLevels plays a tape that is all price levels: blocks split, thin out
// and join, from either end and from the middle.
func TestManyLevels(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, draw := range []func(i int) uint64{
		func(i int) uint64 { return uint64(i) },
		func(i int) uint64 { return math.MaxUint64>>25 - uint64(i) },
		func(int) uint64 { return rng.Uint64N(1 << 39) },
		func(int) uint64 { return rng.Uint64N(50) },
	} {
		b, _ := NewBook(nil)
		var ids []string
		want := make(map[uint64]int)
		price := make(map[string]uint64)
		submit := func(i int) {
			o := Order{
				ID: fmt.Sprint(i), Account: "a", Lane: admission.Consumer, Side: Side(1 + i%2), Units: 1, Price: draw(i),
			}
			if _, err := b.Submit(o, epoch); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, o.ID)
			if o.Side == Ask {
				want[o.Price]++
				price[o.ID] = o.Price
			}
		}
		cancel := func(i int) {
			id := ids[i]
			ids = slices.Delete(ids, i, i+1)
			if _, err := b.Cancel(id); err != nil {
				t.Fatal(err)
			}
			if p, ok := price[id]; ok {
				if want[p]--; want[p] == 0 {
					delete(want, p)
				}
			}
		}
		verify := func() {
			b.verify(t)
			depth := b.Depth(nil, admission.Consumer, Ask, math.MaxInt)
			if len(depth) != len(want) {
				t.Fatalf("%d levels, want %d", len(depth), len(want))
			}
			for i, l := range depth {
				if want[l.Price] != l.Orders || i > 0 && l.Price <= depth[i-1].Price {
					t.Fatalf("level %d: %+v, want %d orders", i, l, want[l.Price])
				}
			}
		}
		for i := range 4000 {
			submit(i)
			if i%3 == 2 {
				cancel(rng.IntN(len(ids)))
			}
		}
		verify()
		slices.SortFunc(ids, func(x, y string) int { return len(x) - len(y) })
		for len(ids) > 200 {
			cancel(rng.IntN(1 + len(ids)/2))
		}
		verify()
		blocks := len(b.lanes[0].sides[0].queue.blocks) + len(b.lanes[0].sides[1].queue.blocks)
		if blocks > 20 {
			t.Errorf("%d blocks for at most 200 levels", blocks)
		}
		for len(ids) > 0 {
			cancel(0)
		}
		verify()
	}
}
