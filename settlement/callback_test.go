package settlement_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
)

// moody is every part that a caller gives an engine, and fails where it is told
// to.
type moody struct {
	*market
	where string
	how   func()
	calls int
}

func (m *moody) at(where string) {
	if m.where == where {
		m.calls++
		m.how()
	}
}

type moodyReceipts struct {
	receipt.Store
	m *moody
}

func (r moodyReceipts) Get(ctx context.Context, key receipt.Key) (receipt.Record, error) {
	r.m.at("Get")
	return r.Store.Get(ctx, key)
}

func (r moodyReceipts) After(ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error] {
	return func(yield func(receipt.Record, error) bool) {
		r.m.at("After")
		r.Store.After(ctx, seq)(yield)
	}
}

type moodyLedger struct {
	settlement.Ledger
	m *moody
}

func (l moodyLedger) Issuer() string { l.m.at("Issuer"); return l.Ledger.Issuer() }

func (l moodyLedger) Post(ctx context.Context, lease settlement.Lease, ts []settlement.Transfer) ([]settlement.Result, error) {
	l.m.at("Post")
	results, err := l.Ledger.Post(ctx, lease, ts)
	l.m.at("Post, done")
	return results, err
}

func (l moodyLedger) Balance(ctx context.Context, account string) (uint64, error) {
	l.m.at("Balance")
	return l.Ledger.Balance(ctx, account)
}

type moodyStore struct {
	settlement.Store
	m *moody
}

func (s moodyStore) Save(ctx context.Context, lease settlement.Lease, c settlement.Change) error {
	s.m.at("Save")
	err := s.Store.Save(ctx, lease, c)
	s.m.at("Save, done")
	return err
}

func (s moodyStore) Advance(ctx context.Context, lease settlement.Lease, st settlement.State) error {
	s.m.at("Advance")
	return s.Store.Advance(ctx, lease, st)
}

func (s moodyStore) Failures(ctx context.Context, from uint64) iter.Seq2[settlement.Failure, error] {
	return func(yield func(settlement.Failure, error) bool) {
		s.m.at("Failures")
		s.Store.Failures(ctx, from)(yield)
	}
}

func (m *moody) Now() time.Time                           { m.at("Now"); return issued }
func (m *moody) Applied(int)                              { m.at("Applied") }
func (m *moody) Failed(settlement.Reason)                 { m.at("Failed") }
func (m *moody) ModeChanged(settlement.Mode)              { m.at("ModeChanged") }
func (m *moody) Enabled(context.Context, slog.Level) bool { return true }
func (m *moody) Handle(context.Context, slog.Record) error {
	m.at("Handle")
	return nil
}
func (m *moody) WithAttrs([]slog.Attr) slog.Handler { return m }
func (m *moody) WithGroup(string) slog.Handler      { return m }

func newMoody(t *testing.T) *moody {
	m := &moody{market: newMarket(t, settlement.Options{})}
	m.opts = settlement.Options{Policy: settlement.Quarantine, Clock: m, Metrics: m, Logger: slog.New(m), Start: settlement.After(0)}
	e, err := settlement.Open(t.Context(), moodyReceipts{&m.receipts, m}, moodyLedger{&m.ledger, m}, moodyStore{&m.store, m}, &m.opts)
	if err == nil {
		err = e.Lead(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	m.Engine = e
	return m
}

// use calls everything, and returns what failed.
func (m *moody) use(ctx context.Context) (errs []error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	note := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			errs = append(errs, err)
		}
	}
	for range 3 { // who share a pass share its fate
		wg.Go(func() {
			_, err := m.Settle(ctx)
			note(err)
		})
	}
	wg.Wait()
	_, err := m.Status(ctx, "rich")
	note(err)
	if err := m.Retry(ctx, job(2, "poor", 10).Key); !errors.Is(err, settlement.ErrInsufficient) && !errors.Is(err, settlement.ErrNotArchived) {
		note(err)
	}
	note(m.ObserveHeight(ctx, 1<<40))
	note(m.Stop(ctx, "x"))
	note(m.Arm(ctx, settlement.After(0)))
	return errs
}

// A callback that panics or ends its goroutine fails its own call. Nobody's lock
// stays held, nobody is told of what did not happen, and the next call works.
func TestCallbacksThatFail(t *testing.T) {
	observers := []string{"Applied", "Failed", "ModeChanged", "Handle"}
	for _, where := range append([]string{
		"Get", "After", "Issuer", "Post", "Post, done", "Balance", "Save", "Save, done", "Advance", "Failures", "Now",
	}, observers...) {
		for name, how := range map[string]func(){
			"panic":  func() { panic("boom") },
			"goexit": runtime.Goexit,
			"nil":    func() { panic((*typedNil)(nil)) },
		} {
			t.Run(where+"/"+name, func(t *testing.T) {
				ctx := t.Context()
				m := newMoody(t)
				m.issue("rich", 100)
				m.append(job(1, "rich", 10), job(2, "poor", 10), job(3, "rich", 10))
				m.where, m.how = where, how
				errs := m.use(ctx)
				if m.calls == 0 {
					t.Fatal("it was not called")
				}
				isObserver := strings.Contains(strings.Join(observers, " "), where)
				if isObserver != (len(errs) == 0) {
					t.Errorf("the calls said %v", errs)
				}
				for _, err := range errs {
					text := err.Error()
					if !strings.Contains(text, "panic in") && !strings.Contains(text, "Goexit was called in") && !errors.Is(err, settlement.ErrStandby) && !errors.Is(err, settlement.ErrMode) {
						t.Errorf("the error does not name its cause: %v", err)
					}
				}
				m.where = ""
				// A write of the state that did not come back is read again first.
				if err := m.Lead(ctx); err != nil {
					t.Fatal(err)
				}
				if m.Mode() != settlement.Real {
					if err := m.Arm(ctx, settlement.After(0)); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := m.Settle(ctx); err != nil {
					t.Errorf("Settle afterwards: %v", err)
				}
				m.balance("rich", 80)
				m.balance("provider", 20)
				if s, err := m.Status(ctx); err != nil || s.Failed != 1 || s.Owed != 0 {
					t.Errorf("%+v, %v", s, err)
				}
			})
		}
	}
}

// What the store does wrong while the archive is listed is the iteration's error;
// what the loop's body does stays the body's.
func TestFailuresThatFail(t *testing.T) {
	m := newMoody(t)
	for name, how := range map[string]func(){"panic": func() { panic("boom") }, "goexit": runtime.Goexit} {
		m.where, m.how = "Failures", how
		n := 0
		for _, err := range m.Failures(t.Context()) {
			if n++; err == nil || !strings.Contains(err.Error(), "Store.Failures") {
				t.Errorf("%s: %v, want an error that names Store.Failures", name, err)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d yields, want one", name, n)
		}
	}
	m.where = ""
	m.append(job(1, "poor", 10), job(2, "poor", 10))
	if _, err := m.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if v := recover(); v != "mine" {
			t.Errorf("the body's panic became %v", v)
		}
		n := 0
		for f, err := range m.Failures(t.Context()) {
			if n++; err != nil || f.Seq != uint64(n) {
				t.Errorf("failure %d: %+v, %v", n, f, err)
			}
		}
		if n != 2 {
			t.Errorf("%d failures, want 2", n)
		}
	}()
	for range m.Failures(t.Context()) {
		panic("mine")
	}
}

type typedNil struct{ text string }

func (e *typedNil) Error() string { return e.text }

// Metrics and Logger may call the engine: nothing is held while they are told.
func TestObserversThatCallBack(t *testing.T) {
	ctx := t.Context()
	m := newMoody(t)
	m.issue("rich", 100)
	m.append(job(1, "rich", 10), job(2, "poor", 10))
	for _, where := range []string{"Applied", "Failed", "ModeChanged", "Handle"} {
		m.where, m.calls = where, 0
		m.how = func() {
			if m.calls > 3 {
				return
			}
			if _, err := m.Settle(ctx); err != nil {
				t.Errorf("Settle in %s: %v", where, err)
			}
			if _, err := m.Status(ctx); err != nil {
				t.Errorf("Status in %s: %v", where, err)
			}
			m.Mode()
			m.Wake()
		}
		if errs := m.use(ctx); len(errs) > 0 {
			t.Errorf("%s: %v", where, errs)
		}
		m.append(job(10+len(where), "rich", 1), job(100+len(where), "poor", 1))
	}
}

// A ledger with a time limit of its own fails like any other: once for each try.
func TestLimitOfTheLedger(t *testing.T) {
	for _, limit := range []error{context.DeadlineExceeded, context.Canceled, fmt.Errorf("%w: %w", settlement.ErrUnknown, context.DeadlineExceeded)} {
		synctest.Test(t, func(t *testing.T) {
			m := newMarket(t, settlement.Options{})
			m.issue("buyer", 100)
			m.real()
			tries := 0
			e := m.lead(&flaky{Ledger: &m.ledger, post: func(context.Context, []settlement.Transfer) ([]settlement.Result, error) {
				tries++
				return nil, limit
			}}, &m.store)
			m.append(job(1, "buyer", 1))
			if _, err := e.Settle(t.Context()); !errors.Is(err, limit) || tries != 1 {
				t.Errorf("Settle: %v after %d tries", err, tries)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go e.Run(ctx)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if tries < 10 || tries > 20 {
				t.Errorf("%d tries in ten minutes", tries)
			}
		})
	}
}

// "Only when woken" is no tight loop, neither idle nor after failures.
func TestVeryLongInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMarket(t, settlement.Options{Interval: math.MaxInt64})
		m.issue("buyer", 100)
		m.real()
		tries := 0
		e := m.lead(&flaky{Ledger: &m.ledger, post: func(context.Context, []settlement.Transfer) ([]settlement.Result, error) {
			tries++
			return nil, settlement.ErrUnknown
		}}, &m.store)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go e.Run(ctx)
		time.Sleep(time.Hour)
		m.append(job(1, "buyer", 1))
		e.Wake()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if tries < 5 || tries > 20 {
			t.Errorf("%d tries in ten minutes", tries)
		}
	})
}

func TestNilArguments(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{})
	_, e1 := settlement.Open(ctx, nil, &m.ledger, &m.store, nil)
	_, e2 := settlement.Open(ctx, &m.receipts, nil, &m.store, nil)
	_, e3 := settlement.Open(ctx, &m.receipts, &m.ledger, nil, nil)
	for _, err := range []error{e1, e2, e3} {
		if !errors.Is(err, settlement.ErrOptions) {
			t.Errorf("%v, want ErrOptions", err)
		}
	}
}

// The zero Engine says what is missing, and does nothing else.
func TestZeroEngine(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var e settlement.Engine
	_, settled := e.Settle(ctx)
	_, status := e.Status(ctx)
	for name, err := range map[string]error{
		"Settle": settled, "Status": status, "Arm": e.Arm(ctx, settlement.After(0)), "Stop": e.Stop(ctx, ""),
		"Lead": e.Lead(ctx), "Run": e.Run(ctx), "Resign": e.Resign(ctx),
	} {
		if !errors.Is(err, settlement.ErrOptions) {
			t.Errorf("%s: %v, want ErrOptions", name, err)
		}
	}
	for _, err := range e.Failures(ctx) {
		if !errors.Is(err, settlement.ErrOptions) {
			t.Errorf("Failures: %v, want ErrOptions", err)
		}
	}
	e.Wake()
	if e.Leads() || e.Mode() != settlement.DryRun {
		t.Error("it leads")
	}
}
