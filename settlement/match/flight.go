package match

import "fmt"

// reservation is a match in flight.
type reservation struct {
	number uint64    // 0: free
	orders [2]uint32 // slots, by Side-1; 0: that side is closed
	units  uint64
	from   uint64 // number of the bid's first unit that the receipt names
	named  bool
	lane   uint8
	next   uint32 // free chain
}

// JobID names the match for its receipt, see [Job.String]. Ask for it once the
// match is final and its receipt is about to be written: From counts the units
// of the bid named so far, in the order of these calls. The name of a match
// never changes, and no other match gets it that may have a receipt.
//
// Possible errors: [ErrEnded], when either side is closed.
func (b *Book) JobID(m Match) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.jobID(m)
}

func (b *Book) jobID(m Match) (string, error) {
	r, err := b.both(m)
	if err != nil {
		return "", err
	}
	b.number(r)
	bid, ask := &b.cold[r.orders[Bid-1]], &b.cold[r.orders[Ask-1]]
	return Job{Bid: bid.id, Ask: ask.id, From: r.from, Units: r.units}.String(), nil
}

// number gives the units of a match their numbers among those of the bid.
func (b *Book) number(r *reservation) {
	if !r.named {
		c := &b.cold[r.orders[Bid-1]]
		r.named, r.from = true, c.named
		c.named += r.units
	}
}

// Commit takes the units of a match out of both orders for good: call it when
// the receipt is durable. They count as Filled from then on. An order with
// nothing left is gone.
//
// Possible errors: [ErrEnded], when either side is closed; then nothing
// happens.
func (b *Book) Commit(m Match) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.commit(m)
}

func (b *Book) commit(m Match) error {
	r, err := b.both(m)
	if err != nil {
		return err
	}
	b.number(r)
	b.fill(r, Bid)
	b.fill(r, Ask)
	b.end(m.slot)
	return nil
}

// settle is commit for a receipt that is durable, whatever somebody else did to
// the match meanwhile: a side that is still open has its units filled.
func (b *Book) settle(m Match) error {
	err := b.commit(m)
	if err == nil {
		return nil
	}
	for _, s := range [...]Side{Bid, Ask} {
		if r, open := b.flight(m, s); open == nil {
			b.fill(r, s)
			b.end(m.slot)
		}
	}
	return err
}

// fill ends one side of a match that has a receipt.
func (b *Book) fill(r *reservation, s Side) {
	slot := r.orders[s-1]
	b.cold[slot].filled += r.units
	left := b.orders[slot].left
	b.close(r, s, left-min(left, r.units))
}

// each calls f for 0 to n-1 under the lock, letting others in now and then. One
// lock for each call would make the loop queue behind every sender.
func (b *Book) each(n int, f func(i int)) {
	const turn = hold / 2
	for i := 0; i < n; {
		b.mu.Lock()
		for end := min(i+turn, n); i < end; i++ {
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
// Release only what is certain to have no receipt. While that is in doubt the
// units have to stay in flight. The numbers of a match that has its job id are
// free again, unless a later match of the bid has got its own by then; in that
// case they are left out, and Resume counts them as filled.
//
// Possible errors: [ErrEnded], [ErrSide].
func (b *Book) Release(m Match, s Side) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.release(m, s)
}

func (b *Book) release(m Match, s Side) error {
	r, err := b.flight(m, s)
	if err != nil {
		return err
	}
	b.unname(r, s)
	b.close(r, s, b.orders[r.orders[s-1]].left)
	b.end(m.slot)
	return nil
}

// Drop ends one side of a match and cancels the rest of that order.
//
// Possible errors: [ErrEnded], [ErrSide].
func (b *Book) Drop(m Match, s Side) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.drop(m, s)
}

func (b *Book) drop(m Match, s Side) error {
	r, err := b.flight(m, s)
	if err != nil {
		return err
	}
	b.unname(r, s)
	b.close(r, s, 0)
	b.end(m.slot)
	return nil
}

// giveUp is Drop for whoever tells that an order is over: it is, also if somebody
// else has closed the match, which is [ErrEnded].
func (b *Book) giveUp(m Match, s Side) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.drop(m, s)
	if err != nil && m.book == b {
		id := m.Bid
		if s == Ask {
			id = m.Ask
		}
		_, _ = b.cancel(b.name(id), id) // unless it has gone already
	}
	return err
}

// close ends one side of a match; left is what the order has left then.
func (b *Book) close(r *reservation, s Side, left uint64) {
	slot := r.orders[s-1]
	r.orders[s-1] = 0
	b.set(slot, left, b.orders[slot].held-r.units)
}

// unname takes back the numbers of a match without a receipt, unless there are
// later ones.
func (b *Book) unname(r *reservation, s Side) {
	if s != Bid || !r.named {
		return
	}
	if c := &b.cold[r.orders[Bid-1]]; c.named == r.from+r.units {
		c.named = r.from
	}
}

// end frees a reservation when both its sides are closed.
func (b *Book) end(slot uint32) {
	if r := &b.held[slot]; r.orders == [2]uint32{} {
		b.lanes[r.lane].flying--
		*r = reservation{next: b.freeHeld}
		b.freeHeld = slot
	}
}

// both returns the reservation behind a match of which no side is closed.
func (b *Book) both(m Match) (*reservation, error) {
	if _, err := b.flight(m, Ask); err != nil {
		return nil, err
	}
	return b.flight(m, Bid)
}

// flight returns the reservation behind a match whose side s is still open.
func (b *Book) flight(m Match, s Side) (*reservation, error) {
	if s != Bid && s != Ask {
		return nil, fmt.Errorf("%w: %v", ErrSide, s)
	}
	if m.book != b {
		return nil, fmt.Errorf("%w: it is not of this book", ErrEnded)
	}
	r := &b.held[m.slot]
	if r.number != m.number || r.orders[s-1] == 0 {
		return nil, fmt.Errorf("%w: %v of %q and %q", ErrEnded, s, m.Bid, m.Ask)
	}
	return r, nil
}
