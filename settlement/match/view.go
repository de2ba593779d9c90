package match

import (
	"slices"
	"time"

	"github.com/computemarket/computemarket/admission"
)

// A Level sums up the orders at one price.
type Level struct {
	Price  uint64
	Units  uint64 // that can match now
	Orders int    // those with all their units in flight included
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
	for _, bl := range slices.Backward(b.lanes[lane-1].sides[s-1].blocks) {
		for _, lv := range slices.Backward(bl.levels[:bl.n]) {
			if n <= 0 {
				return dst
			}
			if l := &b.levels[lv]; l.open > 0 {
				dst = append(dst, Level{l.price, l.open, int(l.n)})
				n--
			}
		}
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
// the same priorities again.
func (b *Book) Snapshot() []Resting {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Resting
	for slot := range b.orders {
		if b.orders[slot].left > 0 {
			all = append(all, b.resting(uint32(slot)))
		}
	}
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
	Levels      int // prices at which they wait, both sides together
	Matches     int // in flight: proposed and not yet final
	OldestID    string
	OldestSince time.Time // zero when no order waits
}

// Stats describes a lane. It looks at every slot of the book, some milliseconds
// for a million: fine for a status page, not for every message.
func (b *Book) Stats(lane admission.Lane) Stats {
	if !lane.Valid() {
		return Stats{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ln := &b.lanes[lane-1]
	s := Stats{Bids: ln.counts[Bid-1], Asks: ln.counts[Ask-1], Matches: ln.flying}
	for i := range ln.sides {
		for _, bl := range ln.sides[i].blocks {
			s.Levels += bl.n
		}
	}
	var oldest uint32
	first := ^uint64(0)
	for slot := range b.cold {
		stamp := b.cold[slot].stamp
		if uint8(stamp) == uint8(lane) && stamp < first && b.orders[slot].left > 0 {
			oldest, first = uint32(slot), stamp
		}
	}
	if oldest != 0 {
		s.OldestID = b.cold[oldest].id
		s.OldestSince = b.base.Add(time.Duration(b.cold[oldest].since))
	}
	return s
}
