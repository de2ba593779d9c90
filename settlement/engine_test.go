package settlement_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

var issued = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// market is an engine on models, and what its metrics were told.
type market struct {
	*settlement.Engine
	t        *testing.T
	receipts receipttest.Mem
	ledger   settlementtest.Ledger
	store    settlementtest.Store
	opts     settlement.Options
	issues   int

	mu      sync.Mutex
	applied int
	failed  map[settlement.Reason]int
	modes   []settlement.Mode
}

func (m *market) Applied(n int) { m.mu.Lock(); defer m.mu.Unlock(); m.applied += n }

func (m *market) Failed(r settlement.Reason) { m.mu.Lock(); defer m.mu.Unlock(); m.failed[r]++ }

func (m *market) ModeChanged(to settlement.Mode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.modes = append(m.modes, to)
}

func newMarket(t *testing.T, opts settlement.Options) *market {
	m := &market{t: t, failed: map[settlement.Reason]int{}, opts: opts}
	m.opts.Metrics = m
	m.restart()
	return m
}

// restart opens a new engine on what the old one left.
func (m *market) restart() {
	m.t.Helper()
	m.Engine = m.lead(&m.ledger, &m.store)
}

// lead opens an engine that leads.
func (m *market) lead(ledger settlement.Ledger, store settlement.Store) *settlement.Engine {
	m.t.Helper()
	e, err := settlement.Open(m.t.Context(), &m.receipts, ledger, store, &m.opts)
	if err == nil {
		err = e.Lead(m.t.Context())
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return e
}

func (m *market) post(ctx context.Context, ts []settlement.Transfer) ([]settlement.Result, error) {
	return m.ledger.Post(ctx, settlement.Lease{}, ts)
}

func (m *market) issue(account string, amount uint64) {
	m.t.Helper()
	m.issues++
	if _, err := m.ledger.Post(m.t.Context(), settlement.Lease{}, []settlement.Transfer{{
		ID: settlement.ID{1, byte(m.issues)}, From: m.ledger.Issuer(), To: account, Amount: amount,
	}}); err != nil {
		m.t.Fatal(err)
	}
}

func job(n int, buyer string, price uint64) receipt.Receipt {
	return receipt.New(fmt.Sprintf("job-%d", n), buyer, "provider", price, issued)
}

func dry(r receipt.Receipt) receipt.Receipt { r.DryRun = true; return r }

func (m *market) append(rs ...receipt.Receipt) {
	m.t.Helper()
	if _, err := m.receipts.Append(m.t.Context(), rs); err != nil {
		m.t.Fatal(err)
	}
}

func (m *market) settle(want settlement.Pass) {
	m.t.Helper()
	got, err := m.Settle(m.t.Context())
	if err != nil || got != want {
		m.t.Errorf("Settle: %+v, %v, want %+v", got, err, want)
	}
	if err := settlementtest.Conserved(m.t.Context(), &m.ledger); err != nil {
		m.t.Error(err)
	}
}

func (m *market) real() {
	m.t.Helper()
	if err := errors.Join(m.Arm(m.t.Context(), settlement.After(0)), m.do(m.Settle)); err != nil {
		m.t.Fatal(err)
	}
	m.want(settlement.Real)
}

func (m *market) do(f func(context.Context) (settlement.Pass, error)) error {
	_, err := f(m.t.Context())
	return err
}

func (m *market) want(mode settlement.Mode) {
	m.t.Helper()
	if got := m.Mode(); got != mode {
		m.t.Errorf("mode %v, want %v", got, mode)
	}
}

func (m *market) status(applied, failed, owed uint64) settlement.Status {
	m.t.Helper()
	s, err := m.Status(m.t.Context())
	if err != nil || s.Applied != applied || s.Failed != failed || s.Owed != owed {
		m.t.Errorf("Status: %+v, %v, want applied %d, failed %d, owed %d", s, err, applied, failed, owed)
	}
	return s
}

func (m *market) balance(account string, want uint64) {
	m.t.Helper()
	if got, err := m.ledger.Balance(m.t.Context(), account); err != nil || got != want {
		m.t.Errorf("balance of %s is %d, %v, want %d", account, got, err, want)
	}
}

func TestDryRunMovesNothing(t *testing.T) {
	m := newMarket(t, settlement.Options{})
	m.issue("buyer", 100)
	m.append(dry(job(1, "buyer", 10)), dry(job(2, "buyer", 10)), job(3, "buyer", 10), dry(job(4, "buyer", 10)))
	m.settle(settlement.Pass{})
	m.want(settlement.DryRun)
	m.balance("buyer", 100)
	m.status(0, 0, 1)
	m.restart()
	m.status(0, 0, 1)
	// The owed one waited; the dry runs never move.
	m.real()
	m.balance("buyer", 90)
	m.balance("provider", 10)
	m.status(1, 0, 0)
	if m.applied != 1 {
		t.Errorf("applied counts %d, want 1", m.applied)
	}
}

func TestPromotedReceiptSettles(t *testing.T) {
	m := newMarket(t, settlement.Options{})
	m.issue("buyer", 100)
	r := job(1, "buyer", 10)
	m.append(dry(r), dry(job(2, "buyer", 10)))
	m.real()
	m.settle(settlement.Pass{})
	m.append(r)
	m.settle(settlement.Pass{Applied: 1})
	m.append(r, dry(r))
	m.settle(settlement.Pass{})
	m.balance("buyer", 90)
}

func TestSettleInBatches(t *testing.T) {
	m := newMarket(t, settlement.Options{BatchSize: 3})
	m.issue("buyer", 1000)
	m.real()
	for i := range 10 {
		m.append(job(2*i, "buyer", 1), dry(job(2*i+1, "buyer", 1)))
	}
	m.status(0, 0, 10)
	m.settle(settlement.Pass{Applied: 10})
	m.status(10, 0, 0)
	m.balance("buyer", 990)
}

// The engine loses its cursor: nothing moves twice.
func TestLostCursorCostsOnlyDuplicates(t *testing.T) {
	m := newMarket(t, settlement.Options{})
	m.issue("buyer", 100)
	m.real()
	m.append(job(1, "buyer", 10), job(2, "buyer", 10))
	m.settle(settlement.Pass{Applied: 2})
	m.store = settlementtest.Store{}
	m.restart()
	m.real()
	m.settle(settlement.Pass{})
	m.balance("buyer", 80)
	m.status(2, 0, 0)
	if m.applied != 2 {
		t.Errorf("applied counts %d, want 2", m.applied)
	}
}

// A ledger that cannot answer now is no failure of the receipt.
type flaky struct {
	*settlementtest.Ledger
	post func(ctx context.Context, ts []settlement.Transfer) ([]settlement.Result, error)
}

func (f *flaky) Post(ctx context.Context, _ settlement.Lease, ts []settlement.Transfer) ([]settlement.Result, error) {
	return f.post(ctx, ts)
}

func TestLedgerOutOfReach(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{})
	m.issue("buyer", 100)
	m.real()
	l := &flaky{Ledger: &m.ledger}
	m.Engine = m.lead(l, &m.store)
	m.append(job(1, "buyer", 10), job(2, "buyer", 10), job(3, "buyer", 10))

	// The outcome is unknown, and it was applied all the same.
	l.post = func(ctx context.Context, ts []settlement.Transfer) ([]settlement.Result, error) {
		results, _ := m.ledger.Post(ctx, settlement.Lease{}, ts[:2])
		return results[:1], settlement.ErrUnknown
	}
	if got, err := m.Settle(ctx); !errors.Is(err, settlement.ErrUnknown) || got.Applied != 1 {
		t.Errorf("Settle: %+v, %v", got, err)
	}
	m.want(settlement.Real)
	l.post = m.post
	m.settle(settlement.Pass{Applied: 1, Duplicate: 1})
	m.balance("buyer", 70)
	m.status(3, 0, 0)

	for name, post := range map[string]func(context.Context, []settlement.Transfer) ([]settlement.Result, error){
		"too few results": func(context.Context, []settlement.Transfer) ([]settlement.Result, error) { return nil, nil },
		"too many results": func(_ context.Context, ts []settlement.Transfer) ([]settlement.Result, error) {
			return make([]settlement.Result, len(ts)+1), nil
		},
		"results that are none": func(_ context.Context, ts []settlement.Transfer) ([]settlement.Result, error) {
			return make([]settlement.Result, len(ts)), nil
		},
	} {
		l.post = post
		m.append(job(len(name), "buyer", 1))
		if _, err := m.Settle(ctx); !errors.Is(err, settlement.ErrLedger) {
			t.Errorf("%s: %v, want ErrLedger", name, err)
		}
	}
}

func TestFencedEngineStops(t *testing.T) {
	m := newMarket(t, settlement.Options{})
	old := m.Engine
	m.restart()
	if err := old.Stop(t.Context(), "x"); err != nil {
		t.Fatal(err) // no change, no write
	}
	if err := old.Arm(t.Context(), settlement.After(0)); !errors.Is(err, settlement.ErrFenced) {
		t.Errorf("Arm of the old engine: %v, want ErrFenced", err)
	}
	m.append(dry(job(1, "buyer", 1)))
	if err := old.Run(t.Context()); !errors.Is(err, settlement.ErrFenced) {
		t.Errorf("Run of the old engine: %v, want ErrFenced", err)
	}
}

func TestRunInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m := newMarket(t, settlement.Options{})
		m.issue("buyer", 100)
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()
		if err := m.Arm(ctx, settlement.After(10*time.Second+time.Second/2)); err != nil {
			t.Fatal(err)
		}
		m.append(job(1, "buyer", 10))
		time.Sleep(10*time.Second + time.Second/2 - time.Nanosecond)
		synctest.Wait()
		m.balance("buyer", 100)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		m.want(settlement.Real)
		m.balance("buyer", 90)

		m.append(job(2, "buyer", 10))
		m.Wake()
		synctest.Wait() // no time passes
		m.balance("buyer", 80)
		m.append(job(3, "buyer", 10))
		time.Sleep(time.Second)
		synctest.Wait()
		m.balance("buyer", 70)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestRunRetriesMoreSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		m := newMarket(t, settlement.Options{})
		m.issue("buyer", 100)
		m.real()
		tries := 0
		l := &flaky{Ledger: &m.ledger, post: func(context.Context, []settlement.Transfer) ([]settlement.Result, error) {
			tries++
			return nil, settlement.ErrUnknown
		}}
		e := m.lead(l, &m.store)
		m.append(job(1, "buyer", 1))
		go e.Run(ctx)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if tries < 10 || tries > 20 { // 1, 2, 4 … 64 seconds apart
			t.Errorf("%d tries in ten minutes", tries)
		}
	})
}

// A caller that gives up while it leads a pass takes nobody with it.
func TestCancelledLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMarket(t, settlement.Options{})
		m.issue("buyer", 100)
		m.real()
		m.append(job(1, "buyer", 1))
		gate := make(chan struct{})
		calls := 0
		l := &flaky{Ledger: &m.ledger}
		l.post = func(ctx context.Context, ts []settlement.Transfer) ([]settlement.Result, error) {
			switch calls++; calls {
			case 1: // the first pass keeps the others waiting
				<-gate
				return nil, settlement.ErrUnknown
			case 2: // the second is led by the one who gives up
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return m.ledger.Post(ctx, settlement.Lease{}, ts)
		}
		e := m.lead(l, &m.store)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := e.Settle(t.Context()); !errors.Is(err, settlement.ErrUnknown) {
				t.Errorf("the first: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, err := e.Settle(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("the one who gives up: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if got, err := e.Settle(t.Context()); err != nil || got.Applied != 1 {
				t.Errorf("the other: %+v, %v", got, err)
			}
		})
		synctest.Wait()
		close(gate)
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}

func TestConcurrentSettle(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{BatchSize: 7})
	m.issue("buyer", 1000)
	m.real()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				r := job(w*50+i, "buyer", 1)
				if _, err := m.receipts.Append(ctx, []receipt.Receipt{r}); err != nil {
					t.Error(err)
				}
				if _, err := m.Settle(ctx); err != nil {
					t.Error(err)
				}
				if _, err := m.Status(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	m.balance("buyer", 600)
	m.status(400, 0, 0)
	if m.applied != 400 {
		t.Errorf("applied counts %d, want 400", m.applied)
	}
}

func TestOptions(t *testing.T) {
	m := newMarket(t, settlement.Options{})
	for _, o := range []settlement.Options{{Policy: 2}, {Interval: -1}, {BatchSize: -1}} {
		if _, err := settlement.Open(t.Context(), &m.receipts, &m.ledger, &m.store, &o); !errors.Is(err, settlement.ErrOptions) {
			t.Errorf("%+v: %v, want ErrOptions", o, err)
		}
	}
}
