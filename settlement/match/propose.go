package match

import (
	"fmt"

	"github.com/computemarket/computemarket/admission"
)

// A Match is a bid and an ask that meet. Its units are in flight until both
// sides are closed, by [Book.Commit] together or by [Book.Release] or
// [Book.Drop] each. A Match is a value: copy it freely.
type Match struct {
	Lane            admission.Lane
	Bid, Ask        string // order ids
	Buyer, Provider string
	Units           uint64
	Price           uint64 // of one unit: the ask's

	slot   uint32
	number uint64
}

// Total returns what the buyer owes for the match. It never overflows.
func (m *Match) Total() uint64 { return m.Units * m.Price }

// reservation is a match in flight.
type reservation struct {
	number uint64    // 0: free
	orders [2]uint32 // slots, by Side-1; 0: that side is closed
	units  uint64
	from   uint64 // first unit of the bid that the receipt names
	named  bool
	lane   uint8
	next   uint32 // free chain
}

// Propose finds up to max matches in a lane, appends them to dst and returns
// it. Bids come in the order of priority; each takes the best asks that cross
// it and belong to another account, at the ask's price. What it proposes is
// reserved: the orders keep their place, and no other pass takes the same
// units. It allocates only to grow dst or the book.
//
// Propose looks at no clock: call [Book.Expire] first.
func (b *Book) Propose(dst []Match, lane admission.Lane, max int) []Match {
	if !lane.Valid() || max <= 0 {
		return dst
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ln := &b.lanes[lane-1]
	if !ln.pending {
		return dst
	}
	bid, ask := b.first(&ln.sides[Bid-1]), b.first(&ln.sides[Ask-1])
	// other is the first ask behind ask that is not of the account that ask is
	// of; only bids of that account need it. Asks are only used up during a
	// pass, so it moves one way, and the pass is linear in the orders that
	// cross, however many of them belong to one account.
	var other cursor
	var seller string
	for bid.slot != 0 && ask.slot != 0 {
		if b.orders[bid.slot].price < b.orders[ask.slot].price {
			break
		}
		if max == 0 {
			return dst // cut short: the lane stays pending
		}
		with := &ask
		if buyer := b.cold[bid.slot].account; buyer == b.cold[ask.slot].account {
			if other.ladder == nil || seller != buyer {
				seller, other = buyer, ask
			}
			for other.slot != 0 && (b.orders[other.slot].exhausted() || b.cold[other.slot].account == seller) {
				b.next(&other)
			}
			with = &other
			if other.slot == 0 || b.orders[bid.slot].price < b.orders[other.slot].price {
				b.next(&bid) // nothing for this one but its own account's asks
				continue
			}
		}
		dst = append(dst, b.reserve(lane, bid.slot, with.slot))
		max--
		if b.orders[with.slot].exhausted() {
			b.next(with)
		}
		if b.orders[bid.slot].exhausted() {
			b.next(&bid)
		}
	}
	ln.pending = false
	return dst
}

// reserve puts the units that two orders can trade in flight.
func (b *Book) reserve(lane admission.Lane, bid, ask uint32) Match {
	p, q := &b.orders[bid], &b.orders[ask]
	units := min(open(p.left, p.held), open(q.left, q.held))
	p.held += units
	q.held += units
	b.levels[p.level].open -= units
	b.levels[q.level].open -= units
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
		slot: slot, number: b.reservation,
	}
}

// JobID names the match for its receipt, see [Job.String]. Ask for it once the
// match is final and its receipt is about to be written: From counts the units
// of the bid named so far, in the order of these calls. The name of a match
// never changes, and no other match ever gets it.
//
// Possible errors: [ErrEnded].
func (b *Book) JobID(m Match) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.jobID(m)
}

func (b *Book) jobID(m Match) (string, error) {
	r, err := b.flight(m, Bid)
	if err != nil {
		return "", err
	}
	if !r.named {
		r.named = true
		c := &b.cold[r.orders[Bid-1]]
		r.from = c.filled
		c.filled += r.units
	}
	return Job{Bid: m.Bid, Ask: m.Ask, From: r.from, Units: r.units}.String(), nil
}

// Commit takes the units of a match out of both orders for good: call it when
// the receipt is durable. An order with nothing left is gone.
//
// Possible errors: [ErrEnded], when either side is closed; then nothing
// happens.
func (b *Book) Commit(m Match) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.commit(m)
}

func (b *Book) commit(m Match) error {
	for _, s := range [...]Side{Bid, Ask} {
		if _, err := b.flight(m, s); err != nil {
			return err
		}
	}
	for _, s := range [...]Side{Bid, Ask} {
		b.close(m, s, func(p *order, units uint64) uint64 { return p.left - min(p.left, units) })
	}
	return nil
}

// each calls f for 0 to n-1 under the lock, letting others in now and then. One
// lock for each call would make the loop queue behind every sender.
func (b *Book) each(n int, f func(i int)) {
	const hold = 128 // some tens of microseconds
	for i := 0; i < n; {
		b.mu.Lock()
		for end := min(i+hold, n); i < end; i++ {
			f(i)
		}
		b.mu.Unlock()
	}
}

// Release puts the units of one side of a match back where they were: same
// price, same place in the queue. Of an order that was cancelled, replaced by a
// smaller one or has expired meanwhile, nothing comes back that it no longer
// wants.
//
// Possible errors: [ErrEnded].
func (b *Book) Release(m Match, s Side) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.close(m, s, func(p *order, _ uint64) uint64 { return p.left })
}

// Drop ends one side of a match and cancels the rest of that order.
//
// Possible errors: [ErrEnded].
func (b *Book) Drop(m Match, s Side) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.close(m, s, func(*order, uint64) uint64 { return 0 })
}

// close ends one side of a match; left says what the order has left then.
func (b *Book) close(m Match, s Side, left func(p *order, units uint64) uint64) error {
	r, err := b.flight(m, s)
	if err != nil {
		return err
	}
	slot := r.orders[s-1]
	p := &b.orders[slot]
	r.orders[s-1] = 0
	b.set(slot, left(p, r.units), p.held-r.units)
	if r.orders == [2]uint32{} {
		b.lanes[r.lane].flying--
		*r = reservation{next: b.freeHeld}
		b.freeHeld = m.slot
	}
	return nil
}

// flight returns the reservation behind a match whose side s is still open.
func (b *Book) flight(m Match, s Side) (*reservation, error) {
	if s != Bid && s != Ask {
		return nil, fmt.Errorf("%w: %v", ErrSide, s)
	}
	if m.number == 0 || int(m.slot) >= len(b.held) {
		return nil, ErrEnded
	}
	r := &b.held[m.slot]
	if r.number != m.number || r.orders[s-1] == 0 {
		return nil, fmt.Errorf("%w: %v of %q and %q", ErrEnded, s, m.Bid, m.Ask)
	}
	return r, nil
}

func (p *order) exhausted() bool { return p.held >= p.left }

// A cursor walks the orders of a ladder that have open units, best first. It is
// good for as long as no order enters or leaves.
type cursor struct {
	ladder *ladder
	spot
	slot uint32 // 0: past the end
}

func (b *Book) first(l *ladder) cursor {
	c := cursor{ladder: l, spot: spot{block: len(l.blocks)}}
	b.next(&c)
	return c
}

func (b *Book) next(c *cursor) {
	if c.slot != 0 {
		c.slot = b.orders[c.slot].next
	}
	for {
		for c.slot != 0 {
			p := &b.orders[c.slot]
			if !p.exhausted() {
				return
			}
			c.slot = p.next
		}
		if c.i--; c.i < 0 {
			if c.block--; c.block < 0 {
				c.i, c.block = 0, 0
				return
			}
			c.i = c.ladder.blocks[c.block].n - 1
		}
		if l := &b.levels[c.ladder.blocks[c.block].levels[c.i]]; l.open > 0 {
			c.slot = l.head
		}
	}
}
