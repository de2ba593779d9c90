package settlementpebble_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/crashtest"
	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

var crashPoints = flag.Int("crashpoints", 6000, "points at which TestCrash crashes")

var issued = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// A market is receipts, ledger and engine on one database or on models. The
// crash tests run the same steps on both.
type market struct {
	receipts receipt.Store
	ledger   settlement.Ledger
	store    settlement.Store
	engine   *settlement.Engine
	close    func() error
}

// plant replaces parts of a market by broken ones.
type plant func(*market)

func openMarket(ctx context.Context, disk vfs.FS, seed uint64, plants ...plant) (*market, error) {
	db, err := dbtest.Open("db", &kv.Options{
		FS: disk, MemTableBytes: 32 << 10, CacheBytes: 1 << 20,
	})
	if err != nil {
		return nil, err
	}
	m := &market{close: db.Close}
	var e1, e2, e3 error
	m.receipts, e1 = receiptpebble.New(db, nil)
	m.ledger, e2 = settlementpebble.NewLedger(db, nil)
	m.store, e3 = settlementpebble.NewStore(db, nil)
	if err = errors.Join(e1, e2, e3); err == nil {
		for _, p := range plants {
			p(m)
		}
		err = m.open(ctx, seed)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return m, nil
}

func modelMarket(ctx context.Context, seed uint64) (*market, error) {
	m := &market{
		receipts: new(receipttest.Mem), ledger: new(settlementtest.Ledger), store: new(settlementtest.Store),
		close: func() error { return nil },
	}
	return m, m.open(ctx, seed)
}

func (m *market) open(ctx context.Context, seed uint64) (err error) {
	m.engine, err = settlement.Open(ctx, m.receipts, m.ledger, m.store, &settlement.Options{
		Policy: settlement.FailurePolicy(seed % 2), BatchSize: 5,
	})
	if err == nil {
		err = m.engine.Lead(ctx)
	}
	return err
}

const steps = 24

// step is number i of the steps that a seed stands for: credits are issued,
// receipts appended (dry, for real, promoted; of buyers with and without
// funds), all is settled, and an engine that went back to DryRun is armed again.
func (m *market) step(ctx context.Context, seed uint64, i int) error {
	rng := rand.New(rand.NewPCG(seed, uint64(i)))
	switch {
	case i%4 == 0:
		_, err := m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{issueFor(seed, i)})
		return err
	case i%4 == 1 || rng.IntN(3) == 0:
		_, err := m.receipts.Append(ctx, appendedAt(seed, i))
		return err
	}
	if m.engine.Mode() == settlement.DryRun {
		if err := m.engine.Arm(ctx, settlement.After(0)); err != nil {
			return err
		}
	}
	_, err := m.engine.Settle(ctx)
	return err
}

func issueFor(seed uint64, i int) settlement.Transfer {
	id := settlement.ID{0: byte(seed), 1: byte(seed >> 8), 2: byte(i), 31: 1}
	return settlement.Transfer{ID: id, From: "issuer", To: "rich", Amount: 1000}
}

func appendedAt(seed uint64, i int) []receipt.Receipt {
	name := func(kind, buyer string, i int) receipt.Receipt {
		return receipt.New(fmt.Sprintf("%s-%d-%d", kind, seed, i), buyer, "provider", uint64(i), issued)
	}
	dry := name("dry", "rich", i)
	dry.DryRun = true
	rs := []receipt.Receipt{name("a", "rich", i), dry, name("b", "rich", i)}
	if rand.New(rand.NewPCG(seed, uint64(i))).IntN(2) == 0 {
		rs = append(rs, name("poor", "poor", i), name("c", "rich", i))
	}
	if i >= 4 {
		rs = append(rs, name("dry", "rich", i-4)) // promoted, if it is there
	}
	return rs
}

func work(plants ...plant) crashtest.Work {
	return func(disk vfs.FS, seed uint64, ack func()) error {
		ctx := context.Background()
		m, err := openMarket(ctx, disk, seed, plants...)
		if err != nil {
			return err
		}
		defer m.close()
		for i := range steps {
			if err := m.step(ctx, seed, i); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
			ack()
		}
		return m.close()
	}
}

func check(disk vfs.FS, seed uint64, acked int) error {
	ctx := context.Background()
	model, err := modelMarket(ctx, seed)
	if err != nil {
		return err
	}
	for i := range acked {
		if err := model.step(ctx, seed, i); err != nil {
			return err
		}
	}
	m, err := openMarket(ctx, disk, seed)
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.nothingLost(ctx, model); err != nil {
		return fmt.Errorf("after the crash: %w", err)
	}
	if err := m.consistent(ctx, seed); err != nil {
		return fmt.Errorf("after the crash: %w", err)
	}
	if err := m.finish(ctx, seed); err != nil {
		return fmt.Errorf("carrying on: %w", err)
	}
	return m.close()
}

// nothingLost checks that all that was acknowledged is there: the receipts and
// the transfers of the model.
func (m *market) nothingLost(ctx context.Context, model *market) error {
	for rec, err := range model.receipts.After(ctx, 0) {
		if err != nil {
			return err
		}
		got, err := m.receipts.Get(ctx, rec.Key)
		if err != nil || got.DryRun && !rec.DryRun {
			return fmt.Errorf("receipt %s (dry run %v) is %+v, %v", rec.JobID, rec.DryRun, got, err)
		}
		want, err := model.settled(ctx, &rec.Receipt)
		if err != nil {
			return err
		}
		if is, err := m.settled(ctx, &rec.Receipt); err != nil || want && !is {
			return fmt.Errorf("receipt %s was settled and is not any more, %v", rec.JobID, err)
		}
	}
	return nil
}

// settled asks the ledger whether it has applied the receipt's transfer,
// without applying it.
func (m *market) settled(ctx context.Context, r *receipt.Receipt) (bool, error) {
	probe := settlement.TransferFor(r)
	probe.Tag = "probe"
	probe.From, probe.Amount = "nobody", 1
	_, err := m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{probe})
	switch {
	case errors.Is(err, settlement.ErrConflict):
		return true, nil
	case errors.Is(err, settlement.ErrInsufficient):
		return false, nil
	}
	return false, fmt.Errorf("probe: %w", err)
}

// consistent checks balances against transfers and receipts, and the archive
// and the cursor against both.
func (m *market) consistent(ctx context.Context, seed uint64) error {
	if err := settlementtest.Conserved(ctx, m.ledger); err != nil {
		return err
	}
	_, state, err := m.store.Acquire(ctx)
	if err != nil {
		return err
	}
	archived := map[uint64]bool{}
	for f, err := range m.store.Failures(ctx, 0) {
		if err != nil {
			return err
		}
		if archived[f.Seq] = true; f.Seq > state.Cursor {
			return fmt.Errorf("number %d is archived, and the cursor at %d", f.Seq, state.Cursor)
		}
	}
	if uint64(len(archived)) != state.Failed {
		return fmt.Errorf("the archive has %d, the state says %d", len(archived), state.Failed)
	}
	var paid uint64
	for rec, err := range m.receipts.After(ctx, 0) {
		if err != nil {
			return err
		}
		settled, err := m.settled(ctx, &rec.Receipt)
		switch {
		case err != nil:
			return err
		case settled && rec.DryRun:
			return fmt.Errorf("dry run %s was settled", rec.JobID)
		case settled && archived[rec.Seq]:
			return fmt.Errorf("archived receipt %s was settled", rec.JobID)
		case !settled && !rec.DryRun && rec.Seq <= state.Cursor && !archived[rec.Seq]:
			return fmt.Errorf("the cursor is at %d, and number %d, %s, not settled", state.Cursor, rec.Seq, rec.JobID)
		case settled:
			paid += rec.QuotePrice
		}
	}
	got, err := m.ledger.Balance(ctx, "provider")
	if err != nil || got != paid {
		return fmt.Errorf("the provider has %d, %v, for receipts of %d", got, err, paid)
	}
	return m.open(ctx, seed) // Acquire has fenced the engine
}

// finish repeats all steps, tops the poor buyer up, and settles everything.
func (m *market) finish(ctx context.Context, seed uint64) error {
	for i := range steps {
		if err := m.step(ctx, seed, i); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	top := settlement.Transfer{ID: settlement.ID{9}, From: "issuer", To: "poor", Amount: 1000}
	if _, err := m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{top}); err != nil {
		return err
	}
	if m.engine.Mode() == settlement.DryRun {
		if err := m.engine.Arm(ctx, settlement.After(0)); err != nil {
			return err
		}
	}
	if got, err := m.engine.Settle(ctx); err != nil || got.Failed > 0 {
		return fmt.Errorf("Settle: %+v, %w", got, err)
	}
	for f, err := range m.engine.Failures(ctx) {
		if err == nil {
			err = m.engine.Retry(ctx, f.Receipt.Key)
		}
		if err != nil {
			return err
		}
	}
	if err := m.consistent(ctx, seed); err != nil {
		return err
	}
	for rec, err := range m.receipts.After(ctx, 0) {
		if err != nil {
			return err
		}
		if settled, err := m.settled(ctx, &rec.Receipt); err != nil || settled == rec.DryRun {
			return fmt.Errorf("in the end %s (dry run %v) is settled: %v, %v", rec.JobID, rec.DryRun, settled, err)
		}
	}
	return nil
}

func TestCrash(t *testing.T) {
	points := *crashPoints
	if testing.Short() {
		points = 200
	}
	crashtest.Crash(t, points, work(), check)
}

func TestFail(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 23
	}
	for _, f := range crashtest.Faults {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			crashtest.Fail(t, f, step, work(), check)
		})
	}
}

// Each Save is durable when it returns, with every Advance before it.
func TestStoreCrash(t *testing.T) {
	ctx := context.Background()
	open := func(disk vfs.FS) (*pebbledb.DB, *settlementpebble.Store, error) {
		db, err := dbtest.Open("db", &kv.Options{FS: disk, MemTableBytes: 32 << 10})
		if err != nil {
			return nil, nil, err
		}
		s, err := settlementpebble.NewStore(db, nil)
		if err != nil {
			db.Close()
		}
		return db, s, err
	}
	crashtest.Crash(t, 300, func(disk vfs.FS, _ uint64, ack func()) error {
		db, s, err := open(disk)
		if err != nil {
			return err
		}
		defer db.Close()
		lease, st, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		for st.Cursor = 1; st.Cursor <= 30; st.Cursor++ {
			st.Mode = settlement.Armed
			if err := s.Advance(ctx, lease, st); err != nil {
				return err
			}
			st.Mode = settlement.DryRun
			if err := s.Save(ctx, lease, settlement.Change{State: st, Put: []settlement.Failure{{Seq: st.Cursor}}}); err != nil {
				return err
			}
			ack()
		}
		return nil
	}, func(disk vfs.FS, _ uint64, acked int) error {
		db, s, err := open(disk)
		if err != nil {
			return err
		}
		defer db.Close()
		_, st, err := s.Acquire(ctx)
		if err != nil {
			return err
		}
		archived := 0
		for _, err := range s.Failures(ctx, 0) {
			if err != nil {
				return err
			}
			archived++
		}
		saved := int(st.Cursor)
		if st.Mode == settlement.Armed {
			saved-- // the Advance alone
		}
		if saved < acked || archived != saved {
			return fmt.Errorf("%d saved, %d archived, %d acknowledged", saved, archived, acked)
		}
		return nil
	})
}

// cursorFirst moves the cursor before the transfers are posted.
type cursorFirst struct {
	settlement.Ledger
	m *market
}

func (c cursorFirst) Post(ctx context.Context, lease settlement.Lease, ts []settlement.Transfer) ([]settlement.Result, error) {
	if len(ts) > 0 && ts[0].From != "issuer" && c.m.engine != nil {
		if last, err := c.m.receipts.Get(ctx, receipt.Key(ts[len(ts)-1].ID)); err == nil {
			if s, ok := c.m.store.(*recording); ok {
				st := s.last
				st.Cursor = max(st.Cursor, last.Seq)
				if err := s.Store.Save(ctx, lease, settlement.Change{State: st}); err != nil {
					return nil, err
				}
			}
		}
	}
	return c.Ledger.Post(ctx, lease, ts)
}

// recording remembers the state.
type recording struct {
	settlement.Store
	last settlement.State
}

func (r *recording) Acquire(ctx context.Context) (settlement.Lease, settlement.State, error) {
	lease, st, err := r.Store.Acquire(ctx)
	r.last = st
	return lease, st, err
}

func (r *recording) Save(ctx context.Context, lease settlement.Lease, c settlement.Change) error {
	r.last = c.State
	return r.Store.Save(ctx, lease, c)
}

func (r *recording) Advance(ctx context.Context, lease settlement.Lease, st settlement.State) error {
	r.last = st
	return r.Store.Advance(ctx, lease, st)
}

// archiveApart writes the archive after the mode.
type archiveApart struct{ settlement.Store }

func (a archiveApart) Save(ctx context.Context, lease settlement.Lease, c settlement.Change) error {
	put := c.Put
	c.Put = nil
	if err := a.Store.Save(ctx, lease, c); err != nil || len(put) == 0 {
		return err
	}
	return a.Store.Save(ctx, lease, settlement.Change{State: c.State, Put: put})
}

// promoteLost takes a promoted receipt for a duplicate.
type promoteLost struct{ receipt.Store }

func (p promoteLost) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	fresh := []receipt.Receipt{}
	for _, r := range rs {
		if old, err := p.Get(ctx, r.Key); err != nil || !old.DryRun {
			fresh = append(fresh, r)
		}
	}
	if _, err := p.Store.Append(ctx, fresh); err != nil {
		return nil, err
	}
	return make([]receipt.Status, len(rs)), nil
}

// The crash test must catch each of these.
func TestCrashCatches(t *testing.T) {
	for name, w := range map[string]crashtest.Work{
		"acknowledge before sync": func(disk vfs.FS, seed uint64, ack func()) error {
			return work()(crashtest.NoSync(disk), seed, ack)
		},
		"cursor before post": work(func(m *market) {
			m.store = &recording{Store: m.store}
			m.ledger = cursorFirst{m.ledger, m}
		}),
		"archive outside the mode change": work(func(m *market) { m.store = archiveApart{m.store} }),
		"promote lost":                    work(func(m *market) { m.receipts = promoteLost{m.receipts} }),
	} {
		t.Run(name, func(t *testing.T) {
			n, err := crashtest.FindCrash(5000, w, check)
			if err == nil {
				t.Errorf("no crash point of %d fails", n)
			}
			t.Logf("point %d: %v", n, err)
		})
	}
}
