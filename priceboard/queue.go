package priceboard

import "strings"

// ring is the queue of a board that treats all prices alike.
type ring struct {
	prices []uint64 // as long as the window
	next   int      // where the next price goes; the oldest is here once full
	n      int
}

func newRing(window int) *ring { return &ring{prices: make([]uint64, window)} }

func (r *ring) push(price uint64, _ string) (left uint64, full bool) {
	left, full = r.prices[r.next], r.n == len(r.prices)
	r.prices[r.next] = price
	if r.next++; r.next == len(r.prices) {
		r.next = 0
	}
	if !full {
		r.n++
	}
	return left, full
}

func (r *ring) restore(price uint64) { r.push(price, "") }

func (r *ring) appendTo(dst []uint64) []uint64 {
	if r.n == len(r.prices) {
		dst = append(dst, r.prices[r.next:]...)
	}
	return append(dst, r.prices[:r.next]...)
}

func (r *ring) appendParties(dst []string) []string { return dst } // it keeps none

func (r *ring) reset() { r.next, r.n = 0, 0 }

// roster is the queue of a board that limits how many prices one party holds.
// Since a party's oldest may leave from the middle, the order of arrival is a
// linked list; so is the order within each party.
type roster struct {
	window, limit int
	slots         []slot // one per price, in no order; grows up to the window
	oldest        int32  // first and last of the list of all; nowhere if empty
	newest        int32
	parties       map[string]*party
}

// nowhere is the end of a list.
const nowhere = -1

type slot struct {
	price      uint64
	prev, next int32  // in order of arrival
	ownNext    int32  // the same party's next
	party      *party // nil if not known, and then not limited
}

type party struct {
	name           string
	n              int32
	oldest, newest int32
}

func newRoster(window, limit int) *roster {
	r := &roster{window: window, limit: limit, parties: map[string]*party{}}
	r.reset()
	return r
}

func (r *roster) reset() {
	clear(r.slots) // drops the parties
	clear(r.parties)
	r.slots, r.oldest, r.newest = r.slots[:0], nowhere, nowhere
}

func (r *roster) push(price uint64, name string) (left uint64, full bool) {
	p := r.parties[name]
	if p == nil {
		p = &party{name: strings.Clone(name)} // not the message it was cut from
	}
	return r.put(price, p)
}

func (r *roster) restore(price uint64) { r.put(price, nil) }

func (r *roster) appendTo(dst []uint64) []uint64 {
	for at := r.oldest; at != nowhere; at = r.slots[at].next {
		dst = append(dst, r.slots[at].price)
	}
	return dst
}

// appendParties: those that are not known came from a snapshot, before all else.
func (r *roster) appendParties(dst []string) []string {
	for at := r.oldest; at != nowhere; at = r.slots[at].next {
		if p := r.slots[at].party; p != nil {
			dst = append(dst, p.name)
		}
	}
	return dst
}

func (r *roster) put(price uint64, p *party) (left uint64, full bool) {
	at := int32(len(r.slots))
	switch full = true; {
	case p != nil && int(p.n) == r.limit:
		at = p.oldest
	case len(r.slots) == r.window:
		at = r.oldest
	default:
		full = false
		r.slots = append(r.slots, slot{})
	}
	if full {
		left = r.leave(at)
	}
	r.enter(at, price, p)
	return left, full
}

// leave takes slot at out of its lists. It is its party's oldest: the oldest of
// all is, too.
func (r *roster) leave(at int32) (price uint64) {
	s := &r.slots[at]
	if s.prev == nowhere {
		r.oldest = s.next
	} else {
		r.slots[s.prev].next = s.next
	}
	if s.next == nowhere {
		r.newest = s.prev
	} else {
		r.slots[s.next].prev = s.prev
	}
	if p := s.party; p != nil {
		p.oldest = s.ownNext
		if p.n--; p.n == 0 {
			delete(r.parties, p.name)
		}
	}
	return s.price
}

// enter makes slot at the newest, of all and of party p.
func (r *roster) enter(at int32, price uint64, p *party) {
	r.slots[at] = slot{price: price, prev: r.newest, next: nowhere, ownNext: nowhere, party: p}
	if r.newest == nowhere {
		r.oldest = at
	} else {
		r.slots[r.newest].next = at
	}
	r.newest = at
	if p == nil {
		return
	}
	if p.n == 0 {
		r.parties[p.name] = p
		p.oldest = at
	} else {
		r.slots[p.newest].ownNext = at
	}
	p.newest = at
	p.n++
}
