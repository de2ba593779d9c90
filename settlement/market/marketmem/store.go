// Package marketmem keeps a market's orders in memory, for tests and for markets
// that need not outlive their process.
package marketmem

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/market"
	"github.com/computemarket/computemarket/settlement/match"
)

// Store is a market.Store. New makes it.
type Store struct {
	log receipt.Store

	mu          sync.Mutex
	lease       settlement.Lease
	byID        map[string]*market.Order
	bySeq       []*market.Order // ascending
	inline      map[place][]byte
	assignments map[match.MatchID]market.Assignment
}

// place is that of a slice: in which order, and where.
type place struct {
	order uint64
	slice int
}

var _ market.Store = (*Store)(nil)

// New returns an empty store beside a log of receipts, to which nobody else
// appends. Possible errors: market.ErrOptions, log is nil.
func New(log receipt.Store) (*Store, error) {
	if log == nil {
		return nil, fmt.Errorf("marketmem: %w: no log of receipts", market.ErrOptions)
	}
	return &Store{
		log:         log,
		byID:        map[string]*market.Order{},
		inline:      map[place][]byte{},
		assignments: map[match.MatchID]market.Assignment{},
	}, nil
}

// Acquire implements market.Store.
func (s *Store) Acquire(ctx context.Context) (settlement.Lease, error) {
	if err := ctx.Err(); err != nil {
		return settlement.Lease{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	epoch := s.lease.Epoch + 1
	s.lease = settlement.Lease{Epoch: epoch, Holder: fmt.Sprintf("market %d", epoch)}
	return s.lease, nil
}

// Write implements market.Store.
func (s *Store) Write(ctx context.Context, lease settlement.Lease, b *market.Batch) (market.Written, error) {
	if err := ctx.Err(); err != nil {
		return market.Written{}, err
	}
	if err := b.Validate(); err != nil {
		return market.Written{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := lease.Check(s.lease); err != nil {
		return market.Written{}, err
	}
	for i := range b.Updates {
		if s.at(b.Updates[i].Seq) == nil && !slices.ContainsFunc(b.Orders, func(o market.NewOrder) bool { return o.Seq == b.Updates[i].Seq }) {
			return market.Written{}, fmt.Errorf("%w: an update of order %d, which is not there", market.ErrInvalid, b.Updates[i].Seq)
		}
	}
	w, err := s.append(ctx, b.Receipts)
	if err != nil {
		return w, err
	}
	for i := range b.Orders {
		if old := s.add(&b.Orders[i]); old != nil {
			if w.Existing == nil {
				w.Existing = make([]*market.Order, len(b.Orders))
			}
			w.Existing[i] = old
		}
	}
	for i := range b.Updates {
		s.update(&b.Updates[i])
	}
	for _, a := range b.Assign {
		s.assignments[a.ID] = a
	}
	for _, id := range b.Unassign {
		delete(s.assignments, id)
	}
	return w, nil
}

// append hands all receipts to the log, or, when it would refuse one, none.
func (s *Store) append(ctx context.Context, receipts []receipt.Receipt) (w market.Written, err error) {
	if len(receipts) == 0 {
		return w, nil
	}
	w.Appended = make([]receipt.Status, len(receipts))
	for i := range receipts {
		old, err := s.log.Get(ctx, receipts[i].Key)
		switch {
		case errors.Is(err, receipt.ErrNotFound):
		case errors.Is(err, receipt.ErrCorrupt):
			w.Appended[i] = receipt.Corrupt
		case err != nil:
			return market.Written{}, err
		case !old.SameContent(&receipts[i]):
			w.Appended[i] = receipt.Conflict
		}
	}
	if err := receipt.Refusal(receipts, w.Appended); err != nil {
		return w, err
	}
	w.Appended, err = s.log.Append(ctx, receipts)
	return w, err
}

// add puts an order in, unless its ID is there; it returns the one that is,
// unless that is the same.
func (s *Store) add(n *market.NewOrder) *market.Order {
	if old := s.byID[n.ID]; old != nil {
		if old.Seq == n.Seq && old.Asked == n.Asked {
			return nil
		}
		shown := clone(old)
		return &shown
	}
	o := clone(&n.Order)
	s.byID[o.ID] = &o
	i, _ := slices.BinarySearchFunc(s.bySeq, o.Seq, bySeq)
	s.bySeq = slices.Insert(s.bySeq, i, &o)
	for i, data := range n.Inline {
		if data != nil {
			s.inline[place{o.Seq, i}] = slices.Clone(data)
		}
	}
	return nil
}

func bySeq(o *market.Order, seq uint64) int {
	switch {
	case o.Seq < seq:
		return -1
	case o.Seq > seq:
		return 1
	}
	return 0
}

// at returns the order with the Seq, or nil.
func (s *Store) at(seq uint64) *market.Order {
	if i, ok := slices.BinarySearchFunc(s.bySeq, seq, bySeq); ok {
		return s.bySeq[i]
	}
	return nil
}

func (s *Store) update(u *market.Update) {
	o := s.at(u.Seq)
	if o == nil {
		return // its ID was used before, and the order was not written
	}
	had := o.Outcomes
	o.Progress = u.Progress
	o.Outcomes = had
	for _, outcome := range u.Outcomes {
		i, found := slices.BinarySearchFunc(o.Outcomes, outcome.Slice, func(o market.Outcome, slice int) int { return o.Slice - slice })
		if found {
			o.Outcomes[i] = outcome
		} else {
			o.Outcomes = slices.Insert(o.Outcomes, i, outcome)
		}
		delete(s.inline, place{u.Seq, outcome.Slice})
	}
}

func clone(o *market.Order) market.Order {
	c := *o
	c.Slices = slices.Clone(o.Slices)
	c.Outcomes = slices.Clone(o.Outcomes)
	return c
}

// Order implements market.Store.
func (s *Store) Order(ctx context.Context, id string) (market.Order, error) {
	if err := ctx.Err(); err != nil {
		return market.Order{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.byID[id]; o != nil {
		return clone(o), nil
	}
	return market.Order{}, fmt.Errorf("%w: order %q", market.ErrNotFound, id)
}

// Orders implements market.Store.
func (s *Store) Orders(ctx context.Context, f market.Filter) iter.Seq2[market.Order, error] {
	return func(yield func(market.Order, error) bool) {
		from := f.From
		if f.Newest && from == 0 {
			from = math.MaxUint64
		}
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				yield(market.Order{}, err)
				return
			}
			var o market.Order
			if o, from, more = s.next(f, from); more && !yield(o, nil) {
				return
			}
		}
	}
}

// next finds the next order that the filter lets through, and where to go on.
func (s *Store) next(f market.Filter, from uint64) (_ market.Order, then uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearchFunc(s.bySeq, from, bySeq)
	step := 1
	if f.Newest {
		step = -1
		if !found {
			i--
		}
	}
	for ; i >= 0 && i < len(s.bySeq); i += step {
		if o := s.bySeq[i]; f.Lets(o) {
			return clone(o), o.Seq + uint64(step), true
		}
	}
	return market.Order{}, 0, false
}

// Assignments implements market.Store.
func (s *Store) Assignments(ctx context.Context) iter.Seq2[market.Assignment, error] {
	return func(yield func(market.Assignment, error) bool) {
		s.mu.Lock()
		var list []market.Assignment
		for _, a := range s.assignments {
			list = append(list, a)
		}
		s.mu.Unlock()
		for _, a := range list {
			if err := ctx.Err(); err != nil {
				yield(market.Assignment{}, err)
				return
			}
			if !yield(a, nil) {
				return
			}
		}
	}
}

// Content implements market.Store.
func (s *Store) Content(ctx context.Context, order uint64, slice int) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.inline[place{order, slice}]
	if !ok {
		return nil, fmt.Errorf("%w: slice %d of order %d", market.ErrNotFound, slice, order)
	}
	return slices.Clone(data), nil
}
