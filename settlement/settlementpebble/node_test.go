package settlementpebble_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
	"github.com/computemarket/computemarket/settlement/settlementprom"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

// Two nodes see the same receipt, each is restarted, each applies it once, and
// the counters of each node, which live as long as the node, say 1.
func TestRestartIsIdempotent(t *testing.T) {
	ctx := t.Context()
	r := receipt.New("job", "buyer", "provider", 10, issued)
	for node := range 2 {
		dir := filepath.Join(t.TempDir(), fmt.Sprint("node-", node))
		metrics := settlementprom.New(nil)
		for restart := range 3 {
			m, err := openOnDisk(ctx, dir)
			if err != nil {
				t.Fatal(err)
			}
			m.engine, err = settlement.Open(ctx, m.receipts, m.ledger, m.store, &settlement.Options{Metrics: metrics})
			if err == nil {
				err = m.engine.Lead(ctx)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.receipts.Append(ctx, []receipt.Receipt{r}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := m.engine.Settle(ctx); err != nil {
					t.Fatal(err)
				}
			}
			st, err := m.engine.Status(ctx, "buyer", "provider")
			if err != nil || st.Applied != 1 || st.Balances[1].Balance != 10 {
				t.Errorf("node %d, start %d: %+v, %v", node, restart, st, err)
			}
			if err := m.close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := testutil.CollectAndCompare(metrics, strings.NewReader(`# HELP settle_applied_total Receipts that moved credits.
# TYPE settle_applied_total counter
settle_applied_total 1
`), "settle_applied_total"); err != nil {
			t.Errorf("node %d: %v", node, err)
		}
	}
}

// Concurrent settles of the same and of different receipts, on disk.
func TestConcurrentSettle(t *testing.T) {
	ctx := t.Context()
	m, err := openOnDisk(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	const workers, each = 16, 30
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				rs := []receipt.Receipt{killed(i), killed(1000 + w*each + i)}
				if _, err := m.receipts.Append(ctx, rs); err != nil {
					t.Error(err)
				}
				if _, err := m.engine.Settle(ctx); err != nil {
					t.Error(err)
				}
				for _, r := range rs {
					if is, err := m.settled(ctx, &r); err != nil || !is {
						t.Errorf("%s is settled: %v, %v", r.JobID, is, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := m.consistent(ctx, 0); err != nil {
		t.Error(err)
	}
	if got, err := m.ledger.Balance(ctx, "provider"); err != nil || got != each+workers*each {
		t.Errorf("the provider has %d, %v, want %d", got, err, each+workers*each)
	}
}

// flip flips a bit of the stored value under key.
func flip(t *testing.T, db *pebbledb.DB, key []byte, bit int) {
	t.Helper()
	b := dbtest.Inside(db).Batch()
	found, err := dbtest.Inside(db).Get(key, func(v []byte) error {
		bad := append([]byte(nil), v...)
		bad[bit/8%len(bad)] ^= 1 << (bit % 8)
		return b.Set(key, bad, nil)
	})
	if !found || err != nil {
		t.Fatalf("key %q: %v, %v", key, found, err)
	}
	if err := dbtest.Inside(db).Commit(b); err != nil {
		t.Fatal(err)
	}
}

// A damaged balance or transfer is never guessed at: what needs it fails, and
// the rest goes on.
func TestBitFlips(t *testing.T) {
	ctx := t.Context()
	move := func(n byte, from, to string, amount uint64) settlement.Transfer {
		return settlement.Transfer{ID: settlement.ID{n}, From: from, To: to, Amount: amount, Tag: "tag"}
	}
	moved := move(2, "a", "b", 10)
	for bit := 0; bit < 300; bit += 7 {
		db, err := dbtest.Open("db", &kv.Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		l, err := settlementpebble.NewLedger(db, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{
			move(1, "issuer", "a", 100), moved, move(3, "issuer", "c", 5),
		}); err != nil {
			t.Fatal(err)
		}
		flip(t, db, []byte("laa"), bit)
		flip(t, db, append([]byte("lt"), moved.ID[:]...), bit)
		l.Close()
		if l, err = settlementpebble.NewLedger(db, nil); err != nil {
			t.Fatal(err) // single entries do not close the ledger
		}
		if _, err := l.Balance(ctx, "a"); !errors.Is(err, settlement.ErrCorrupt) {
			t.Errorf("bit %d: Balance: %v, want ErrCorrupt", bit, err)
		}
		for what, ts := range map[string]settlement.Transfer{
			"from the damaged account": move(4, "a", "b", 1),
			"to the damaged account":   move(5, "b", "a", 1),
			"the damaged transfer":     moved,
		} {
			if r, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{ts}); !errors.Is(err, settlement.ErrCorrupt) {
				t.Errorf("bit %d: %s: %v, %v, want ErrCorrupt", bit, what, r, err)
			}
		}
		if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{move(6, "b", "c", 1)}); err != nil {
			t.Errorf("bit %d: between sound accounts: %v", bit, err)
		}
		db.Close()
	}
}

// A balance that is sound by itself but not in sum.
func TestBalancesThatDoNotAddUp(t *testing.T) {
	ctx := t.Context()
	db, err := pebbledb.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l, err := settlementpebble.NewLedger(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: settlement.ID{1}, From: "issuer", To: "a", Amount: 7}}); err != nil {
		t.Fatal(err)
	}
	b := dbtest.Inside(db).Batch()
	b.Delete([]byte("laa"), nil)
	if err := dbtest.Inside(db).Commit(b); err != nil {
		t.Fatal(err)
	}
	l.Close()
	for range 2 { // a refused opening holds nothing
		if _, err := settlementpebble.NewLedger(db, nil); !errors.Is(err, settlement.ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	}
	// Two that add up to what is outstanding once the sum has overflowed.
	b = dbtest.Inside(db).Batch()
	for _, key := range []string{"laa", "lab"} {
		balance := uint64(1<<63 + 3)
		if key == "lab" {
			balance++
		}
		value := binary.BigEndian.AppendUint64(nil, balance)
		sum := crc32.Checksum(append([]byte(key), value...), crc32.MakeTable(crc32.Castagnoli))
		b.Set([]byte(key), binary.BigEndian.AppendUint32(value, sum), nil)
	}
	if err := dbtest.Inside(db).Commit(b); err != nil {
		t.Fatal(err)
	}
	if _, err := settlementpebble.NewLedger(db, nil); !errors.Is(err, settlement.ErrCorrupt) || !strings.Contains(err.Error(), "64 bits") {
		t.Errorf("an overflow: %v, want ErrCorrupt", err)
	}
}

func TestDamagedState(t *testing.T) {
	ctx := t.Context()
	db, err := pebbledb.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := settlementpebble.NewStore(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	lease, st, err := s.Acquire(ctx)
	if err == nil {
		err = s.Save(ctx, lease, settlement.Change{State: st, Put: []settlement.Failure{{Seq: 1}, {Seq: 2}, {Seq: 3}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	flip(t, db, binary.BigEndian.AppendUint64([]byte("sf"), 2), 77)
	var sound []uint64
	var last error
	for f, err := range s.Failures(ctx, 0) {
		if last = err; err == nil {
			sound = append(sound, f.Seq)
		}
	}
	if !slices.Equal(sound, []uint64{1, 3}) || !errors.Is(last, settlement.ErrCorrupt) {
		t.Errorf("Failures: %v, %v, want the sound ones and ErrCorrupt", sound, last)
	}
	flip(t, db, []byte("ss"), 5)
	if _, _, err := s.Acquire(ctx); !errors.Is(err, settlement.ErrCorrupt) {
		t.Errorf("Acquire: %v, want ErrCorrupt", err)
	}
	if _, _, err := s.Load(ctx); !errors.Is(err, settlement.ErrCorrupt) {
		t.Errorf("Load: %v, want ErrCorrupt", err)
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		disk := vfs.NewMem()
		var db *pebbledb.DB
		var l *settlementpebble.Ledger
		open := func() {
			var err error
			if db, err = dbtest.Open("db", &kv.Options{FS: disk, MemTableBytes: 64 << 10}); err != nil {
				t.Fatal(err)
			}
			if l, err = settlementpebble.NewLedger(db, nil); err != nil {
				t.Fatal(err)
			}
		}
		open()
		defer func() { db.Close() }()
		var model settlementtest.Ledger
		account := rapid.SampledFrom([]string{"issuer", "a", "b", "c", ""})
		draw := rapid.Custom(func(t *rapid.T) settlement.Transfer {
			return settlement.Transfer{
				ID:     settlement.ID{rapid.ByteRange(0, 40).Draw(t, "id")},
				From:   account.Draw(t, "from"),
				To:     account.Draw(t, "to"),
				Amount: rapid.OneOf(rapid.Uint64Range(0, 20), rapid.Uint64()).Draw(t, "amount"),
			}
		})
		t.Repeat(map[string]func(*rapid.T){
			"post": func(t *rapid.T) {
				ts := rapid.SliceOfN(draw, 0, 6).Draw(t, "transfers")
				got, gerr := l.Post(ctx, settlement.Lease{}, ts)
				want, werr := model.Post(ctx, settlement.Lease{}, ts)
				if fmt.Sprint(got) != fmt.Sprint(want) || fmt.Sprint(gerr) != fmt.Sprint(werr) {
					t.Fatalf("Post: %v, %v; want %v, %v", got, gerr, want, werr)
				}
			},
			"reopen": func(*rapid.T) {
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				open()
			},
			"": func(t *rapid.T) {
				if err := settlementtest.Conserved(ctx, l); err != nil {
					t.Fatal(err)
				}
				for _, a := range []string{"issuer", "a", "b", "c"} {
					got, gerr := l.Balance(ctx, a)
					want, werr := model.Balance(ctx, a)
					if got != want || gerr != nil || werr != nil {
						t.Fatalf("balance of %q: %d, %v, want %d", a, got, gerr, want)
					}
				}
			},
		})
	})
}

// One database may also hold each store alone.
func TestDatabaseEach(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	receipts, err := receiptpebble.Open(filepath.Join(dir, "receipts"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer receipts.Close()
	var dbs [2]*pebbledb.DB
	for i := range dbs {
		if dbs[i], err = pebbledb.Open(filepath.Join(dir, fmt.Sprint(i)), nil); err != nil {
			t.Fatal(err)
		}
		defer dbs[i].Close()
	}
	ledger, err := settlementpebble.NewLedger(dbs[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	store, err := settlementpebble.NewStore(dbs[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &market{receipts: receipts, ledger: ledger, store: store}
	for i := range steps {
		if m.engine == nil || i == steps/2 {
			if err := m.open(ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.step(ctx, 1, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(m.finish(ctx, 1), m.consistent(ctx, 1)); err != nil {
		t.Error(err)
	}
}

func Example() {
	ctx := context.Background()
	db, err := dbtest.Open("db", &kv.Options{FS: vfs.NewMem()}) // nil: on disk
	if err != nil {
		panic(err)
	}
	defer db.Close()
	receipts, err1 := receiptpebble.New(db, nil)
	ledger, err2 := settlementpebble.NewLedger(db, nil)
	state, err3 := settlementpebble.NewStore(db, nil)
	if err := errors.Join(err1, err2, err3); err != nil {
		panic(err)
	}
	// Real from the first receipt; a later start finds the engine as it was left.
	engine, err := settlement.Open(ctx, receipts, ledger, state, &settlement.Options{Start: settlement.After(0)})
	if err != nil {
		panic(err)
	}
	if err := engine.Lead(ctx); err != nil {
		panic(err)
	}

	ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: settlement.ID{1}, From: ledger.Issuer(), To: "alice", Amount: 1000}})
	receipts.Append(ctx, []receipt.Receipt{receipt.New("job-7", "alice", "bob", 250, issued)})
	pass, err := engine.Settle(ctx)
	fmt.Println(pass.Applied, err)
	status, err := engine.Status(ctx, "alice", "bob")
	fmt.Println(status.Mode, status.Balances, err)
	// Output:
	// 1 <nil>
	// real [{alice 750} {bob 250}] <nil>
}

// Two ledgers on one database would each trust its own balances.
func TestOneOfEach(t *testing.T) {
	ctx := t.Context()
	db, err := pebbledb.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var last []interface{ Close() error }
	for range 2 {
		r, e1 := receiptpebble.New(db, nil)
		l, e2 := settlementpebble.NewLedger(db, nil)
		s, e3 := settlementpebble.NewStore(db, nil)
		if err := errors.Join(e1, e2, e3); err != nil {
			t.Fatal(err)
		}
		_, e1 = receiptpebble.New(db, nil)
		_, e2 = settlementpebble.NewLedger(db, nil)
		_, e3 = settlementpebble.NewStore(db, nil)
		if !errors.Is(e1, receipt.ErrLocked) || !errors.Is(e2, settlement.ErrLocked) || !errors.Is(e3, settlement.ErrLocked) {
			t.Errorf("a second of each: %v, %v, %v, want ErrLocked", e1, e2, e3)
		}
		last = []interface{ Close() error }{r, l, s}
		for _, c := range last {
			if err := errors.Join(c.Close(), c.Close()); err != nil {
				t.Error(err)
			}
		}
		if _, err := r.Append(ctx, []receipt.Receipt{killed(1)}); !errors.Is(err, receipt.ErrClosed) {
			t.Errorf("Append: %v, want ErrClosed", err)
		}
		if _, err := l.Post(ctx, settlement.Lease{}, nil); err != nil {
			t.Errorf("Post of nothing: %v", err)
		}
		if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{issueFor(1, 1)}); !errors.Is(err, settlement.ErrClosed) {
			t.Errorf("Post: %v, want ErrClosed", err)
		}
		if _, err := l.Balance(ctx, "a"); !errors.Is(err, settlement.ErrClosed) {
			t.Errorf("Balance: %v, want ErrClosed", err)
		}
		if _, _, err := s.Acquire(ctx); !errors.Is(err, settlement.ErrClosed) {
			t.Errorf("Acquire: %v, want ErrClosed", err)
		}
		if _, _, err := s.Load(ctx); !errors.Is(err, settlement.ErrClosed) {
			t.Errorf("Load: %v, want ErrClosed", err)
		}
		for _, err := range s.Failures(ctx, 0) {
			if !errors.Is(err, settlement.ErrClosed) {
				t.Errorf("Failures: %v, want ErrClosed", err)
			}
		}
	}
}
