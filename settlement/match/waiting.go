package match

import (
	"math"
	"time"

	"github.com/computemarket/computemarket/admission"
)

// A sleeper is a bid that waits because a match of it failed. When it is due is
// a time that has to pass, not an instant: see elapsed.
type sleeper struct {
	due  time.Duration
	slot uint32
}

func (b *Book) initSleepers(ln *lane) {
	ln.sleepers = heap[sleeper]{
		before: func(x, y sleeper) bool { return x.due < y.due },
		moved:  func(e sleeper, i int) { b.orders[e.slot].next = uint32(i); b.steps++ },
	}
}

// giveBack releases the bid of a match that failed, and has all of it wait: if
// only the matched units did, the rest would meet the same ask at once. It waits
// also if somebody else has closed the match, which is [ErrEnded].
func (b *Book) giveBack(m Match, due time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.release(m, Bid)
	if slot, ok := b.lookup(m.Bid); ok && m.book == b {
		b.wait(slot, due)
	}
	return err
}

func (b *Book) wait(slot uint32, due time.Duration) {
	p, c := &b.orders[slot], &b.cold[slot]
	h := &b.lanes[c.lane()].sleepers
	if c.waiting() {
		i := int(p.next)
		h.items[i].due = max(h.items[i].due, due)
		h.fix(i)
		return
	}
	if p.level != 0 {
		b.unlink(slot)
	}
	c.stamp |= isWaiting
	h.push(sleeper{due, slot})
}

// wake ends the waiting of the bids of a lane that are due, as far as one turn
// goes.
func (b *Book) wake(lane admission.Lane, now time.Duration) (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := &b.lanes[lane-1].sleepers
	for range hold {
		if len(h.items) == 0 || h.items[0].due > now {
			return false
		}
		slot := h.items[0].slot
		b.dropSleeper(slot)
		if b.openNow(slot) > 0 {
			b.setAside(slot)
		}
	}
	return true
}

func (b *Book) dropSleeper(slot uint32) {
	b.cold[slot].stamp &^= isWaiting
	b.lanes[b.cold[slot].lane()].sleepers.remove(int(b.orders[slot].next))
}

// nextWake returns when the next bid is due.
func (b *Book) nextWake() (due time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	due = math.MaxInt64
	for i := range b.lanes {
		if items := b.lanes[i].sleepers.items; len(items) > 0 {
			due, ok = min(due, items[0].due), true
		}
	}
	return due, ok
}
