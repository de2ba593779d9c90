package courier_test

import (
	"context"
	"errors"
	"testing"

	"lukechampine.com/blake3"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
)

// deaf is a store that does not hear of acknowledgements: as if each flush ended
// between reward and acknowledgement.
type deaf struct{ *courierpebble.Store }

var errDeaf = errors.New("crash")

func (deaf) Move(context.Context, []courier.Move) (int, error) { return 0, errDeaf }

// A courier and a settlement ledger in one database: what is delivered again
// after a crash is not paid again, and every credit was issued.
func TestRewardOnSettlementLedger(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	const n = 600
	var p peer
	owed := uint64(0)
	amount := func(r courier.Receipt) uint64 { return uint64(r.Size) }
	// life runs one life of the node.
	life := func(use func(*courierpebble.Store, *courier.Options, settlement.Ledger)) {
		t.Helper()
		db, err := pebbledb.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		s, err := courierpebble.New(db, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		l, err := settlementpebble.NewLedger(db, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		use(s, &courier.Options{Rewarder: ledgerRewards{l}, Account: "node", Amount: amount, StopAfter: -1}, l)
		for _, account := range []string{"node", l.Issuer()} { // the issuer's is what was issued
			if got, err := l.Balance(ctx, account); err != nil || got > owed {
				t.Errorf("%s: %d, %v, owed are %d", account, got, err, owed)
			}
		}
	}
	life(func(s *courierpebble.Store, o *courier.Options, _ settlement.Ledger) {
		for _, r := range send(t, newCourier(t, s, o), n) {
			owed += amount(r)
		}
	})
	for range 3 {
		life(func(s *courierpebble.Store, o *courier.Options, _ settlement.Ledger) {
			r, err := newCourier(t, deaf{s}, o).Flush(ctx, &p)
			if !errors.Is(err, errDeaf) || r != (courier.Report{Remaining: n}) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	if len(p.got) == 0 {
		t.Fatal("nothing was delivered before the crash")
	}
	life(func(s *courierpebble.Store, o *courier.Options, l settlement.Ledger) {
		report(t, newCourier(t, s, o), &p, courier.Report{Forwarded: n})
		for _, account := range []string{"node", l.Issuer()} {
			if got, err := l.Balance(ctx, account); err != nil || got != owed {
				t.Errorf("%s: %d, %v, want %d", account, got, err, owed)
			}
		}
		report(t, newCourier(t, s, o), &p, courier.Report{})
	})
	twice := 0
	for _, times := range p.got {
		if times > 1 {
			twice++
		}
	}
	if len(p.got) != n || twice == 0 {
		t.Errorf("%d were delivered, %d of them more than once", len(p.got), twice)
	}
}

// What the ledger will never take becomes dead; it keeps no other from its
// reward. What it cannot take now stays pending.
func TestSettlementLedgerRefuses(t *testing.T) {
	ctx := t.Context()
	db, err := pebbledb.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := courierpebble.New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, err := settlementpebble.NewLedger(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := newCourier(t, s, &courier.Options{
		Rewarder: ledgerRewards{l}, Account: "node", Amount: func(courier.Receipt) uint64 { return 1 },
	})
	sent := send(t, c, 100)
	_, err = l.Post(ctx, settlement.Lease{}, []settlement.Transfer{{
		ID: blake3.Sum256([]byte("courier:" + sent[50].ID.String())), From: l.Issuer(), To: "other", Amount: 1,
	}})

	if err != nil {
		t.Fatal(err)
	}
	report(t, c, takes, courier.Report{Forwarded: 99, Rejected: 1})
	if r, err := c.Get(ctx, sent[50].ID); err != nil || r.State != courier.Dead || r.Cause != courier.Rejected {
		t.Errorf("%+v, %v", r, err)
	}
	if got, err := l.Balance(ctx, "node"); got != 99 || err != nil {
		t.Errorf("node has %d, %v, want 99", got, err)
	}

	send(t, c, 10)
	l.Close()
	if r, err := c.Flush(ctx, takes); !errors.Is(err, settlement.ErrClosed) || r != (courier.Report{Failed: 10, Remaining: 10}) {
		t.Errorf("with the ledger closed: %+v, %v", r, err)
	}
}
