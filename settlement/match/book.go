package match

import (
	"cmp"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/computemarket/computemarket/admission"
)

// Options tune a [Book]. The zero value is ready to use.
type Options struct {
	// Capacity is the most orders that wait in a lane, bids and asks together,
	// up to 1<<23. An order in memory takes about 130 bytes beside its strings.
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
// The book is memory only. Whoever sends orders keeps them, as they were
// submitted or as [Book.Replace] returned them last, until they are cancelled,
// have expired or are dropped, and hands them to [Resume] after a restart, which
// asks the receipt log what was filled. This is why an order id must never be
// used for a second order.
//
// A Book comes from [NewBook]; the zero Book is empty and refuses orders with
// [ErrOptions]. It is safe for concurrent use. No method blocks, starts a
// goroutine, or reads a clock; `now` comes from the caller and only expiry and
// the age of orders depend on it. What a message costs follows from what it
// changes: no order is passed by twice, and no method that changes orders holds
// the book for more than some hundred of them at a time.
type Book struct {
	mu sync.Mutex // guards everything below but capacity, running and changed

	capacity int
	seq      uint64 // of the youngest order
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
	moments     []time.Time // orders' times are kept as their distance from one
	groups      []group
	freeGroup   uint32
	held        []reservation
	freeHeld    uint32
	reservation uint64 // number of the youngest reservation

	running atomic.Bool // a Loop runs

	steps uint64 // orders looked at and moved so far; tests hold bounds on it

	// changed tells the Loop that a pass may find matches, or that an earlier
	// expiry came. It holds one token, so a signal is never lost.
	changed chan struct{}
}

// hold is for how many steps the book is locked at most, before others have
// their turn: some tens of microseconds.
const hold = 256

// lane is the state of one lane.
type lane struct {
	sides    [2]side // by Side-1
	flying   int     // matches in flight
	pending  bool    // something came since the last complete pass
	expiries heap[expiry]
	sleepers heap[sleeper]
}

// order is what cancelling and matching touch: one cache line, no pointers.
type order struct {
	// In the queue: neighbours at the same price. Set aside: its group, and its
	// position there. Waiting: its position among the sleepers. Free: the next
	// free slot.
	next, prev uint32
	level      uint32 // in a queue or set aside; 0: nothing of it can match now
	heap       uint32 // position among the expiries plus one; 0: never expires
	left       uint64 // units neither filled nor given up, in flight included
	held       uint64 // units in flight; may exceed left, see open
	price      uint64
	name       name
}

// coldOrder is the rest of it: another line.
type coldOrder struct {
	id, account string
	stamp       uint64 // seq<<8 | moment<<3 | waiting<<2 | side<<1 | lane
	since       int64  // nanoseconds after Book.moments[moment]
	filled      uint64 // units that durable receipts name
	named       uint64 // units of a bid that have a number: filled, or on their way
}

const isWaiting = 1 << 2 // in coldOrder.stamp

func (c *coldOrder) seq() uint64   { return c.stamp >> 8 }
func (c *coldOrder) moment() uint8 { return uint8(c.stamp) >> 3 }
func (c *coldOrder) waiting() bool { return c.stamp&isWaiting != 0 }
func (c *coldOrder) side() uint8   { return uint8(c.stamp) >> 1 & 1 } // Side-1
func (c *coldOrder) lane() uint8   { return uint8(c.stamp) & 1 }      // Lane-1

// NewBook returns an empty book. Possible errors: [ErrOptions], a capacity out
// of range.
func NewBook(opts *Options) (*Book, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	o.Capacity = cmp.Or(o.Capacity, 1<<20)
	if o.Capacity < 1 || o.Capacity > 1<<23 {
		return nil, fmt.Errorf("%w: capacity %d, allowed are 1 to %d", ErrOptions, o.Capacity, 1<<23)
	}
	b := &Book{
		capacity: o.Capacity,
		index:    newIndex(),
		orders:   make([]order, 1),
		cold:     make([]coldOrder, 1),
		levels:   make([]level, 1),
		groups:   make([]group, 1),
		moments:  make([]time.Time, 1),
		held:     make([]reservation, 1),
		changed:  make(chan struct{}, 1),
	}
	for i := range b.lanes {
		ln := &b.lanes[i]
		for s := range ln.sides {
			b.initSide(&ln.sides[s], Side(s+1))
		}
		b.initExpiries(ln)
		b.initSleepers(ln)
	}
	return b, nil
}

// Submit puts an order into the book, behind those at the same price, and
// returns its sequence number. It matches nothing; the next pass does.
//
// Possible errors: [ErrID], [ErrAccount], [ErrSide], [ErrUnits], [ErrPrice],
// admission.ErrLane, [ErrExpired], [ErrRepeated], [ErrFull]. After an error the
// book is as it was. A Book that is not from NewBook gives [ErrOptions].
func (b *Book) Submit(o Order, now time.Time) (seq uint64, err error) {
	if b.changed == nil {
		return 0, errNoBook
	}
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
	if ln.sides[0].orders+ln.sides[1].orders >= b.capacity {
		return 0, fmt.Errorf("%w: %v holds %d orders", ErrFull, o.Lane, b.capacity)
	}
	if !o.Expires.IsZero() && isOver(o.Expires, now) {
		return 0, fmt.Errorf("%w: %q", ErrExpired, o.ID)
	}

	slot := b.newOrder()
	b.index.put(pos, name.tag, slot)
	b.seq++
	// Field by field: as one value each would be made on the stack and copied.
	p := &b.orders[slot]
	p.level, p.heap, p.left, p.held, p.price, p.name = 0, 0, o.Units, 0, o.Price, name
	c := &b.cold[slot]
	c.id, c.account, c.filled, c.named = o.ID, o.Account, o.Filled, o.Filled
	c.stamp = b.seq<<8 | uint64(o.Side-1)<<1 | uint64(o.Lane-1)
	b.setSince(c, now)
	ln.sides[o.Side-1].orders++
	b.enqueue(slot, uint8(o.Lane-1), uint8(o.Side-1))
	if !o.Expires.IsZero() {
		b.pushExpiry(slot, o.Expires)
	}
	return b.seq, nil
}

// Cancel takes an order out and returns the units that will never match now.
// Units in flight are not recalled, since their work may be done: they become
// final, or are given up when their match fails. Until then the id stays taken.
//
// Possible errors: [ErrNotFound]. A Book that is not from NewBook gives
// [ErrOptions].
func (b *Book) Cancel(id string) (units uint64, err error) {
	if b.changed == nil {
		return 0, errNoBook
	}
	name := b.name(id)
	b.mu.Lock()
	units, err = b.cancel(name, id)
	b.mu.Unlock()
	return units, err
}

func (b *Book) cancel(name name, id string) (units uint64, err error) {
	pos, ok := b.find(name, id)
	if !ok {
		return 0, ErrNotFound
	}
	slot := b.index.cells[pos].slot
	p := &b.orders[slot]
	if p.left == 0 {
		return 0, ErrNotFound // only its last units in flight are left
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
// to the back of the queue at its price.
//
// Keep the Order of the result instead of the one that was kept so far: that is
// what to give to [Resume]. Until it is kept, do not tell anyone that the order
// was replaced; after a crash before that, it comes back as it was.
//
// Possible errors: [ErrNotFound], [ErrUnits], [ErrPrice]. After an error the
// order is as it was. A Book that is not from NewBook gives [ErrOptions].
func (b *Book) Replace(id string, units, price uint64, now time.Time) (Resting, error) {
	if b.changed == nil {
		return Resting{}, errNoBook
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	slot, ok := b.lookup(id)
	if !ok {
		return Resting{}, ErrNotFound
	}
	p, c := &b.orders[slot], &b.cold[slot]
	if err := validTerms(Side(c.side()+1), units, price); err != nil {
		return Resting{}, err
	}
	if price == p.price && units <= p.left {
		b.set(slot, units, p.held)
		return b.resting(slot), nil
	}
	if p.level != 0 {
		b.unlink(slot)
	}
	b.seq++
	c.stamp = b.seq<<8 | c.stamp&0xff
	b.setSince(c, now)
	p.left, p.price = units, price
	if b.openNow(slot) > 0 {
		b.enqueue(slot, c.lane(), c.side())
	}
	if p.heap != 0 {
		b.renewExpiry(slot) // among those that expire with it, it is the last now
	}
	return b.resting(slot), nil
}

// lookup finds an order that rests in the book.
func (b *Book) lookup(id string) (slot uint32, ok bool) {
	if b.changed == nil {
		return 0, false
	}
	name := b.name(id)
	pos, ok := b.find(name, id)
	if !ok {
		return 0, false
	}
	slot = b.index.cells[pos].slot
	return slot, b.orders[slot].left > 0
}

// setSince notes when an order came. Its distance from a moment before is
// monotonic where the clock's readings are, as an age has to be. No distance is
// longer than 292 years, so a clock that is set from one age to another makes a
// new moment; there is room for 31 behind the first, the zero time.
func (b *Book) setSince(c *coldOrder, now time.Time) {
	i := len(b.moments) - 1
	d := now.Sub(b.moments[i])
	if d == math.MaxInt64 || d == math.MinInt64 {
		i, d = b.newMoment(now, d)
	}
	c.stamp = c.stamp&^(31<<3) | uint64(i)<<3
	c.since = int64(d)
}

func (b *Book) newMoment(now time.Time, d time.Duration) (int, time.Duration) {
	if len(b.moments) == 32 {
		return 31, d
	}
	b.moments = append(b.moments, now)
	return len(b.moments) - 1, 0
}

func (b *Book) sinceOf(c *coldOrder) time.Time {
	return b.moments[c.moment()].Add(time.Duration(c.since))
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

// free chains a slot to the free ones, and lets go of its strings.
func (b *Book) free(slot uint32) {
	c := &b.cold[slot]
	c.id, c.account = "", ""
	b.orders[slot].next = b.freeOrder
	b.freeOrder = slot
}

func (b *Book) resting(slot uint32) Resting {
	p, c := &b.orders[slot], &b.cold[slot]
	r := Resting{
		Order: Order{
			ID: c.id, Account: c.account,
			Lane: admission.Lane(c.lane() + 1), Side: Side(c.side() + 1),
			Units: p.left, Price: p.price, Filled: c.filled,
		},
		Seq:      c.seq(),
		InFlight: p.held,
		Waiting:  c.waiting(),
		Since:    b.sinceOf(c),
	}
	if p.heap != 0 {
		r.Expires = b.lanes[c.lane()].expiries.items[p.heap-1].at
	}
	return r
}
