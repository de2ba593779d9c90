package market

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/settlement/match"
)

// A RefusedError is the answer to a job that admission does not let in.
type RefusedError struct{ Decision admission.Decision }

func (e *RefusedError) Error() string {
	if e.Decision.RetryAfter > 0 {
		return fmt.Sprintf("market: not admitted: %v, try again in %v", e.Decision.Code, e.Decision.RetryAfter.Round(time.Millisecond))
	}
	return fmt.Sprintf("market: not admitted: %v", e.Decision.Code)
}

// Submit takes a job: it is durable when Submit returns it. The same job again is
// no second one, and is returned as it stands. Possible errors: [ErrInvalid];
// [ErrRepeated]; [ErrLimit]; a *RefusedError; [ErrStandby]; [ErrUnknown], where
// ctx ended or the store did not answer: submit it again; those of the store.
func (m *Market) Submit(ctx context.Context, j Job) (Order, error) {
	n, err := j.order(m.now())
	if err != nil {
		return Order{}, err
	}
	return m.take(ctx, &n)
}

// Offer takes an offer, as Submit does a job.
func (m *Market) Offer(ctx context.Context, o Offer) (Order, error) {
	n, err := o.order(m.now())
	if err != nil {
		return Order{}, err
	}
	return m.take(ctx, &n)
}

func (m *Market) now() time.Time {
	if m.o.Clock == nil {
		return time.Now()
	}
	return m.o.Clock.Now()
}

// take reserves the id in memory, has the order written, and lets it in.
func (m *Market) take(ctx context.Context, n *NewOrder) (Order, error) {
	for {
		l, mine, err := m.reserve(n)
		if err != nil {
			return Order{}, err
		}
		if !mine {
			o, again, err := m.same(ctx, l, n)
			if again {
				continue // the one that had the id was not written
			}
			return o, err
		}
		if err := m.admit(ctx, l); err != nil {
			m.mu.Lock()
			m.drop(l)
			m.mu.Unlock()
			return Order{}, err
		}
		ch := newChange()
		ch.order = l
		if err := m.put(ctx, ch); err != nil {
			return Order{}, err
		}
		if ch.existing != nil {
			return repeated(ch.existing, n)
		}
		return m.Order(ctx, n.ID)
	}
}

// repeated answers an id that was used before.
func repeated(old *Order, n *NewOrder) (Order, error) {
	if old.State == 0 {
		return Order{}, fmt.Errorf("%w: the order %q", ErrCorrupt, n.ID)
	}
	if old.Asked != n.Asked {
		return Order{}, fmt.Errorf("%w: %q", ErrRepeated, n.ID)
	}
	return *old, nil
}

// reserve takes the id. It returns the order that has it already, if one does.
func (m *Market) reserve(n *NewOrder) (l *live, mine bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.leading {
		return nil, false, ErrStandby
	}
	if l := m.open[n.ID]; l != nil {
		return l, false, nil
	}
	l = &live{Order: n.Order, fresh: n, changed: make(chan struct{})}
	for i := range n.Slices {
		l.bytes += n.Slices[i].Size
	}
	if err := m.account(n.Account).check(l, &m.o.Limits); err != nil {
		return nil, false, err
	}
	if m.classes[n.Class] == nil && len(m.classes) >= m.o.MaxClasses {
		return nil, false, fmt.Errorf("%w: %d classes have open orders", ErrLimit, m.o.MaxClasses)
	}
	m.open[n.ID] = l
	m.account(n.Account).add(l, 1)
	m.hold(l)
	return l, true, nil
}

// same answers a request whose id an open order has: again says that it was not
// written after all.
func (m *Market) same(ctx context.Context, l *live, n *NewOrder) (o Order, again bool, err error) {
	m.mu.Lock()
	fresh, asked, changed := l.fresh != nil, l.Asked, l.changed
	o = l.copy()
	m.mu.Unlock()
	if asked != n.Asked {
		return Order{}, false, fmt.Errorf("%w: %q", ErrRepeated, n.ID)
	}
	if !fresh {
		return o, false, nil
	}
	select { // until it is written, nothing can be said
	case <-changed:
		return Order{}, true, nil
	case <-ctx.Done():
		return Order{}, false, fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

// admit asks admission and looks for the contents.
func (m *Market) admit(ctx context.Context, l *live) error {
	if err := m.present(ctx, l); err != nil {
		return err
	}
	if m.o.Admission == nil || l.Side != bidSide {
		return nil
	}
	d := m.o.Admission.Decide(m.request(&l.Order))
	if d.Code != admission.Admitted {
		return &RefusedError{d}
	}
	m.mu.Lock()
	l.lease = d.Lease
	m.mu.Unlock()
	return nil
}

// request is what an order asks of admission: a shard for each unit.
func (m *Market) request(o *Order) admission.Request {
	return admission.Request{
		JobID: o.ID, Buyer: o.Account, Provider: o.Class, Lane: o.Lane, Shards: o.Units, Duration: m.o.Duration,
	}
}

const bidSide = match.Bid

func isExpired(err error) bool { return errors.Is(err, match.ErrExpired) }

// Cancel ends what of an order is not in flight, durably. What is in flight may
// still become final; the order is over when nothing is. It returns the order as
// it stands then, and nothing happens to one that is over. Possible errors:
// [ErrNotFound], [ErrStandby], [ErrUnknown], those of the store.
func (m *Market) Cancel(ctx context.Context, id string) (Order, error) {
	m.mu.Lock()
	l, leading := m.open[id], m.leading
	var c *class
	if l != nil {
		c = l.class
	}
	m.mu.Unlock()
	switch {
	case !leading:
		return Order{}, ErrStandby
	case l == nil || c == nil:
		return m.Order(ctx, id)
	}
	ch := newChange()
	ch.ends = []finis{{id: id, slice: -1, state: Cancelled}}
	for r := range l.resting() {
		units, err := c.book.Cancel(r.ID)
		if _, slice := named(r.ID); slice >= 0 && err == nil && units > 0 {
			ch.ends = append(ch.ends, finis{id: id, slice: slice, state: Cancelled})
		}
	}
	if err := m.put(ctx, ch); err != nil {
		return Order{}, err
	}
	return m.Order(ctx, id)
}

// Order returns an order as it stands. Possible errors: [ErrNotFound], those of
// the store.
func (m *Market) Order(ctx context.Context, id string) (Order, error) {
	m.mu.Lock()
	if l := m.open[id]; l != nil && l.fresh == nil {
		defer m.mu.Unlock()
		return l.copy(), nil
	}
	m.mu.Unlock()
	return m.store.Order(ctx, id)
}

// Orders lists orders, see Store.Orders. It works on standby too.
func (m *Market) Orders(ctx context.Context, f Filter) iter.Seq2[Order, error] {
	return m.store.Orders(ctx, f)
}

// Watch yields an order as it stands, and again whenever it has changed, until it
// is over. Errors as of Order and Wait; the first ends it.
func (m *Market) Watch(ctx context.Context, id string) iter.Seq2[Order, error] {
	return func(yield func(Order, error) bool) {
		m.mu.Lock()
		l := m.open[id]
		m.mu.Unlock()
		if l == nil {
			o, err := m.store.Order(ctx, id)
			if err == nil && !o.State.Over() {
				err = ErrStandby // another market has it
			}
			yield(o, err)
			return
		}
		for {
			m.mu.Lock()
			o, changed, fresh, ended := l.copy(), l.changed, l.fresh != nil, m.open[id] != l
			m.mu.Unlock()
			switch {
			case ended && fresh: // it was never written
				yield(Order{}, fmt.Errorf("%w: order %q", ErrNotFound, id))
				return
			case ended && !o.State.Over():
				yield(o, ErrStandby)
				return
			case !fresh && (!yield(o, nil) || ended):
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(Order{}, ctx.Err())
				return
			}
		}
	}
}

// Wait returns the order when it is over. Possible errors: those of Order;
// [ErrStandby], where this market does not work; that of ctx.
func (m *Market) Wait(ctx context.Context, id string) (o Order, err error) {
	for o, err = range m.Watch(ctx, id) {
	}
	return o, err
}
