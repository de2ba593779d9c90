package market

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/workload"
)

// Market keeps orders, brings them together, has their work done, and remembers
// what became of them. [New] makes it; it works while [Market.Run] runs, and can
// be read at any time. It is safe for concurrent use.
type Market struct {
	store Store
	o     Options

	keeping sync.Mutex // while a content comes or goes

	mu       sync.Mutex // guards what follows; held over no call of a caller's code
	leading  bool       // it takes orders
	ending   bool       // it begins nothing any more
	lease    settlement.Lease
	seq      uint64 // the last that was given
	open     map[string]*live
	classes  map[string]*class
	accounts map[string]*usage
	kept     map[workload.Hash]*content
	idle     bool             // something in kept may not be needed any more
	proofs   map[string]Proof // of matches whose receipt is not written, by the bid in the book
	queue    []*change
	loops    *sync.WaitGroup
	running  context.Context // of the loops

	wake chan struct{} // tells the writer of the queue
}

// live is an order that is open, or about to be.
type live struct {
	Order
	fresh   *NewOrder // until it is written
	class   *class
	bytes   int64 // of its slices
	lease   admission.Lease
	changed chan struct{} // closed at the next change
}

// New returns a market over a store. opts may be nil. Possible errors:
// [ErrOptions].
func New(store Store, opts *Options) (*Market, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if store == nil {
		return nil, fmt.Errorf("market: %w: no store", ErrOptions)
	}
	m := &Market{store: store, o: o, wake: make(chan struct{}, 1)}
	m.clear()
	return m, nil
}

// Run takes over the store, puts the open orders back into their books, and works
// until ctx ends; it returns nil then, when all that it began has ended. Where an
// engine leads, it belongs into settlement.Options.Leading, so that one market
// works at a time. Possible errors: [ErrFenced], another market has taken over;
// [ErrPoisoned], [ErrClosed], [ErrCorrupt], [ErrSchema] of the store; and
// [ErrStandby] where it runs already.
func (m *Market) Run(ctx context.Context) error {
	if m.store == nil {
		return fmt.Errorf("market: %w: the zero Market; see New", ErrOptions)
	}
	loops, stop := context.WithCancel(ctx)
	defer stop()
	if err := m.begin(loops); err != nil || ctx.Err() != nil {
		return err
	}
	// The writer outlives the loops, which bring their last receipts to it.
	writing, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	written := make(chan error, 1)
	go func() {
		err := callback.Run("the market's writer", func() error { return m.write(writing) })
		stop() // without a writer nothing can become final
		written <- err
	}()
	m.rest()
	<-loops.Done()
	m.mu.Lock()
	m.leading, m.ending = false, true // nothing new comes
	m.mu.Unlock()
	m.loops.Wait()
	end()
	err := <-written
	m.forget()
	return err
}

// begin acquires the store and loads what is open. A store that cannot be reached
// is tried again, ever more slowly.
func (m *Market) begin(ctx context.Context) error {
	m.mu.Lock()
	running := m.loops != nil
	if !running {
		m.loops = new(sync.WaitGroup)
	}
	m.mu.Unlock()
	if running {
		return fmt.Errorf("%w: it runs already", ErrStandby)
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := callback.Run("Store", func() error { return m.load(ctx) })
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			m.forget()
			return nil
		case settlement.IsFinal(err) || errors.Is(err, ErrCorrupt):
			m.forget()
			return err
		}
		m.o.Logger.Warn("market: the store cannot be reached, trying again", "err", err, "retry", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// load is begin once.
func (m *Market) load(ctx context.Context) error {
	lease, err := m.store.Acquire(ctx)
	if err != nil {
		return err
	}
	seq := uint64(0)
	for o, err := range m.store.Orders(ctx, Filter{Newest: true}) {
		if err != nil {
			return err
		}
		seq = o.Seq
		break
	}
	m.mu.Lock()
	m.clear()
	m.lease, m.seq, m.running, m.ending = lease, seq, ctx, false
	m.mu.Unlock()
	for o, err := range m.store.Orders(ctx, Filter{State: Open}) {
		if err != nil {
			return err
		}
		m.restore(o)
	}
	return m.sweep(ctx)
}

// clear forgets all that is in memory. m.mu is held.
func (m *Market) clear() {
	m.open, m.classes = map[string]*live{}, map[string]*class{}
	m.accounts, m.kept = map[string]*usage{}, map[workload.Hash]*content{}
	m.proofs, m.queue = map[string]Proof{}, nil
}

// forget ends a run.
func (m *Market) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.open {
		close(l.changed)
		if m.o.Admission != nil {
			m.o.Admission.Release(l.lease)
		}
	}
	for _, ch := range m.queue {
		ch.end(fmt.Errorf("%w: the market ended", ErrUnknown))
	}
	m.clear()
	m.leading, m.loops, m.lease = false, nil, settlement.Lease{}
}

// restore takes an open order into memory.
func (m *Market) restore(o Order) {
	l := &live{Order: o, changed: make(chan struct{})}
	for i := range o.Slices {
		l.bytes += o.Slices[i].Size
	}
	if m.o.Admission != nil && o.Side == bidSide {
		// It was admitted before: what it holds is counted again, and where there is
		// no room for it the market goes on without.
		l.lease = m.o.Admission.Decide(m.request(&o)).Lease
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open[o.ID] = l
	m.account(o.Account).add(l, 1)
	m.hold(l)
}

// rest puts all that is in memory into the books, oldest first, and begins to
// take new orders.
func (m *Market) rest() {
	m.mu.Lock()
	all := make([]*live, 0, len(m.open))
	for _, l := range m.open {
		all = append(all, l)
	}
	m.mu.Unlock()
	sortBySeq(all)
	for _, l := range all {
		m.enter(l)
	}
	m.mu.Lock()
	m.leading = !m.ending
	m.mu.Unlock()
}

// enter puts an order into its book.
func (m *Market) enter(l *live) {
	now := m.o.Clock.Now()
	m.mu.Lock()
	if m.ending {
		m.mu.Unlock()
		return // it is durable: the next run has it
	}
	c, err := m.classOf(l)
	m.mu.Unlock()
	if err != nil {
		m.endAll(l, Failed, err.Error())
		return
	}
	if l.Ending != 0 { // what was in flight ended with the process
		m.endAll(l, l.Ending, l.Reason)
		return
	}
	for r := range l.resting() {
		_, err := c.book.Submit(r, now)
		switch {
		case err == nil:
		case isExpired(err):
			m.give(c, r.ID, Expired, "")
		default:
			m.give(c, r.ID, Failed, err.Error())
		}
	}
}
