package match

// An order that rests in the book, that is, with units left, stands in one of
// three places:
//
//   - in the queue at its price, if something of it can match,
//   - set aside, likewise, but off the queue (see side),
//   - nowhere, if nothing of it can match: all its units are in flight, or it
//     waits because a match of it failed.
//
// Whoever changes its units does so through set, which moves it.

// level is all orders at one price that stand in the queue, or all that are set
// aside.
type level struct {
	price      uint64
	open       uint64 // units that can match now
	head, tail uint32 // of the queue; head also chains free levels
	n          uint32 // orders
	lane, side uint8  // Lane-1, Side-1
	aside      bool
}

// openNow is what can match of an order now.
func (b *Book) openNow(slot uint32) uint64 {
	if b.cold[slot].waiting() {
		return 0
	}
	return open(b.orders[slot].left, b.orders[slot].held)
}

// enqueue puts an order that stands nowhere at the end of the queue at its
// price, and tells the Loop if it meets the other side.
func (b *Book) enqueue(slot uint32, lane, sd uint8) {
	p := &b.orders[slot]
	ln := &b.lanes[lane]
	s := &ln.sides[sd]
	key := p.price ^ s.flip
	at, lv, ok := s.queue.find(key)
	if !ok {
		lv = b.addLevel(s, at, level{price: p.price, lane: lane, side: sd})
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
	// Seen from either side, the two keys cross when they sum to 2^64-1 or
	// more; as a comparison that does not overflow:
	if other, ok := ln.sides[1-sd].bestKey(); ok && key >= ^other {
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

// unlink takes an order from where it stands, and its level too if it was the
// last there.
func (b *Book) unlink(slot uint32) {
	p := &b.orders[slot]
	lv := p.level
	l := &b.levels[lv]
	p.level = 0
	if l.aside {
		b.leaveGroup(slot)
	}
	if l.n == 1 {
		b.removeLevel(lv)
		return
	}
	l.n--
	l.open -= open(p.left, p.held)
	if l.aside {
		return
	}
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

// set changes what an order has left and in flight. While any of it can match,
// it keeps its place; when it can again, it is set aside, where it stands in
// order without having to be put back into a queue.
func (b *Book) set(slot uint32, left, held uint64) {
	p := &b.orders[slot]
	rested, is := p.left > 0, open(left, held)
	switch {
	case p.level != 0 && is > 0:
		// No pass is called for: some of it could match before, so whatever crosses
		// it has been seen.
		b.levels[p.level].open += is - open(p.left, p.held)
	case p.level != 0:
		b.unlink(slot)
	}
	p.left, p.held = left, held
	if rested && left == 0 {
		b.leave(slot)
	}
	if p.level == 0 && is > 0 && !b.cold[slot].waiting() {
		b.setAside(slot)
	}
	if left == 0 && held == 0 {
		b.index.remove(b.cell(slot))
		b.free(slot)
	}
}

// leave takes an order that rested from wherever it stands, but leaves it in
// the index.
func (b *Book) leave(slot uint32) {
	p := &b.orders[slot]
	if p.level != 0 { // this tells of it without a look at the other line
		l := &b.levels[p.level]
		b.lanes[l.lane].sides[l.side].orders--
		b.unlink(slot)
	} else {
		c := &b.cold[slot]
		b.lanes[c.lane()].sides[c.side()].orders--
		if c.waiting() {
			b.dropSleeper(slot)
		}
	}
	if p.heap != 0 {
		b.dropExpiry(slot)
	}
}

// addLevel puts a new level on one of the ladders, where find said it belongs.
func (b *Book) addLevel(s *side, at spot, l level) (lv uint32) {
	if lv = b.freeLevel; lv != 0 {
		b.freeLevel = b.levels[lv].head
	} else {
		b.levels = append(b.levels, level{})
		lv = uint32(len(b.levels) - 1)
	}
	b.levels[lv] = l
	key := l.price ^ s.flip
	s.ladder(l.aside).insert(at, key, lv)
	if s.onOther(key, l.aside) {
		s.twice++
	}
	return lv
}

// removeLevel takes an empty level off its ladder.
func (b *Book) removeLevel(lv uint32) {
	l := &b.levels[lv]
	s := &b.lanes[l.lane].sides[l.side]
	key := l.price ^ s.flip
	ld := s.ladder(l.aside)
	at, _, _ := ld.find(key)
	ld.remove(at)
	if s.onOther(key, l.aside) {
		s.twice--
	}
	b.levels[lv] = level{head: b.freeLevel}
	b.freeLevel = lv
}
