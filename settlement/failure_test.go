package settlement_test

import (
	"errors"
	"math"
	"testing"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
)

func TestInsufficientFundsRevert(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{})
	m.issue("rich", 100)
	m.real()
	poor := job(2, "poor", 10)
	m.append(job(1, "rich", 10), poor, job(3, "rich", 10), job(4, "rich", 10))
	m.status(0, 0, 4)
	m.settle(settlement.Pass{Applied: 1, Failed: 1})
	m.want(settlement.DryRun)
	if s := m.status(1, 1, 2); s.Reason == "" {
		t.Error("the status gives no reason")
	}
	if m.failed[settlement.ReasonInsufficient] != 1 {
		t.Errorf("failed counts %v", m.failed)
	}
	var archive []settlement.Failure
	for f, err := range m.Failures(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		archive = append(archive, f)
	}
	if len(archive) != 1 || archive[0].Receipt.Key != poor.Key || archive[0].Reason != settlement.ReasonInsufficient {
		t.Errorf("archive %+v", archive)
	}
	m.settle(settlement.Pass{})
	if err := m.Retry(ctx, poor.Key); !errors.Is(err, settlement.ErrMode) {
		t.Errorf("Retry in DryRun: %v, want ErrMode", err)
	}

	// Top up and arm again: the rest settles, the archived one only by Retry.
	m.restart()
	m.issue("poor", 10)
	m.real()
	m.settle(settlement.Pass{})
	m.balance("rich", 70)
	m.balance("poor", 10)
	m.status(3, 1, 0)
	if err := m.Retry(ctx, poor.Key); err != nil {
		t.Error(err)
	}
	m.balance("poor", 0)
	m.status(4, 0, 0)
	if err := m.Retry(ctx, poor.Key); !errors.Is(err, settlement.ErrNotArchived) {
		t.Errorf("a second Retry: %v, want ErrNotArchived", err)
	}
	if err := m.Retry(ctx, receipt.Key{}); !errors.Is(err, settlement.ErrNotArchived) {
		t.Errorf("Retry of an unknown key: %v, want ErrNotArchived", err)
	}
}

func TestRetryThatFailsAgain(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{Policy: settlement.Quarantine})
	m.real()
	poor := job(1, "poor", 10)
	m.append(poor)
	m.settle(settlement.Pass{Failed: 1})
	if err := m.Retry(ctx, poor.Key); !errors.Is(err, settlement.ErrInsufficient) {
		t.Errorf("Retry: %v, want ErrInsufficient", err)
	}
	m.want(settlement.Real)
	m.status(0, 1, 0)
	for f, err := range m.Failures(ctx) {
		if err != nil || f.Tries != 2 {
			t.Errorf("archive has %+v, %v", f, err)
		}
	}
}

func TestQuarantineGoesOn(t *testing.T) {
	m := newMarket(t, settlement.Options{Policy: settlement.Quarantine, BatchSize: 4})
	m.issue("rich", 100)
	m.real()
	for i := range 10 {
		m.append(job(2*i, "poor", 10), job(2*i+1, "rich", 10))
	}
	m.settle(settlement.Pass{Applied: 10, Failed: 10})
	m.want(settlement.Real)
	m.balance("rich", 0)
	m.balance("provider", 100)
	m.status(10, 10, 0)
}

// The last receipts of a batch fail, also the only one.
func TestFailureAtTheEnd(t *testing.T) {
	for _, policy := range []settlement.FailurePolicy{settlement.RevertToDryRun, settlement.Quarantine} {
		m := newMarket(t, settlement.Options{Policy: policy})
		m.issue("rich", 10)
		m.real()
		m.append(job(1, "poor", 1))
		m.settle(settlement.Pass{Failed: 1})
		m.status(0, 1, 0)
		if policy == settlement.RevertToDryRun {
			m.real()
		}
		m.append(job(2, "rich", 1), dry(job(3, "rich", 1)), job(4, "poor", 1), dry(job(5, "rich", 1)))
		m.settle(settlement.Pass{Applied: 1, Failed: 1})
		m.status(1, 2, 0)
	}
}

// A receipt must not reach into the issuing account: it would make credits.
func TestIssuerNamedByReceipt(t *testing.T) {
	m := newMarket(t, settlement.Options{Policy: settlement.Quarantine})
	m.issue("buyer", 100)
	m.real()
	m.append(job(1, "buyer", 10),
		receipt.New("mint", "issuer", "provider", 1000, issued),
		receipt.New("burn", "buyer", "issuer", 10, issued),
		job(2, "buyer", 10))
	m.settle(settlement.Pass{Applied: 2, Failed: 2})
	m.balance("provider", 20)
	m.balance("issuer", 100)
	if m.failed[settlement.ReasonIssuer] != 2 {
		t.Errorf("failed counts %v", m.failed)
	}
}

func TestOverflowAndConflictFail(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{Policy: settlement.Quarantine})
	m.issue("buyer", math.MaxUint64)
	m.real()
	taken := job(1, "buyer", 10)
	other := settlement.TransferFor(&taken)
	other.Amount = 11
	if _, err := m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{other}); err != nil {
		t.Fatal(err)
	}
	m.append(taken, job(2, "buyer", math.MaxUint64))
	m.settle(settlement.Pass{Failed: 2})
	if m.failed[settlement.ReasonConflict] != 1 || m.failed[settlement.ReasonInsufficient] != 1 {
		t.Errorf("failed counts %v", m.failed)
	}
}
