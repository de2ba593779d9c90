package match

import (
	"github.com/computemarket/computemarket/admission"
)

// A Match is a bid and an ask that meet. Its units are in flight until both
// sides are closed, by [Book.Commit] together or by [Book.Release] or
// [Book.Drop] each. A Match is a value: copy it freely. It belongs to the book
// that proposed it; to any other it is [ErrEnded].
type Match struct {
	Lane            admission.Lane
	Bid, Ask        string // order ids
	Buyer, Provider string
	Units           uint64
	Price           uint64 // of one unit: the ask's

	book   *Book
	slot   uint32
	number uint64
}

// Total returns what the buyer owes for the match. It never overflows.
func (m *Match) Total() uint64 { return m.Units * m.Price }

// Propose finds up to max matches in a lane, appends them to dst and returns
// it. Bids come in the order of priority; each takes the best asks that cross
// it and belong to another account, at the ask's price. What it proposes is
// reserved: the orders keep their place, and no other pass takes the same
// units. It allocates only to grow dst or the book.
//
// Propose looks at no clock: call [Book.Expire] first.
func (b *Book) Propose(dst []Match, lane admission.Lane, max int) []Match {
	for more := lane.Valid() && max > 0; more; {
		was := len(dst)
		dst, more = b.propose(dst, lane, max)
		max -= len(dst) - was
	}
	return dst
}

// propose is Propose as far as one turn goes.
func (b *Book) propose(dst []Match, lane admission.Lane, max int) (_ []Match, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ln := &b.lanes[lane-1]
	for steps := hold; ln.pending; steps-- {
		bid, ask, done := b.meet(ln, &steps)
		switch {
		case !done || steps <= 0:
			return dst, true
		case bid == 0:
			ln.pending = false
			return dst, false
		case max == 0:
			return dst, false // the lane stays pending
		}
		dst = append(dst, b.reserve(lane, bid, ask))
		max--
	}
	return dst, false
}

// meet finds the next two orders that trade: the best bid that crosses an ask of
// another account, with the best such ask. done is false when it needs more
// steps. A bid of slot 0 is none.
//
// If the best two belong to different accounts, it is these. If not, either the
// best bid takes the best ask that is not of its account, or the best ask goes
// to the best bid that is not of its account. If neither crosses, nothing does.
func (b *Book) meet(ln *lane, steps *int) (bid, ask uint32, done bool) {
	b.steps++
	bids, asks := &ln.sides[Bid-1], &ln.sides[Ask-1]
	x, y := b.best(bids), b.best(asks)
	if x.slot == 0 || y.slot == 0 || x.key < ^y.key {
		return 0, 0, true
	}
	account := b.cold[x.slot].account
	if account != b.cold[y.slot].account {
		return x.slot, y.slot, true
	}
	other, done := b.bestNotOf(asks, account, ^x.key, steps)
	if !done || other.slot != 0 {
		return x.slot, other.slot, done
	}
	other, done = b.bestNotOf(bids, account, ^y.key, steps)
	return other.slot, y.slot, done
}

// reserve puts the units that two orders can trade in flight.
func (b *Book) reserve(lane admission.Lane, bid, ask uint32) Match {
	p, q := &b.orders[bid], &b.orders[ask]
	units := min(open(p.left, p.held), open(q.left, q.held))
	b.take(bid, units)
	b.take(ask, units)
	b.lanes[lane-1].flying++

	slot := b.freeHeld
	if slot == 0 {
		b.held = append(b.held, reservation{})
		slot = uint32(len(b.held) - 1)
	} else {
		b.freeHeld = b.held[slot].next
	}
	b.reservation++
	b.held[slot] = reservation{
		number: b.reservation, orders: [2]uint32{bid, ask}, units: units, lane: uint8(lane - 1),
	}
	buyer, seller := &b.cold[bid], &b.cold[ask]
	return Match{
		Lane: lane, Bid: buyer.id, Ask: seller.id, Buyer: buyer.account, Provider: seller.account,
		Units: units, Price: q.price,
		book: b, slot: slot, number: b.reservation,
	}
}

// take puts units of an order in flight that could match.
func (b *Book) take(slot uint32, units uint64) {
	p := &b.orders[slot]
	p.held += units
	b.levels[p.level].open -= units
	if p.held >= p.left {
		b.unlink(slot)
	}
}
