package match

import (
	"math"
	"slices"
	"time"

	"github.com/computemarket/computemarket/admission"
)

// A Level sums up the orders at one price.
type Level struct {
	Price  uint64
	Units  uint64 // that can match now
	Orders int    // that they belong to
}

// Best returns the best price at which a lane has open units: the highest bid
// or the lowest ask. It is false when there is none.
func (b *Book) Best(lane admission.Lane, s Side) (price uint64, ok bool) {
	var one [1]Level
	if len(b.Depth(one[:0], lane, s, 1)) == 0 {
		return 0, false
	}
	return one[0].Price, true
}

// Depth appends up to n price levels with open units to dst, best price first,
// and returns it.
func (b *Book) Depth(dst []Level, lane admission.Lane, s Side, n int) []Level {
	if !lane.Valid() || s != Bid && s != Ask {
		return dst
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	sd := &b.lanes[lane-1].sides[s-1]
	queue, aside := sd.queue.walk(), sd.aside.walk()
	for ; n > 0 && (queue.ok() || aside.ok()); n-- {
		var l Level
		key := max(queue.key(), aside.key())
		for _, w := range [...]*walk{&queue, &aside} {
			if w.ok() && w.key() == key {
				lv := &b.levels[w.level()]
				l = Level{lv.price, l.Units + lv.open, l.Orders + int(lv.n)}
				w.next()
			}
		}
		dst = append(dst, l)
	}
	return dst
}

// Get returns an order as it stands. It is false when the order is not in the
// book: never sent, filled, cancelled or expired.
func (b *Book) Get(id string) (Resting, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	slot, ok := b.lookup(id)
	if !ok {
		return Resting{}, false
	}
	return b.resting(slot), true
}

// Snapshot returns every order of both lanes as of one moment, in the order of
// their sequence numbers. Submitted in that order to an empty book, they have
// the same priorities again. The book stands still while they are copied, some
// tens of milliseconds for a million.
func (b *Book) Snapshot() []Resting {
	b.mu.Lock()
	var all []Resting
	for slot := range b.orders {
		if slot > 0 && b.orders[slot].left > 0 {
			all = append(all, b.resting(uint32(slot)))
		}
	}
	b.mu.Unlock()
	slices.SortFunc(all, func(x, y Resting) int {
		if x.Seq < y.Seq {
			return -1
		}
		return 1
	})
	return all
}

// Stats describe one lane of a book.
type Stats struct {
	Bids, Asks  int // orders waiting
	Levels      int // prices at which some of them can match, both sides together
	Matches     int // in flight: proposed and not yet final
	OldestID    string
	OldestSince time.Time // zero when no order waits
}

// Stats describes a lane. To find the oldest order it looks at every slot of the
// book, some milliseconds for a million, and lets others in meanwhile: fine for
// a status page, not for every message.
func (b *Book) Stats(lane admission.Lane) Stats {
	if !lane.Valid() {
		return Stats{}
	}
	s := b.counts(lane)
	oldest := uint64(math.MaxUint64)
	const turn = 16 * hold // a look is cheaper than a move
	for from, more := 1, true; more; from += turn {
		b.mu.Lock()
		for slot := from; slot < min(from+turn, len(b.cold)); slot++ {
			c := &b.cold[slot]
			if c.lane() == uint8(lane-1) && c.seq() < oldest && b.orders[slot].left > 0 {
				oldest, s.OldestID, s.OldestSince = c.seq(), c.id, b.sinceOf(c)
			}
		}
		more = from+turn < len(b.cold)
		b.mu.Unlock()
	}
	return s
}

func (b *Book) counts(lane admission.Lane) Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	ln := &b.lanes[lane-1]
	s := Stats{Bids: ln.sides[Bid-1].orders, Asks: ln.sides[Ask-1].orders, Matches: ln.flying}
	for i := range ln.sides {
		sd := &ln.sides[i]
		s.Levels += sd.queue.count() + sd.aside.count() - sd.twice
	}
	return s
}
