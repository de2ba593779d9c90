package settlement_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

// standby opens an engine that does not lead.
func (m *market) standby(store settlement.Store, opts settlement.Options) *settlement.Engine {
	m.t.Helper()
	e, err := settlement.Open(m.t.Context(), &m.receipts, &m.ledger, store, &opts)
	if err != nil {
		m.t.Fatal(err)
	}
	return e
}

func TestStandbyWritesNothing(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{})
	m.issue("buyer", 100)
	m.real()
	m.append(job(1, "buyer", 10))
	e := m.standby(&m.store, settlement.Options{})
	if e.Leads() || e.Mode() != settlement.DryRun {
		t.Errorf("an engine that was opened leads: %v, in mode %v", e.Leads(), e.Mode())
	}
	_, settled := e.Settle(ctx)
	for name, err := range map[string]error{
		"Settle":        settled,
		"Arm":           e.Arm(ctx, settlement.After(0)),
		"CancelArm":     e.CancelArm(ctx),
		"Stop":          e.Stop(ctx, "x"),
		"ObserveHeight": e.ObserveHeight(ctx, 7),
		"Retry":         e.Retry(ctx, job(1, "buyer", 10).Key),
	} {
		if !errors.Is(err, settlement.ErrStandby) {
			t.Errorf("%s on standby: %v, want ErrStandby", name, err)
		}
	}
	m.balance("buyer", 100)
	if err := e.Resign(ctx); err != nil {
		t.Errorf("Resign on standby: %v", err)
	}
	// Nothing of this has touched the leader.
	m.settle(settlement.Pass{Applied: 1})
	leads := m.status(1, 0, 0)
	s, err := e.Status(ctx, "buyer")
	if err != nil || !s.Standby || leads.Standby || s.Leader == "" || s.Leader != leads.Leader ||
		s.Mode != settlement.Real || s.Applied != 1 || s.Owed != 0 || s.Balances[0].Balance != 90 {
		t.Errorf("on standby %+v, %v; the leader says %+v", s, err, leads)
	}
	m.append(job(2, "buyer", 10), dry(job(3, "buyer", 10)), job(4, "buyer", 10))
	if s, err := e.Status(ctx); err != nil || s.Owed != 2 {
		t.Errorf("on standby %+v, %v, want 2 owed", s, err)
	}
}

// Two engines of one process on one store: the younger has said that nothing
// moves any more.
func TestOlderEngineMovesNothing(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{})
	m.ledger.Fence = &m.store
	m.issue("buyer", 100)
	m.real()
	old := m.Engine
	m.restart()
	if err := m.Stop(ctx, "stop"); err != nil {
		t.Fatal(err)
	}
	m.append(job(1, "buyer", 10))
	if _, err := old.Settle(ctx); !errors.Is(err, settlement.ErrFenced) {
		t.Errorf("Settle of the older engine: %v, want ErrFenced", err)
	}
	m.balance("buyer", 100)
	if old.Leads() || old.Mode() != settlement.DryRun {
		t.Errorf("it leads: %v, in mode %v", old.Leads(), old.Mode())
	}
	// It takes nothing back: the two would go on for ever.
	if err := old.Run(ctx); !errors.Is(err, settlement.ErrFenced) || !settlement.IsFinal(err) {
		t.Errorf("Run of the older engine: %v, want ErrFenced", err)
	}
	if err := m.Stop(ctx, "still"); err != nil {
		t.Errorf("the younger one: %v", err)
	}
}

func TestLeadIsHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMarket(t, settlement.Options{})
		store := &settlementtest.Store{Term: 10 * time.Second}
		m.ledger.Fence = store
		m.issue("buyer", 100)
		// Each node has a loop that runs only while it leads.
		type node struct {
			*settlement.Engine
			leads  int // how often Leading began
			inside bool
			stop   context.CancelFunc
			done   chan error
		}
		start := func() *node {
			n := &node{done: make(chan error, 1)}
			n.Engine = m.standby(store, settlement.Options{Start: settlement.After(0), Leading: func(ctx context.Context) error {
				n.leads++
				n.inside = true
				<-ctx.Done()
				n.inside = false
				return nil
			}})
			var ctx context.Context
			ctx, n.stop = context.WithCancel(t.Context())
			go func() { n.done <- n.Run(ctx) }()
			synctest.Wait()
			return n
		}
		a := start()
		b := start()
		want := func(n *node, leads bool) {
			t.Helper()
			synctest.Wait()
			if n.Leads() != leads || n.inside != leads {
				t.Errorf("leads %v, Leading runs %v, want %v", n.Leads(), n.inside, leads)
			}
		}
		want(a, true)
		want(b, false)
		if a.Mode() != settlement.Real || b.Mode() != settlement.DryRun {
			t.Errorf("modes %v and %v", a.Mode(), b.Mode())
		}
		time.Sleep(5 * time.Minute) // far beyond the term: it is renewed
		want(a, true)
		want(b, false)
		m.append(job(1, "buyer", 10))
		time.Sleep(time.Second)
		synctest.Wait()
		m.balance("buyer", 90)
		a.stop()
		if err := <-a.done; err != nil {
			t.Error(err)
		}
		time.Sleep(3 * time.Second) // not the whole term: it was given up
		want(a, false)
		want(b, true)
		m.append(job(2, "buyer", 10))
		time.Sleep(time.Second)
		synctest.Wait()
		m.balance("buyer", 80)

		// One that is not heard of for the term is replaced, and hears of it.
		store.Expire()
		c := start()
		want(c, true)
		time.Sleep(time.Second) // b looks
		want(b, false)
		c.stop()
		time.Sleep(15 * time.Second)
		want(b, true)
		if b.leads != 2 {
			t.Errorf("Leading began %d times in b, want 2", b.leads)
		}
		b.stop()
		if err := errors.Join(<-b.done, <-c.done); err != nil {
			t.Error(err)
		}
	})
}

// A loop that takes longer than the lease's term to come to its end is still
// alone: the lease is renewed until it has.
func TestLeaseWhileLeadingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMarket(t, settlement.Options{})
		store := &settlementtest.Store{Term: 10 * time.Second}
		var inside, most atomic.Int32
		opts := settlement.Options{Start: settlement.After(0), Leading: func(ctx context.Context) error {
			most.Store(max(most.Load(), inside.Add(1)))
			<-ctx.Done()
			time.Sleep(time.Minute) // receipts of finished work
			inside.Add(-1)
			return nil
		}}
		a, b := m.standby(store, opts), m.standby(store, opts)
		run := func(e *settlement.Engine) (stop func() error) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- e.Run(ctx) }()
			synctest.Wait()
			return func() error { cancel(); return <-done }
		}
		stopA := run(a)
		stopB := run(b)
		if err := stopA(); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Second)
		if !b.Leads() || most.Load() != 1 {
			t.Errorf("%d loops ran at once; the second leads: %v", most.Load(), b.Leads())
		}
		if err := stopB(); err != nil {
			t.Error(err)
		}
	})
}

// away cannot be reached the first times.
type away struct {
	settlement.Store
	times int
	err   error
}

func (a *away) Acquire(ctx context.Context) (settlement.Lease, settlement.State, error) {
	if a.times--; a.times >= 0 {
		return settlement.Lease{}, settlement.State{}, a.err
	}
	return a.Store.Acquire(ctx)
}

func TestStandbyOutlivesItsStore(t *testing.T) {
	for _, err := range []error{io.ErrUnexpectedEOF, settlement.ErrUnknown, context.DeadlineExceeded, context.Canceled, settlement.ErrCorrupt} {
		synctest.Test(t, func(t *testing.T) {
			m := newMarket(t, settlement.Options{})
			e := m.standby(&away{&m.store, 20, err}, settlement.Options{})
			begin := time.Now()
			if err := e.Lead(t.Context()); err != nil || !e.Leads() {
				t.Errorf("Lead: %v", err)
			}
			if took := time.Since(begin); took < time.Minute || took > time.Hour {
				t.Errorf("20 tries in %v", took) // 1, 2, 4 … 64 seconds apart
			}
		})
	}
}

func TestLeadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMarket(t, settlement.Options{})
		e := m.standby(&away{&m.store, 1 << 30, settlement.ErrPoisoned}, settlement.Options{})
		if err := e.Lead(t.Context()); !errors.Is(err, settlement.ErrPoisoned) {
			t.Errorf("Lead: %v, want ErrPoisoned", err)
		}
		if err := e.Run(t.Context()); !errors.Is(err, settlement.ErrPoisoned) {
			t.Errorf("Run: %v, want ErrPoisoned", err)
		}
		store := &settlementtest.Store{Term: time.Hour}
		leader := m.lead(&m.ledger, store)
		e = m.standby(store, settlement.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := e.Lead(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "engine 1") {
			t.Errorf("Lead while another does: %v, want DeadlineExceeded and who", err)
		}
		if err := leader.Resign(t.Context()); err != nil {
			t.Error(err)
		}
		if err := e.Lead(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// inDoubt writes, and cannot tell.
type inDoubt struct {
	settlement.Store
	doubt bool
}

func (f *inDoubt) Save(ctx context.Context, lease settlement.Lease, c settlement.Change) error {
	err := f.Store.Save(ctx, lease, c)
	if f.doubt {
		return errors.Join(err, settlement.ErrUnknown, context.DeadlineExceeded)
	}
	return err
}

// An engine that does not know what was saved does nothing more before it has
// read it: a failure that is in the archive would be settled beside it.
func TestSaveInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		m := newMarket(t, settlement.Options{Policy: settlement.Quarantine})
		m.real()
		store := &inDoubt{Store: &m.store, doubt: true}
		e := m.lead(&m.ledger, store)
		poor := job(1, "poor", 10)
		m.append(poor)
		if _, err := e.Settle(ctx); !errors.Is(err, settlement.ErrUnknown) || e.Leads() {
			t.Fatalf("Settle: %v, leads %v", err, e.Leads())
		}
		m.issue("poor", 10)
		if _, err := e.Settle(ctx); !errors.Is(err, settlement.ErrStandby) {
			t.Fatalf("Settle again: %v", err)
		}
		// Run reads what became of it and goes on.
		store.doubt = false
		run, cancel := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- e.Run(run) }()
		time.Sleep(time.Minute)
		m.balance("poor", 10)
		if s, err := e.Status(ctx); err != nil || s.Failed != 1 || s.Standby {
			t.Errorf("%+v, %v", s, err)
		}
		if err := e.Retry(ctx, poor.Key); err != nil {
			t.Error(err)
		}
		m.balance("poor", 0)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Start arms at the first start ever, and at no other.
func TestStart(t *testing.T) { synctest.Test(t, testStart) }

func testStart(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{Start: settlement.After(0)})
	m.want(settlement.Real)
	if err := m.Stop(ctx, ""); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m.restart()
		m.want(settlement.DryRun)
	}
	if s := m.status(0, 0, 0); s.Reason == "" {
		t.Error("stopped for no reason")
	}
	m = newMarket(t, settlement.Options{Start: settlement.AtHeight(5)})
	m.want(settlement.Armed)
	if err := m.CancelArm(ctx); err != nil {
		t.Fatal(err)
	}
	m.restart()
	m.want(settlement.DryRun)

	// A failure at the start leaves it for the next.
	m = newMarket(t, settlement.Options{})
	m.opts.Start = settlement.After(0)
	e := m.standby(refusing{&m.store}, m.opts)
	short, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := e.Lead(short); !errors.Is(err, io.ErrShortWrite) || e.Leads() {
		t.Errorf("Lead: %v, leads %v", err, e.Leads())
	}
	m.restart()
	m.want(settlement.Real)
}

// refusing saves nothing.
type refusing struct{ settlement.Store }

func (refusing) Save(context.Context, settlement.Lease, settlement.Change) error {
	return io.ErrShortWrite
}

func TestLeadingFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMarket(t, settlement.Options{})
		broken := errors.New("the loop broke")
		e := m.standby(&m.store, settlement.Options{Leading: func(context.Context) error { return broken }})
		if err := e.Run(t.Context()); err != broken || e.Leads() {
			t.Errorf("Run: %v, leads %v", err, e.Leads())
		}
		e = m.standby(&m.store, settlement.Options{Leading: func(context.Context) error { panic("boom") }})
		if err := e.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "panic in Options.Leading: boom") {
			t.Errorf("Run: %v", err)
		}
	})
}

// What Leading leaves at its end is settled before the lead is given up.
func TestLastPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMarket(t, settlement.Options{})
		m.issue("buyer", 100)
		e := m.standby(&m.store, settlement.Options{Start: settlement.After(0), Interval: time.Hour, Leading: func(ctx context.Context) error {
			<-ctx.Done()
			m.append(job(1, "buyer", 10))
			return nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- e.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		m.balance("buyer", 90)
		if _, s, err := m.store.Load(t.Context()); err != nil || s.Applied != 1 {
			t.Errorf("saved: %+v, %v", s, err)
		}
	})
}
