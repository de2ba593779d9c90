package settlement_test

import (
	"context"
	"errors"
	"testing"

	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

// forgetful writes, and cannot tell.
type forgetful struct{ *settlementtest.Store }

func (f forgetful) Save(ctx context.Context, s settlement.State, put []settlement.Failure, drop []uint64) error {
	return errors.Join(f.Store.Save(ctx, s, put, drop), settlement.ErrUnknown)
}

// An engine that does not know what was saved does nothing more: a failure that
// is in the archive would be settled beside it.
func TestUnknownSave(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{Policy: settlement.Quarantine})
	m.real()
	e, err := settlement.Open(ctx, &m.receipts, &m.ledger, forgetful{&m.store}, &m.opts)
	if err != nil {
		t.Fatal(err)
	}
	poor := job(1, "poor", 10)
	m.append(poor)
	if _, err := e.Settle(ctx); !errors.Is(err, settlement.ErrStale) || !errors.Is(err, settlement.ErrUnknown) {
		t.Fatalf("Settle: %v", err)
	}
	m.issue("poor", 10)
	if _, err := e.Settle(ctx); !errors.Is(err, settlement.ErrStale) {
		t.Fatalf("Settle again: %v", err)
	}
	if err := e.Run(ctx); !errors.Is(err, settlement.ErrStale) {
		t.Fatalf("Run: %v", err)
	}
	m.balance("poor", 10)
	m.restart() // which reads
	m.status(0, 1, 0)
	if err := m.Retry(ctx, poor.Key); err != nil {
		t.Fatal(err)
	}
	m.status(1, 0, 0)
	m.balance("poor", 0)
}
