package market

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

// usage is what an account has open.
type usage struct {
	orders int
	bytes  int64
}

func (l *live) count() int { return max(1, len(l.Slices)) }

func (u *usage) check(l *live, most *Limits) error {
	switch {
	case l.count() > most.Orders-u.orders:
		return fmt.Errorf("%w: %q has %d orders open, this has %d, the most is %d", ErrLimit, l.Account, u.orders, l.count(), most.Orders)
	case l.bytes > most.Bytes-u.bytes:
		return fmt.Errorf("%w: %q has slices of %d bytes open, this has %d, the most is %d", ErrLimit, l.Account, u.bytes, l.bytes, most.Bytes)
	}
	return nil
}

func (u *usage) add(l *live, sign int) {
	u.orders += sign * l.count()
	u.bytes += int64(sign) * l.bytes
}

// account returns what an account has open. m.mu is held.
func (m *Market) account(name string) *usage {
	u := m.accounts[name]
	if u == nil {
		u = new(usage)
		m.accounts[name] = u
	}
	return u
}

// classOf returns the class of an order, and begins one if need be. m.mu is held.
func (m *Market) classOf(l *live) (*class, error) {
	c := m.classes[l.Class]
	if c == nil {
		c = &class{m: m, name: l.Class, book: mustBook()}
		var err error
		if c.loop, err = match.NewLoop(c.book, c, m.o.loop(c)); err != nil {
			return nil, err
		}
		ctx, stop := context.WithCancel(m.running)
		c.stop = stop
		m.classes[l.Class] = c
		m.loops.Go(func() { c.loop.Run(ctx) })
	}
	c.orders++
	l.class = c
	return c, nil
}

// drop forgets an order that is over, or was not written. m.mu is held.
func (m *Market) drop(l *live) {
	if m.open[l.ID] != l {
		return
	}
	delete(m.open, l.ID)
	close(l.changed)
	l.changed = make(chan struct{})
	u := m.account(l.Account)
	if u.add(l, -1); *u == (usage{}) {
		delete(m.accounts, l.Account)
	}
	if m.o.Admission != nil {
		m.o.Admission.Release(l.lease)
	}
	if c := l.class; c != nil {
		if c.orders--; c.orders == 0 {
			delete(m.classes, c.name)
			c.stop()
		}
	}
	m.letGo(l)
}

// lookup returns an open order.
func (m *Market) lookup(id string) *Order {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.open[id]
	if l == nil || l.fresh != nil {
		return nil
	}
	o := l.copy()
	return &o
}

func (l *live) copy() Order {
	o := l.Order
	o.Slices, o.Outcomes = slices.Clone(l.Slices), slices.Clone(l.Outcomes)
	return o
}

func sortBySeq(all []*live) {
	slices.SortFunc(all, func(a, b *live) int { return cmp.Compare(a.Seq, b.Seq) })
}

// proved keeps the proof of a match until its receipt is written, or forgets it.
func (m *Market) proved(bid string, p Proof) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p == (Proof{}) {
		delete(m.proofs, bid)
	} else if _, slice := named(bid); slice >= 0 {
		m.proofs[bid] = p
	}
}

// give ends the order that rests in a book under a name, as soon as nothing of it
// is in flight.
func (m *Market) give(_ *class, name string, s State, reason string) {
	id, slice := named(name)
	ch := newChange()
	ch.ends = []finis{{id, slice, s, reason}}
	m.add(ch)
}

// endAll ends all that is left of an order.
func (m *Market) endAll(l *live, s State, reason string) {
	ch := newChange()
	if len(l.Slices) == 0 {
		ch.ends = append(ch.ends, finis{l.ID, -1, s, reason})
	}
	for r := range l.resting() {
		if _, slice := named(r.ID); slice >= 0 {
			ch.ends = append(ch.ends, finis{l.ID, slice, s, reason})
		}
	}
	m.add(ch)
}

// settled looks whether two orders are over, now that a match of theirs is.
func (m *Market) settled(c *class, bid, ask string) {
	m.proved(bid, Proof{})
	ch := newChange()
	m.mu.Lock()
	id, slice := named(bid)
	if l := m.open[id]; l != nil && l.Ending != 0 {
		if slice < 0 {
			ch.check = append(ch.check, id)
		} else if c.book.InFlight(bid) == 0 && !l.hasOutcome(&Progress{}, slice) {
			ch.ends = append(ch.ends, finis{id, slice, l.Ending, l.Reason})
		}
	}
	if l := m.open[ask]; l != nil && l.Ending != 0 {
		ch.check = append(ch.check, ask)
	}
	m.mu.Unlock()
	if len(ch.check)+len(ch.ends) > 0 {
		m.add(ch)
	}
}

// content is a content that open orders need, or that was kept for one to come.
type content struct {
	orders int
	kept   time.Time // by Keep, for an order to come; zero: for none
}

// keptFor is how long a content waits for its order.
const keptFor = time.Hour

func (c *content) needed() bool { return c.orders > 0 || time.Since(c.kept) < keptFor }

// hold notes that an order needs its contents. m.mu is held.
func (m *Market) hold(l *live) {
	for i := range l.Slices {
		if s := &l.Slices[i]; !s.Inline {
			c := m.contentOf(s.Content)
			c.orders++
			c.kept = time.Time{}
		}
	}
}

func (m *Market) contentOf(h workload.Hash) *content {
	c := m.kept[h]
	if c == nil {
		c = new(content)
		m.kept[h] = c
	}
	return c
}

// letGo notes that an order needs its contents no more. m.mu is held.
func (m *Market) letGo(l *live) {
	for i := range l.Slices {
		if s := &l.Slices[i]; !s.Inline {
			m.contentOf(s.Content).orders--
			m.idle = true
		}
	}
}

// removeContents removes what was needed and is no more.
func (m *Market) removeContents(ctx context.Context) error {
	m.mu.Lock()
	var idle []workload.Hash
	if m.idle {
		for h, c := range m.kept {
			if !c.needed() {
				idle = append(idle, h)
			}
		}
		m.idle = false
	}
	m.mu.Unlock()
	for _, h := range idle {
		if err := m.removeContent(ctx, h); err != nil {
			m.o.Logger.Warn("market: a content that nobody needs is not removed", "content", h, "err", err)
		}
	}
	return nil
}

func (m *Market) removeContent(ctx context.Context, h workload.Hash) error {
	m.keeping.Lock() // none comes meanwhile
	defer m.keeping.Unlock()
	m.mu.Lock()
	c := m.kept[h]
	needed := c != nil && c.needed()
	if !needed {
		delete(m.kept, h)
	}
	m.mu.Unlock()
	if needed {
		return nil
	}
	return m.o.Contents.Remove(ctx, courier.Hash(h))
}

// keep commits a content that an order to come will need.
func (m *Market) keep(w courier.BundleWriter, h workload.Hash) error {
	m.keeping.Lock()
	defer m.keeping.Unlock()
	m.mu.Lock()
	leading := m.leading
	if leading {
		m.contentOf(h).kept = time.Now()
	}
	m.mu.Unlock()
	if !leading {
		return ErrStandby
	}
	return w.Commit(courier.Hash(h))
}

// sweep removes the contents that no open order needs.
func (m *Market) sweep(ctx context.Context) error {
	if m.o.Contents == nil {
		return nil
	}
	for h, err := range m.o.Contents.All(ctx) {
		if err != nil {
			return err
		}
		if err := m.removeContent(ctx, workload.Hash(h)); err != nil {
			return err
		}
	}
	return nil
}

// present looks whether the contents of a job are there.
func (m *Market) present(ctx context.Context, l *live) error {
	for i := range l.Slices {
		s := &l.Slices[i]
		if s.Inline {
			continue
		}
		if m.o.Contents == nil {
			return invalid("job %q, slice %d: the market keeps no contents", l.ID, i)
		}
		r, err := m.o.Contents.Open(ctx, courier.Hash(s.Content))
		if errors.Is(err, courier.ErrNotFound) {
			return invalid("job %q, slice %d: its content is not kept", l.ID, i)
		}
		if err != nil {
			return err
		}
		r.Close()
	}
	return nil
}
