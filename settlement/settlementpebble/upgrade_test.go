package settlementpebble_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

// testdata/first was written by the first release (commit 7e3668e): 41 receipts of
// which one was promoted, 31 settled and 4 archived; armed, with 90 minutes less a
// moment to go.
func TestFirstRelease(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/first")); err != nil {
		t.Fatal(err)
	}
	for start := range 2 {
		db, err := pebbledb.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		receipts, e1 := receiptpebble.New(db, nil)
		ledger, e2 := settlementpebble.NewLedger(db, nil)
		store, e3 := settlementpebble.NewStore(db, nil)
		if err := errors.Join(e1, e2, e3); err != nil {
			t.Fatal(err)
		}
		engine, err := settlement.Open(ctx, receipts, ledger, store, &settlement.Options{Start: settlement.After(0)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := engine.Status(ctx, "alice", "bob", "dora")
		left, armed := s.Activation.Remaining()
		if err != nil || s.Mode != settlement.Armed || !armed || left > 90*time.Minute || left < 89*time.Minute ||
			s.Applied != 31 || s.Failed != 4 || s.Owed != 0 || s.Height != 77 || s.Outstanding != 999 || !s.Standby {
			t.Errorf("start %d: %+v, %v", start, s, err)
		}
		if b := s.Balances; b[0].Balance != 354 || b[1].Balance != 641 || b[2].Balance != 4 {
			t.Errorf("start %d: %+v", start, b)
		}
		if err := errors.Join(settlementtest.Conserved(ctx, ledger), engine.Lead(ctx)); err != nil {
			t.Fatal(err)
		}
		archived := 0
		for f, err := range engine.Failures(ctx) {
			if err != nil || f.Receipt.Buyer != "poor" || f.Reason != settlement.ReasonInsufficient {
				t.Errorf("%+v, %v", f, err)
			}
			archived++
		}
		if archived != 4 || engine.Mode() != settlement.Armed {
			t.Errorf("%d archived, mode %v", archived, engine.Mode())
		}
		if err := errors.Join(engine.Resign(ctx), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
