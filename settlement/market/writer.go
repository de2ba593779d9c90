package market

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/match"
)

// change is what somebody wants to be durable. Whoever made it may wait for done.
type change struct {
	order *live   // new
	fills []fill  // receipts, and what they pay for
	ends  []finis // slices or orders that end without one
	check []string

	statuses []receipt.Status // of the fills
	existing *Order           // that has the new order's ID
	err      error
	done     chan struct{}
}

// fill is a receipt on its way into the log.
type fill struct {
	class   *class
	receipt *receipt.Receipt
	status  receipt.Status // once it is refused
}

// finis ends a slice, or, where slice is -1, an order as soon as nothing of it is
// in flight.
type finis struct {
	id     string
	slice  int
	state  State
	reason string
}

func newChange() *change { return &change{done: make(chan struct{})} }

func (ch *change) end(err error) {
	ch.err = err
	close(ch.done)
}

// add hands a change to the writer. It does not wait.
func (m *Market) add(ch *change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loops == nil {
		return ErrStandby
	}
	m.queue = append(m.queue, ch)
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return nil
}

// put hands a change to the writer and waits until it is durable. When ctx ends
// first, the change may still be written.
func (m *Market) put(ctx context.Context, ch *change) error {
	if err := m.add(ch); err != nil {
		return err
	}
	select {
	case <-ch.done:
		return ch.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

// grace is how long a store may take for the last batches of a run.
const grace = 5 * time.Second

// mostAtOnce bounds the changes of one batch.
const mostAtOnce = 8192

// write makes durable what is in the queue, until ctx ends and the queue is empty.
func (m *Market) write(ctx context.Context) error {
	// A store that hangs is given up some time after the end.
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	for {
		changes := m.gather()
		if len(changes) == 0 {
			select {
			case <-m.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if err := m.writeAll(ctx, calls, changes); err != nil {
			for _, ch := range changes {
				ch.end(err)
			}
			return err
		}
	}
}

// gather takes what is in the queue, once it has stopped growing: whoever is about
// to add to it is let go first, as what comes a moment later costs a whole write.
func (m *Market) gather() []*change {
	m.mu.Lock()
	defer m.mu.Unlock()
	for was, tries := 0, 0; len(m.queue) > was && tries < 16; tries++ {
		was = len(m.queue)
		m.mu.Unlock()
		runtime.Gosched()
		m.mu.Lock()
	}
	n := min(len(m.queue), mostAtOnce)
	changes := slices.Clone(m.queue[:n])
	m.queue = slices.Delete(m.queue, 0, n)
	return changes
}

// writeAll writes changes as one batch, again and again until it is known what
// became of it, and publishes what did. The error is final.
func (m *Market) writeAll(ctx, calls context.Context, changes []*change) error {
	p := m.plan(changes)
	var w Written
	for wait := 50 * time.Millisecond; ; {
		err := callback.Run("Store.Write", func() (err error) {
			w, err = m.store.Write(calls, m.lease, &p.batch)
			return err
		})
		switch {
		case err == nil && len(w.Appended) == len(p.batch.Receipts):
			m.publish(p, &w)
			return m.removeContents(calls)
		case err == nil:
			return fmt.Errorf("market: the store answered %d statuses for %d receipts", len(w.Appended), len(p.batch.Receipts))
		case len(w.Appended) == len(p.fills) && p.refuse(w.Appended):
			p = m.plan(changes)
			continue
		case settlement.IsFinal(err) || errors.Is(err, ErrInvalid):
			return err
		}
		m.o.Logger.Error("market: not written, trying again", "err", err, "retry", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// plan is a batch, and what it will have changed.
type plan struct {
	changes []*change
	batch   Batch
	fills   []*fill // by receipt of the batch
	orders  []*live // by new order of the batch
	next    map[*live]*Progress
	touched []*live
}

// refuse notes which receipts the log refuses, and reports whether any.
func (p *plan) refuse(statuses []receipt.Status) (any bool) {
	for i, s := range statuses {
		if s == receipt.Conflict || s == receipt.Corrupt {
			p.fills[i].status, any = s, true
		}
	}
	return any
}

func (m *Market) plan(changes []*change) *plan {
	p := &plan{changes: changes, next: map[*live]*Progress{}}
	now := m.o.Clock.Now().Round(0).UTC()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ch := range changes {
		if l := ch.order; l != nil {
			m.seq++
			l.fresh.Seq = m.seq
			p.orders = append(p.orders, l)
			p.batch.Orders = append(p.batch.Orders, *l.fresh)
		}
		for i := range ch.fills {
			if f := &ch.fills[i]; f.status == 0 {
				p.fills = append(p.fills, f)
				p.batch.Receipts = append(p.batch.Receipts, *f.receipt)
				m.fill(p, f.receipt)
			}
		}
		for i := range ch.ends {
			m.finish(p, &ch.ends[i])
		}
		for _, id := range ch.check {
			if l := m.open[id]; l != nil && l.fresh == nil {
				p.of(l)
			}
		}
	}
	for _, l := range p.touched {
		progress := p.next[l]
		l.conclude(progress, now)
		p.batch.Updates = append(p.batch.Updates, Update{Seq: l.Seq, Progress: *progress})
	}
	return p
}

// of returns the progress of an order as this batch will leave it. Its Outcomes
// are those that are new.
func (p *plan) of(l *live) *Progress {
	next := p.next[l]
	if next == nil {
		copied := l.Progress
		copied.Outcomes = nil
		next = &copied
		p.next[l] = next
		p.touched = append(p.touched, l)
	}
	return next
}

// fill counts what a receipt pays for. m.mu is held.
func (m *Market) fill(p *plan, r *receipt.Receipt) {
	job, ok := match.ParseJob(r.JobID)
	if !ok {
		return
	}
	id, slice := named(job.Bid)
	if l := m.open[id]; l != nil {
		if slice < 0 {
			p.of(l).Filled += job.Units
		} else if next := p.of(l); !l.hasOutcome(next, slice) {
			next.Filled++
			next.Outcomes = append(next.Outcomes, Outcome{Slice: slice, State: Done, Receipt: r.Key, Output: m.proofs[job.Bid].Output})
		}
	}
	if l := m.open[job.Ask]; l != nil {
		p.of(l).Filled += job.Units
	}
}

// finish ends a slice or an order. m.mu is held.
func (m *Market) finish(p *plan, f *finis) {
	l := m.open[f.id]
	if l == nil || l.fresh != nil {
		return
	}
	next := p.of(l)
	switch {
	case f.slice >= 0 && !l.hasOutcome(next, f.slice):
		next.Outcomes = append(next.Outcomes, Outcome{Slice: f.slice, State: f.state, Reason: f.reason})
	case f.slice < 0 && next.Ending == 0:
		next.Ending, next.Reason = f.state, f.reason
	}
}

func (l *live) hasOutcome(next *Progress, slice int) bool {
	is := func(o Outcome) bool { return o.Slice == slice }
	return slices.ContainsFunc(next.Outcomes, is) || slices.ContainsFunc(l.Outcomes, is)
}

// conclude ends an order of which nothing is left.
func (l *live) conclude(next *Progress, now time.Time) {
	switch {
	case len(l.Slices) > 0:
		if len(l.Outcomes)+len(next.Outcomes) < len(l.Slices) {
			return
		}
		next.State = Done
		for _, o := range append(slices.Clone(l.Outcomes), next.Outcomes...) {
			// Failed says more than Expired, and that more than Cancelled.
			if o.State != Done && (next.State == Done || o.State < next.State) {
				next.State, next.Reason = o.State, o.Reason
			}
		}
	case next.Filled >= l.Units:
		next.State = Done
	case next.Ending != 0 && (l.class == nil || l.class.book.InFlight(l.ID) == 0):
		next.State = next.Ending
	}
	if next.State.Over() {
		next.Ended = now
	}
}

// publish tells everybody of what is durable now.
func (m *Market) publish(p *plan, w *Written) {
	var entered []*live
	m.mu.Lock()
	for i, l := range p.orders {
		if w.Existing != nil && w.Existing[i] != nil {
			m.drop(l)
			continue
		}
		l.Order, l.fresh = l.fresh.Order, nil
		close(l.changed)
		l.changed = make(chan struct{})
		entered = append(entered, l)
	}
	for _, l := range p.touched {
		had := l.Outcomes
		l.Progress = *p.next[l]
		l.Outcomes = append(had, p.next[l].Outcomes...)
		slices.SortFunc(l.Outcomes, func(a, b Outcome) int { return cmp.Compare(a.Slice, b.Slice) })
		close(l.changed)
		l.changed = make(chan struct{})
		if l.State.Over() {
			m.drop(l)
		}
	}
	for i, f := range p.fills {
		f.status = w.Appended[i]
	}
	m.mu.Unlock()
	for _, l := range entered {
		m.enter(l)
	}
	i := 0
	for _, ch := range p.changes {
		if ch.order != nil {
			if w.Existing != nil {
				ch.existing = w.Existing[i]
			}
			i++
		}
		for j := range ch.fills {
			ch.statuses = append(ch.statuses, ch.fills[j].status)
		}
		ch.end(nil)
	}
}
