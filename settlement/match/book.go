package match

import (
	"cmp"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/computemarket/computemarket/admission"
)

// Options tune a [Book]. The zero value is ready to use.
type Options struct {
	// Capacity is the most orders that wait in a lane, bids and asks together,
	// up to 1<<23. An order in memory takes about 120 bytes beside its strings.
	// Defaults to 1<<20.
	Capacity int
}

// Book holds the bids and asks of both lanes in price-time priority: the best
// price first, and at one price the order that came first, told by sequence
// number and never by a clock. A lane never matches the other, an account never
// itself.
//
// Matching has two phases, because between a match and its receipt lie work, a
// disk and crashes. [Book.Propose] reserves units; the orders keep their place.
// [Book.Commit] takes the units out for good; [Book.Release] puts them back
// where they were, and [Book.Drop] gives up the order. [Loop] does this for
// you.
//
// The book is memory only. Whoever sends orders keeps them, and sends them
// again after a restart through [Resume], which takes off what the receipt log
// says was filled. This is why an order id must never be used for a second
// order.
//
// A Book is safe for concurrent use. No method blocks, starts a goroutine, or
// reads a clock; `now` comes from the caller and only expiry and the age of
// orders depend on it.
type Book struct {
	mu sync.Mutex // guards everything below but changed

	capacity int
	base     time.Time // times are kept as their distance from it
	seq      uint64    // of the youngest order
	lanes    [len(admission.Lanes)]lane

	// Slabs, linked by index. Slot 0 stands for none; it may be written, so that
	// linking needs no branches, and is never read. A freed slot is the first to
	// be used again.
	index       index
	orders      []order
	cold        []coldOrder
	freeOrder   uint32
	levels      []level
	freeLevel   uint32
	held        []reservation
	freeHeld    uint32
	expiries    []uint32 // a heap of order slots, the first to expire at [0]
	reservation uint64   // number of the youngest reservation

	// changed tells the Loop that a pass may find matches, or that an earlier
	// expiry came. It holds one token, so a signal is never lost.
	changed chan struct{}
}

// lane is the state of one lane.
type lane struct {
	sides   [2]ladder // by Side-1
	counts  [2]int    // orders on the ladder, by Side-1
	flying  int       // matches in flight
	pending bool      // something came since the last complete pass
}

// order is what cancelling and matching touch: one cache line, no pointers.
type order struct {
	next, prev uint32 // neighbours at the same price; next also chains free slots
	level      uint32 // 0: not on a ladder
	heap       uint32 // position in Book.expiries plus one; 0: never expires
	left       uint64 // units neither filled nor given up, in flight included
	held       uint64 // units in flight; may exceed left, see open
	price      uint64
	name       name
}

// coldOrder is the rest of it: another line.
type coldOrder struct {
	id, account string
	stamp       uint64 // sequence number<<8 | lane
	expires     int64  // nanoseconds after base
	since       int64  // likewise
	filled      uint64 // units that receipts name
}

// level is the queue of orders at one price.
type level struct {
	price      uint64
	open       uint64 // units that can match now
	head, tail uint32
	n          uint32 // orders
	lane, side uint8  // Lane-1, Side-1
}

const never = math.MaxInt64 // as coldOrder.expires

// NewBook returns an empty book. Possible errors: a capacity out of range.
func NewBook(opts *Options) (*Book, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	o.Capacity = cmp.Or(o.Capacity, 1<<20)
	if o.Capacity < 1 || o.Capacity > 1<<23 {
		return nil, fmt.Errorf("match: capacity %d, allowed are 1 to %d", o.Capacity, 1<<23)
	}
	b := &Book{
		capacity: o.Capacity,
		index:    newIndex(),
		orders:   make([]order, 1),
		cold:     make([]coldOrder, 1),
		levels:   make([]level, 1),
		held:     make([]reservation, 1),
		changed:  make(chan struct{}, 1),
	}
	for i := range b.lanes {
		b.lanes[i].sides[Ask-1].flip = math.MaxUint64
	}
	return b, nil
}

// Submit puts an order into the book, behind those at the same price, and
// returns its sequence number. It matches nothing; the next pass does.
//
// Possible errors: [ErrID], [ErrAccount], [ErrSide], [ErrUnits], [ErrPrice],
// admission.ErrLane, [ErrExpired], [ErrRepeated], [ErrFull]. After an error the
// book is as it was.
func (b *Book) Submit(o Order, now time.Time) (seq uint64, err error) {
	name, plain := nameOf(o.ID)
	if err := o.validate(plain); err != nil {
		return 0, err
	}
	name.tag = b.index.tag(name, o.ID)
	b.mu.Lock()
	seq, err = b.submit(&o, name, now)
	b.mu.Unlock()
	return seq, err
}

func (b *Book) submit(o *Order, name name, now time.Time) (seq uint64, err error) {
	ln := &b.lanes[o.Lane-1]
	pos, taken := b.find(name, o.ID)
	if taken {
		return 0, fmt.Errorf("%w: %q", ErrRepeated, o.ID)
	}
	if ln.counts[0]+ln.counts[1] >= b.capacity {
		return 0, fmt.Errorf("%w: %v holds %d orders", ErrFull, o.Lane, b.capacity)
	}
	expires, since := int64(never), b.since(now)
	if !o.Expires.IsZero() {
		if expires = b.since(o.Expires); expires <= since {
			return 0, fmt.Errorf("%w: %q", ErrExpired, o.ID)
		}
	}

	slot := b.newOrder()
	b.index.put(pos, name.tag, slot)
	b.seq++
	// Field by field: as one value each would be made on the stack and copied.
	p := &b.orders[slot]
	p.heap, p.left, p.held, p.price, p.name = 0, o.Units, 0, o.Price, name
	c := &b.cold[slot]
	c.id, c.account, c.filled = o.ID, o.Account, o.Filled
	c.stamp, c.expires, c.since = b.seq<<8|uint64(o.Lane), expires, since
	b.enqueue(slot, uint8(o.Lane-1), uint8(o.Side-1))
	if expires != never {
		b.pushExpiry(slot)
	}
	return b.seq, nil
}

// Cancel takes an order out and returns the units that will never match now.
// Units in flight are not recalled, since their work may be done: they become
// final, or are given up when their match fails. Until then the id stays taken.
//
// Possible errors: [ErrUnknown].
func (b *Book) Cancel(id string) (units uint64, err error) {
	name := b.name(id)
	b.mu.Lock()
	units, err = b.cancel(name, id)
	b.mu.Unlock()
	return units, err
}

func (b *Book) cancel(name name, id string) (units uint64, err error) {
	pos, ok := b.find(name, id)
	if !ok {
		return 0, ErrUnknown
	}
	slot := b.index.cells[pos].slot
	p := &b.orders[slot]
	if p.left == 0 {
		return 0, ErrUnknown // only its last units in flight are left
	}
	units = open(p.left, p.held)
	b.leave(slot)
	p.left = 0
	if p.held == 0 {
		b.index.remove(pos)
		b.free(slot)
	}
	return units, nil
}

// Replace gives an order new units and a new price, and returns it as it is
// then. Units are those that the order shall still be good for, the ones in
// flight included; when more than that is in flight, nothing of it is recalled.
// Fewer units at the same price keep the order's place; anything else sends it
// to the back of the queue at its price. Keep Units plus Filled of the result:
// that is what to submit after a restart.
//
// Possible errors: [ErrUnknown], [ErrUnits], [ErrPrice]. After an error the
// order is as it was.
func (b *Book) Replace(id string, units, price uint64, now time.Time) (Resting, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	slot, ok := b.lookup(id)
	if !ok {
		return Resting{}, ErrUnknown
	}
	p := &b.orders[slot]
	lv := &b.levels[p.level]
	lane, side := lv.lane, lv.side
	if err := validTerms(Side(side+1), units, price); err != nil {
		return Resting{}, err
	}
	if price == p.price && units <= p.left {
		b.set(slot, units, p.held)
		return b.resting(slot), nil
	}
	b.unlink(slot)
	b.seq++
	c := &b.cold[slot]
	c.stamp, c.since = b.seq<<8|uint64(lane+1), b.since(now)
	p.left, p.price = units, price
	b.enqueue(slot, lane, side)
	if p.heap != 0 {
		b.down(int(p.heap) - 1) // among those that expire with it, it is the last now
	}
	return b.resting(slot), nil
}

// lookup finds an order that is on a ladder.
func (b *Book) lookup(id string) (slot uint32, ok bool) {
	name := b.name(id)
	pos, ok := b.find(name, id)
	if !ok {
		return 0, false
	}
	slot = b.index.cells[pos].slot
	return slot, b.orders[slot].left > 0
}

// since maps a time to nanoseconds after the first one seen. Where both carry a
// monotonic reading the distance is monotonic too, so that setting the wall
// clock expires nothing early. Sub saturates at 292 years.
func (b *Book) since(t time.Time) int64 {
	if b.base.IsZero() {
		b.base = t
	}
	return int64(t.Sub(b.base))
}

// enqueue puts an order at the end of the queue at its price, and tells the
// Loop if it meets the other side.
func (b *Book) enqueue(slot uint32, lane, side uint8) {
	p := &b.orders[slot]
	ln := &b.lanes[lane]
	ld := &ln.sides[side]
	key := p.price ^ ld.flip
	at, lv, ok := ld.find(key)
	if !ok {
		lv = b.newLevel()
		b.levels[lv] = level{price: p.price, lane: lane, side: side}
		ld.insert(at, key, lv)
	}
	l := &b.levels[lv]
	p.level, p.next, p.prev = lv, 0, l.tail
	b.orders[l.tail].next = slot
	if l.tail == 0 {
		l.head = slot
	}
	l.tail = slot
	l.n++
	l.open += open(p.left, p.held)
	ln.counts[side]++
	// Seen from either side, the two keys cross when they sum to 2^64-1 or
	// more; as a comparison that does not overflow:
	if other, ok := ln.sides[1-side].best(); ok && key >= ^other {
		b.touch(ln)
	}
}

// touch notes that a pass may find something in a lane.
func (b *Book) touch(ln *lane) {
	if !ln.pending {
		ln.pending = true
		b.signal()
	}
}

func (b *Book) signal() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// unlink takes an order off its ladder, and its level too if it was the last.
func (b *Book) unlink(slot uint32) {
	p := &b.orders[slot]
	lv := p.level
	l := &b.levels[lv]
	ln := &b.lanes[l.lane]
	ln.counts[l.side]--
	p.level = 0
	if l.n == 1 {
		ld := &ln.sides[l.side]
		at, _, _ := ld.find(l.price ^ ld.flip)
		ld.remove(at)
		b.levels[lv] = level{head: b.freeLevel}
		b.freeLevel = lv
		return
	}
	l.n--
	l.open -= open(p.left, p.held)
	b.orders[p.prev].next = p.next
	b.orders[p.next].prev = p.prev
	head, tail := l.head, l.tail
	if p.prev == 0 {
		head = p.next
	}
	if p.next == 0 {
		tail = p.prev
	}
	l.head, l.tail = head, tail
}

// set changes what an order has left and in flight, and nothing else: it keeps
// its place while anything is left. This is the one way units change.
func (b *Book) set(slot uint32, left, held uint64) {
	p := &b.orders[slot]
	if p.left > 0 {
		l := &b.levels[p.level]
		was, is := open(p.left, p.held), open(left, held)
		l.open += is - was
		if is > was {
			b.touch(&b.lanes[l.lane])
		}
	}
	if p.left > 0 && left == 0 {
		p.held = held // unlink takes off what is open: nothing, as of now
		p.left = 0
		b.leave(slot)
	}
	p.left, p.held = left, held
	if left == 0 && held == 0 {
		b.index.remove(b.cell(slot))
		b.free(slot)
	}
}

// leave takes an order out of its queue and of the expiry heap, but leaves it
// in the index.
func (b *Book) leave(slot uint32) {
	b.unlink(slot)
	if b.orders[slot].heap != 0 {
		b.dropExpiry(slot)
	}
}

func (b *Book) newOrder() uint32 {
	if slot := b.freeOrder; slot != 0 {
		b.freeOrder = b.orders[slot].next
		return slot
	}
	b.orders = append(b.orders, order{})
	b.cold = append(b.cold, coldOrder{})
	return uint32(len(b.orders) - 1)
}

// free chains a slot to the free ones. It writes only the line that is at hand:
// the strings stay until the slot is used again, which is soon.
func (b *Book) free(slot uint32) {
	b.orders[slot].next = b.freeOrder
	b.freeOrder = slot
}

func (b *Book) newLevel() uint32 {
	if lv := b.freeLevel; lv != 0 {
		b.freeLevel = b.levels[lv].head
		return lv
	}
	b.levels = append(b.levels, level{})
	return uint32(len(b.levels) - 1)
}

func (b *Book) resting(slot uint32) Resting {
	p, c := &b.orders[slot], &b.cold[slot]
	l := &b.levels[p.level]
	r := Resting{
		Order: Order{
			ID: c.id, Account: c.account,
			Lane: admission.Lane(l.lane + 1), Side: Side(l.side + 1),
			Units: p.left, Price: p.price, Filled: c.filled,
		},
		Seq:      c.stamp >> 8,
		InFlight: p.held,
		Since:    b.base.Add(time.Duration(c.since)),
	}
	if c.expires != never {
		r.Expires = b.base.Add(time.Duration(c.expires))
	}
	return r
}
