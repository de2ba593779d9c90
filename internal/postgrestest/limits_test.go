package postgrestest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptsql"
	"github.com/computemarket/computemarket/settlement"
)

// With all connections taken a call waits for its context, and has then done
// nothing.
func TestFullPool(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	m, err := openMarket(ctx, db, nil)
	if err != nil {
		t.Fatal(err)
	}
	lease, _, err := m.store.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(2)
	a, err1 := db.Conn(ctx)
	b, err2 := db.Conn(ctx)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(context.Context) error{
		"Append": func(ctx context.Context) error {
			_, err := m.receipts.Append(ctx, []receipt.Receipt{numbered(1)})
			return err
		},
		"Get": func(ctx context.Context) error { _, err := m.receipts.Get(ctx, numbered(1).Key); return err },
		"Post": func(ctx context.Context) error {
			_, err := m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: settlement.ID{1}, From: "issuer", To: "a"}})
			return err
		},
		"Balance": func(ctx context.Context) error { _, err := m.ledger.Balance(ctx, "a"); return err },
		"Save":    func(ctx context.Context) error { return m.store.Save(ctx, lease, settlement.Change{}) },
		"Acquire": func(ctx context.Context) error { _, _, err := m.store.Acquire(ctx); return err },
	} {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		if err := call(short); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, settlement.ErrUnknown) || errors.Is(err, receipt.ErrUnknown) {
			t.Errorf("%s with a full pool: %v", name, err)
		}
		cancel()
	}
	a.Close()
	b.Close()
	if _, err := m.receipts.Get(ctx, numbered(1).Key); !errors.Is(err, receipt.ErrNotFound) {
		t.Errorf("Get: %v", err)
	}
	if accounts, err := count(ctx, m); err != nil || accounts != 0 {
		t.Errorf("%d accounts, %v", accounts, err)
	}
}

func count(ctx context.Context, m *market) (n int, err error) {
	for _, err := range m.ledger.Accounts(ctx) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// A pool of one connection is enough, also for calls from the body of a loop.
func TestSmallPool(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	db.SetMaxOpenConns(1)
	m, err := openMarket(ctx, db, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: settlement.ID{1}, From: "issuer", To: "buyer", Amount: 1000}}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for caller := range 8 {
		wg.Go(func() {
			for i := range 5 {
				if _, err := m.receipts.Append(ctx, []receipt.Receipt{numbered(caller*5 + i)}); err != nil {
					t.Error(err)
				}
				if _, err := m.engine.Settle(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for rec, err := range m.receipts.After(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := m.ledger.Transfer(ctx, settlement.ID(rec.Key)); !ok || err != nil {
			t.Errorf("receipt %d: %v, %v", rec.Seq, ok, err)
		}
	}
}

// More receipts than a page, some of which are promoted while they are shown.
func TestAfterAsItStood(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	if err := receiptsql.Migrate(ctx, db); err != nil {
		t.Fatal(err)
	}
	s, err := receiptsql.New(ctx, db, nil)
	if err != nil {
		t.Fatal(err)
	}
	const n = 12_000
	rs := make([]receipt.Receipt, n)
	for i := range rs {
		rs[i] = numbered(i)
		rs[i].DryRun = true
	}
	if _, err := s.Append(ctx, rs); err != nil {
		t.Fatal(err)
	}
	met := 0
	for rec, err := range s.After(ctx, 0) {
		if err != nil || rec.Key != rs[met].Key || !rec.DryRun {
			t.Fatal(met, rec, err)
		}
		if met%1000 == 0 { // one that was shown, one that was not, a new one
			for _, i := range []int{max(met-1, 0), n - 1 - met/1000, n + met} {
				if _, err := s.Append(ctx, []receipt.Receipt{numbered(i)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		met++
	}
	if met != n {
		t.Errorf("%d receipts, want %d", met, n)
	}
}
