package match

import (
	"cmp"
	"slices"
	"time"

	"github.com/computemarket/computemarket/admission"
)

// naive is the book as one would write it on a napkin: a map of orders, sorted
// anew for every pass. It is the model of the tests and the floor of the
// benchmarks.
type naive struct {
	orders map[string]*naiveOrder
	seq    uint64
	cap    int

	waiting [admission.Industrial + 1]int // by lane
}

type naiveOrder struct {
	Order
	seq     uint64
	held    uint64
	due     time.Duration // it waits until then
	waiting bool
}

func newNaive(capacity int) *naive {
	return &naive{orders: make(map[string]*naiveOrder), cap: capacity}
}

func (n *naive) submit(o Order, now time.Time) (uint64, error) {
	if err := o.validate(false); err != nil {
		return 0, err
	}
	if n.orders[o.ID] != nil {
		return 0, ErrRepeated
	}
	if n.waiting[o.Lane] >= n.cap {
		return 0, ErrFull
	}
	if !o.Expires.IsZero() && !o.Expires.After(now) {
		return 0, ErrExpired
	}
	n.seq++
	n.orders[o.ID] = &naiveOrder{Order: o, seq: n.seq}
	n.waiting[o.Lane]++
	return n.seq, nil
}

// set changes what an order has left, and forgets it when nothing is left and
// nothing in flight.
func (n *naive) set(o *naiveOrder, units uint64) {
	if o.Units > 0 && units == 0 {
		n.waiting[o.Lane]--
	}
	o.Units = units
	if o.Units == 0 && o.held == 0 {
		delete(n.orders, o.ID)
	}
}

func (n *naive) cancel(id string) (uint64, error) {
	o := n.orders[id]
	if o == nil || o.Units == 0 {
		return 0, ErrNotFound
	}
	units := open(o.Units, o.held)
	n.set(o, 0)
	return units, nil
}

func (n *naive) replace(id string, units, price uint64) error {
	o := n.orders[id]
	if o == nil || o.Units == 0 {
		return ErrNotFound
	}
	if err := validTerms(o.Side, units, price); err != nil {
		return err
	}
	if price != o.Price || units > o.Units {
		n.seq++
		o.seq = n.seq
	}
	o.Price = price
	n.set(o, units)
	return nil
}

func (n *naive) expire(now time.Time) (ids []string) {
	var due []*naiveOrder
	for _, o := range n.orders {
		if o.Units > 0 && !o.Expires.IsZero() && !o.Expires.After(now) {
			due = append(due, o)
		}
	}
	slices.SortFunc(due, func(x, y *naiveOrder) int {
		return cmp.Or(x.Expires.Compare(y.Expires), cmp.Compare(x.seq, y.seq))
	})
	for _, o := range due {
		ids = append(ids, o.ID)
		n.set(o, 0)
	}
	return ids
}

func (o *naiveOrder) open() uint64 {
	if o.waiting || o.held > o.Units {
		return 0
	}
	return o.Units - o.held
}

// side returns one side's orders with open units in order of priority.
func (n *naive) side(lane admission.Lane, s Side) (os []*naiveOrder) {
	for _, o := range n.orders {
		if o.Lane == lane && o.Side == s && o.open() > 0 {
			os = append(os, o)
		}
	}
	slices.SortFunc(os, func(x, y *naiveOrder) int {
		better := cmp.Compare(x.Price, y.Price)
		if s == Bid {
			better = -better
		}
		return cmp.Or(better, cmp.Compare(x.seq, y.seq))
	})
	return os
}

func (n *naive) propose(lane admission.Lane, max int) (ms []Match) {
	asks := n.side(lane, Ask)
	for _, b := range n.side(lane, Bid) {
		for _, a := range asks {
			if a.Price > b.Price || b.open() == 0 {
				break
			}
			if a.open() == 0 || a.Account == b.Account {
				continue
			}
			if len(ms) == max {
				return ms
			}
			units := min(b.open(), a.open())
			b.held += units
			a.held += units
			ms = append(ms, Match{
				Lane: lane, Bid: b.ID, Ask: a.ID, Buyer: b.Account, Provider: a.Account,
				Units: units, Price: a.Price,
			})
		}
		for len(asks) > 0 && asks[0].open() == 0 {
			asks = asks[1:]
		}
	}
	return ms
}

func (n *naive) commit(m Match) {
	for _, id := range []string{m.Bid, m.Ask} {
		o := n.orders[id]
		o.held -= m.Units
		o.Filled += m.Units
		n.set(o, o.Units-min(o.Units, m.Units))
	}
}

// giveBack releases a bid and has it wait.
func (n *naive) giveBack(m Match, due time.Duration) {
	o := n.orders[m.Bid]
	o.held -= m.Units
	o.due, o.waiting = max(o.due, due), true
	n.set(o, o.Units)
}

func (n *naive) wake(lane admission.Lane, now time.Duration) {
	for _, o := range n.orders {
		if o.Lane == lane && o.waiting && o.due <= now {
			o.due, o.waiting = 0, false
		}
	}
}

func (n *naive) release(m Match, s Side) {
	o := n.orders[m.order(s)]
	o.held -= m.Units
	n.set(o, o.Units)
}

func (n *naive) drop(m Match, s Side) {
	o := n.orders[m.order(s)]
	o.held -= m.Units
	n.set(o, 0)
}

func (m *Match) order(s Side) string {
	if s == Bid {
		return m.Bid
	}
	return m.Ask
}
