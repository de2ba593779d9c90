package match

import "math"

// A side is the bids or the asks of a lane. It knows two orders at any moment:
// the best that can match, and the best that can match and is not of a given
// account; for an account does not trade with itself, and may have any number of
// orders in front.
//
// Invariant: an order that can match stands either in the queue or aside.
//
//   - The queue is a ladder of price levels, each first in, first out, so its
//     head is its best. Nobody walks along it: an order leaves the queue when it
//     has nothing to match, and when it is in the way, being of the wrong
//     account, it is set aside.
//   - What is set aside is grouped by account. Each group is a heap by priority,
//     and the groups form a heap by their best orders. The best of another
//     account is thus the root's, or that of one of the root's two children.
//   - An order that is set aside never returns to the queue by itself. So each
//     is in the way at most once for each time it was submitted or replaced, and
//     whoever has a million of them in the way has paid with a million messages.
//
// Priority is a key, the price or for asks its complement, so that the greater
// is the better, and then the sequence number. The model is naive in the tests,
// which sorts all orders for each pass and tries every pair.
type side struct {
	flip   uint64 // key = price ^ flip: 0 for bids, all ones for asks
	orders int    // that rest, wherever they stand
	queue  ladder
	aside  ladder // the levels of what is set aside, to be counted and shown
	byName map[string]uint32
	top    heap[uint32] // of groups
	twice  int          // prices with a level on both ladders
}

func (s *side) ladder(aside bool) *ladder {
	if aside {
		return &s.aside
	}
	return &s.queue
}

// onOther reports whether the ladder that is not asked about has a key too.
func (s *side) onOther(key uint64, aside bool) bool {
	other := s.ladder(!aside)
	if len(other.blocks) == 0 {
		return false
	}
	_, _, ok := other.find(key)
	return ok
}

// group is the orders of one account that are set aside, on one side of a lane.
type group struct {
	account string
	orders  heap[rank]
	at      int // position in side.top; chains free groups
}

// rank is an order's place in the order of priority.
type rank struct {
	key, seq uint64
	slot     uint32
}

func (r rank) before(s rank) bool { return r.key > s.key || r.key == s.key && r.seq < s.seq }

func (b *Book) initSide(s *side, which Side) {
	if which == Ask {
		s.flip = math.MaxUint64
	}
	s.byName = make(map[string]uint32)
	s.top = heap[uint32]{
		before: func(x, y uint32) bool { return b.groups[x].orders.items[0].before(b.groups[y].orders.items[0]) },
		moved:  func(g uint32, i int) { b.groups[g].at = i; b.steps++ },
	}
}

// bestKey returns the key of the best order.
func (s *side) bestKey() (key uint64, ok bool) {
	key, ok = s.queue.best()
	if len(s.aside.blocks) > 0 {
		k, _ := s.aside.best()
		return max(key, k), true
	}
	return key, ok
}

// head returns the best order of the queue.
func (b *Book) head(s *side) (r rank) {
	n := len(s.queue.blocks)
	if n == 0 {
		return rank{}
	}
	bl := s.queue.blocks[n-1]
	slot := b.levels[bl.levels[bl.n-1]].head
	return rank{bl.keys[bl.n-1], b.cold[slot].seq(), slot}
}

// best returns the best order of a side; slot 0 is none.
func (b *Book) best(s *side) rank {
	r := b.head(s)
	if len(s.top.items) > 0 {
		if a := b.groups[s.top.items[0]].orders.items[0]; r.slot == 0 || a.before(r) {
			return a
		}
	}
	return r
}

// bestAsideNotOf returns the best order that is set aside and of another account.
func (b *Book) bestAsideNotOf(s *side, account string) (r rank) {
	for _, g := range s.top.items[:min(3, len(s.top.items))] {
		if b.groups[g].account == account {
			continue
		}
		if a := b.groups[g].orders.items[0]; r.slot == 0 || a.before(r) {
			r = a
		}
	}
	return r
}

// bestNotOf returns the best order of another account than the one given, if its
// key is worst or better. It sets aside what is in the way, at most as many as
// there are steps; done is false when those did not do.
func (b *Book) bestNotOf(s *side, account string, worst uint64, steps *int) (r rank, done bool) {
	for {
		r = b.bestAsideNotOf(s, account)
		q := b.head(s)
		if q.slot == 0 || r.slot != 0 && r.before(q) {
			break
		}
		if b.cold[q.slot].account != account {
			r = q
			break
		}
		if q.key < worst {
			break // what is behind it is no better
		}
		if *steps <= 0 {
			return rank{}, false
		}
		*steps--
		b.unlink(q.slot)
		b.setAside(q.slot)
	}
	if r.key < worst {
		r = rank{}
	}
	return r, true
}

// setAside gives an order that stands nowhere its place among those of its
// account.
func (b *Book) setAside(slot uint32) {
	p, c := &b.orders[slot], &b.cold[slot]
	ln := &b.lanes[c.lane()]
	s := &ln.sides[c.side()]
	key := p.price ^ s.flip
	at, lv, ok := s.aside.find(key)
	if !ok {
		lv = b.addLevel(s, at, level{price: p.price, lane: c.lane(), side: c.side(), aside: true})
	}
	p.level = lv
	l := &b.levels[lv]
	l.n++
	l.open += open(p.left, p.held)
	g, ok := s.byName[c.account]
	if !ok {
		g = b.newGroup(c.account)
		s.byName[c.account] = g
	}
	p.next = g
	gr := &b.groups[g]
	gr.orders.push(rank{key, c.seq(), slot})
	if !ok {
		s.top.push(g)
	} else {
		s.top.fix(gr.at)
	}
	b.touch(ln)
}

// leaveGroup takes an order that is set aside out of its group.
func (b *Book) leaveGroup(slot uint32) {
	p, c := &b.orders[slot], &b.cold[slot]
	s := &b.lanes[c.lane()].sides[c.side()]
	g := p.next
	gr := &b.groups[g]
	if len(gr.orders.items) > 1 {
		gr.orders.remove(int(p.prev))
		s.top.fix(gr.at)
		return
	}
	s.top.remove(gr.at)
	delete(s.byName, gr.account)
	gr.account, gr.orders.items = "", gr.orders.items[:0]
	if cap(gr.orders.items) > hold { // a crowd's; a few places are kept for the next account
		gr.orders.items = nil
	}
	gr.at, b.freeGroup = int(b.freeGroup), g
}

func (b *Book) newGroup(account string) (g uint32) {
	if g = b.freeGroup; g != 0 {
		b.freeGroup = uint32(b.groups[g].at)
		b.groups[g].account = account
		return g
	}
	b.groups = append(b.groups, group{account: account, orders: heap[rank]{
		before: rank.before,
		moved:  func(r rank, i int) { b.orders[r.slot].prev = uint32(i); b.steps++ },
	}})
	return uint32(len(b.groups) - 1)
}
