package settlementpebble_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
)

// TestMatchToLedger runs orders through book, loop, receipt log, engine and
// ledger, all on one database. While receipts are appended and settled the power
// goes; what was synced, and some of what was not, is what the next start finds.
// The first life is a dry run, the others are real. In the end every final match
// has been paid exactly once, a dry run never, no unit was sold twice, and no
// credit was made or lost.
func TestMatchToLedger(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { matchToLedger(t, seed) })
	}
}

const funds = 1_000_000 // of each buyer

func matchToLedger(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	var orders []match.Order
	for i := range 160 {
		o := match.Order{
			ID:      fmt.Sprint("order-", i),
			Account: fmt.Sprint([2]string{"buyer-", "provider-"}[i%2], rng.IntN(4)),
			Side:    match.Side(1 + i%2),
			Lane:    admission.Lanes[i/2%2],
			Units:   1 + rng.Uint64N(9),
			Price:   [2]uint64{20, 10}[i%2] + rng.Uint64N(5), // all cross
		}
		orders = append(orders, o)
	}
	final := make(map[receipt.Key]bool) // what OnFinal told, and whether it was a dry run
	disk := vfs.NewCrashableMem()
	for life := 0; ; life++ {
		rng.Shuffle(len(orders), func(i, j int) { orders[i], orders[j] = orders[j], orders[i] })
		cut := 10 + rng.IntN(8)
		if life == 4 {
			cut = -1 // to the end
		}
		disk = live(t, disk, orders, final, life > 0, cut, rng)
		if disk == nil {
			break
		}
	}
}

// live is the life of a node from start to the power cut, right after the
// cut-th match became final. It returns the disk as it is then; or nil if the
// node lived until there was nothing left to match, and all was right.
func live(t *testing.T, disk *vfs.MemFS, orders []match.Order, final map[receipt.Key]bool, real bool, cut int, rng *rand.Rand) (after *vfs.MemFS) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	db, err := dbtest.Open("db", &kv.Options{FS: disk, MemTableBytes: 64 << 10, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	log, e1 := receiptpebble.New(db, nil)
	ledger, e2 := settlementpebble.NewLedger(db, nil)
	store, e3 := settlementpebble.NewStore(db, nil)
	if err := errors.Join(e1, e2, e3); err != nil {
		t.Fatal(err)
	}
	var issue []settlement.Transfer
	for i := range 4 {
		issue = append(issue, settlement.Transfer{
			ID: settlement.ID{1, byte(i)}, From: ledger.Issuer(), To: fmt.Sprint("buyer-", i), Amount: funds,
		})
	}
	if _, err := ledger.Post(ctx, settlement.Lease{}, issue); err != nil { // a duplicate from the second life on
		t.Fatal(err)
	}
	engine, err := settlement.Open(ctx, log, ledger, store, &settlement.Options{BatchSize: 5})
	if err == nil {
		err = engine.Lead(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if real && engine.Mode() == settlement.DryRun {
		if err := engine.Arm(ctx, settlement.After(0)); err != nil {
			t.Fatal(err)
		}
	}
	if want := map[bool]settlement.Mode{false: settlement.DryRun, true: settlement.Real}[real]; engine.Mode() != want {
		t.Fatalf("the engine is in %v, want %v", engine.Mode(), want)
	}

	// What was told final before the power went is in the log.
	logged := records(t, log)
	for key := range final {
		if _, ok := logged[key]; !ok {
			t.Errorf("a final match has no receipt after the restart")
		}
	}
	left, err := match.Resume(ctx, log, 0, orders)
	if err != nil {
		t.Fatal(err)
	}
	book, err := match.NewBook(nil)
	if err != nil {
		t.Fatal(err)
	}
	done := func() bool {
		for _, lane := range admission.Lanes {
			if s := book.Stats(lane); s.Bids > 0 && s.Asks > 0 { // a match in flight keeps both in the book
				return false
			}
		}
		return true
	}
	over := make(chan struct{})
	var once sync.Once
	n := 0
	failed := make(map[string]bool)
	var mu sync.Mutex
	loop, err := match.NewLoop(book, log, &match.LoopOptions{
		Batch: 6, Parallel: 4, ReturnAfter: time.Millisecond, Engine: engine,
		Finalize: func(_ context.Context, m match.Match) error {
			mu.Lock()
			defer mu.Unlock()
			if len(m.Bid)%2 == 0 || failed[m.Bid] {
				return nil
			}
			failed[m.Bid] = true
			return errors.New("the first try fails")
		},
		OnFinal: func(_ match.Match, r receipt.Receipt) {
			if after != nil {
				return // the power is off: nobody hears it
			}
			final[r.Key] = r.DryRun
			if r.DryRun == real {
				t.Errorf("%s: dry run %v", r.JobID, r.DryRun)
			}
			if n++; n == cut {
				after = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			}
			if after != nil || done() {
				once.Do(func() { close(over) })
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range left {
		if _, err := book.Submit(o, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := loop.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := engine.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	if !done() {
		<-over
	}
	stop()
	wg.Wait()
	if after != nil {
		return after
	}
	paidOnce(t, orders, log, ledger, engine, final)
	return nil
}

// records reads the whole log.
func records(t *testing.T, log receipt.Store) map[receipt.Key]receipt.Record {
	all := make(map[receipt.Key]receipt.Record)
	for rec, err := range log.After(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		all[rec.Key] = rec
	}
	return all
}

// paidOnce settles what is owed and compares orders, receipts and balances.
func paidOnce(t *testing.T, orders []match.Order, log receipt.Store, ledger *settlementpebble.Ledger, engine *settlement.Engine, final map[receipt.Key]bool) {
	ctx := t.Context()
	if err := engine.Lead(ctx); err != nil { // again: Run has resigned
		t.Fatal(err)
	}
	if _, err := engine.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]uint64)
	for i := range 4 {
		want[fmt.Sprint("buyer-", i)] = funds
	}
	wanted := make(map[string]uint64)
	var sides [len(admission.Lanes)][2]uint64
	for _, o := range orders {
		wanted[o.ID] = o.Units
		sides[o.Lane-1][o.Side-1] += o.Units
	}
	var sold, real, dry uint64
	type unit struct {
		bid string
		n   uint64
	}
	named := make(map[unit]bool)
	logged := records(t, log)
	for key, rec := range logged {
		j, ok := match.ParseJob(rec.JobID)
		if !ok {
			t.Fatalf("job id %q", rec.JobID)
		}
		for n := range j.Units {
			u := unit{j.Bid, j.From + n}
			if named[u] {
				t.Errorf("unit %d of %s has two receipts", u.n, u.bid)
			}
			named[u] = true
		}
		wanted[j.Bid] -= j.Units
		wanted[j.Ask] -= j.Units
		sold += j.Units
		tr, paid, err := ledger.Transfer(ctx, settlement.ID(key))
		if err != nil {
			t.Fatal(err)
		}
		if paid == rec.DryRun {
			t.Errorf("%s: dry run %v, paid %v", rec.JobID, rec.DryRun, paid)
		}
		if rec.DryRun {
			dry++
			continue
		}
		real++
		if tr.From != rec.Buyer || tr.To != rec.Provider || tr.Amount != rec.QuotePrice {
			t.Errorf("%s: paid as %+v", rec.JobID, tr)
		}
		want[rec.Buyer] -= rec.QuotePrice
		want[rec.Provider] += rec.QuotePrice
	}
	if real < 10 || dry < 10 {
		t.Errorf("%d real receipts and %d dry runs: the test shows little", real, dry)
	}
	for id, n := range wanted {
		if int64(n) < 0 {
			t.Errorf("%s: %d units too many", id, -int64(n))
		}
	}
	if most := min(sides[0][0], sides[0][1]) + min(sides[1][0], sides[1][1]); sold != most {
		t.Errorf("%d units have receipts, %d could match", sold, most)
	}
	for key, dryRun := range final {
		if rec, ok := logged[key]; !ok || rec.DryRun != dryRun {
			t.Errorf("final match %v: in the log %v, %+v", key, ok, rec)
		}
	}
	got := make(map[string]uint64)
	var sum uint64
	for a, err := range ledger.Accounts(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if a.Name != ledger.Issuer() {
			got[a.Name] = a.Balance
			sum += a.Balance
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("balances %v\nreceipts say %v", got, want)
	}
	if sum != 4*funds {
		t.Errorf("%d credits, %d were issued", sum, 4*funds)
	}
	if st, err := engine.Status(ctx); err != nil || st.Applied != real || st.Failed != 0 || st.Owed != 0 {
		t.Errorf("status %+v, %v, want %d applied", st, err, real)
	}
}
