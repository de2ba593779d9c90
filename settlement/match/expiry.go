package match

import (
	"time"

	"github.com/computemarket/computemarket/admission"
)

// An expiry is an instant on the wall clock: it came over a wire. So it is kept
// without a monotonic reading, and compared with one that has none.
type expiry struct {
	at   time.Time
	seq  uint64 // equal times leave in the order they came
	slot uint32
}

func (b *Book) initExpiries(ln *lane) {
	ln.expiries = heap[expiry]{
		before: func(x, y expiry) bool { return x.at.Before(y.at) || x.at.Equal(y.at) && x.seq < y.seq },
		moved:  func(e expiry, i int) { b.orders[e.slot].heap = uint32(i + 1); b.steps++ },
	}
}

// isOver compares on the wall clock.
func isOver(expires, now time.Time) bool { return !expires.Round(0).After(now.Round(0)) }

// Expire takes out every order whose time is over at now, appends each to dst
// as it was, and returns dst. The first to expire comes first. Units in flight
// are not recalled, as with [Book.Cancel]. It follows the wall clock: the
// monotonic reading of now does not count.
func (b *Book) Expire(dst []Resting, now time.Time) []Resting {
	for more := true; more; {
		dst, more = b.expire(dst, now, admission.Lanes[:])
	}
	return dst
}

// expire is Expire for the given lanes, as far as one turn goes.
func (b *Book) expire(dst []Resting, now time.Time, lanes []admission.Lane) (_ []Resting, more bool) {
	now = now.Round(0)
	b.mu.Lock()
	defer b.mu.Unlock()
	for range hold {
		e, ok := b.nextExpiry(lanes)
		if !ok || !isOver(e.at, now) {
			return dst, false
		}
		dst = append(dst, b.resting(e.slot))
		b.set(e.slot, 0, b.orders[e.slot].held)
	}
	return dst, true
}

// NextExpiry returns when the next order expires. It is false when none does.
func (b *Book) NextExpiry() (t time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.nextExpiry(admission.Lanes[:])
	return e.at, ok
}

func (b *Book) nextExpiry(lanes []admission.Lane) (first expiry, ok bool) {
	for _, lane := range lanes {
		h := &b.lanes[lane-1].expiries
		if len(h.items) > 0 && (!ok || h.before(h.items[0], first)) {
			first, ok = h.items[0], true
		}
	}
	return first, ok
}

func (b *Book) pushExpiry(slot uint32, at time.Time) {
	c := &b.cold[slot]
	h := &b.lanes[c.lane()].expiries
	h.push(expiry{at.Round(0), c.seq(), slot})
	if b.orders[slot].heap == 1 {
		b.signal()
	}
}

// renewExpiry notes that an order has a new sequence number.
func (b *Book) renewExpiry(slot uint32) {
	h, i := &b.lanes[b.cold[slot].lane()].expiries, int(b.orders[slot].heap)-1
	h.items[i].seq = b.cold[slot].seq()
	h.fix(i)
}

func (b *Book) dropExpiry(slot uint32) {
	i := int(b.orders[slot].heap) - 1
	b.orders[slot].heap = 0
	b.lanes[b.cold[slot].lane()].expiries.remove(i)
}
