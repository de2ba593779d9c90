package settlementpebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"weak"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

func openInside(t *testing.T) (*pebbledb.DB, *Ledger) {
	t.Helper()
	db, err := dbtest.Open("db", &kv.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	l, err := NewLedger(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	return db, l
}

func issue(i int, to string, amount uint64) settlement.Transfer {
	id := settlement.ID{31: 1}
	binary.BigEndian.PutUint64(id[:], uint64(i))
	return settlement.Transfer{ID: id, From: "issuer", To: to, Amount: amount}
}

// A commit that panics half way leaves nothing in memory of what it did not
// write, and its callers hear that the outcome is unknown.
func TestPanicInACommit(t *testing.T) {
	ctx := t.Context()
	_, l := openInside(t)
	if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(1, "a", 5)}); err != nil {
		t.Fatal(err)
	}
	l.work.ids = nil // the first transfer of the next commit panics, with its balances moved
	results, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(2, "a", 7), issue(3, "b", 1)})
	if _, ok := errors.AsType[*callback.Panic](err); !ok || !errors.Is(err, settlement.ErrUnknown) || len(results) > 0 {
		t.Errorf("%v, %v, want ErrUnknown and the panic", results, err)
	}
	results, err = l.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(2, "a", 7)})
	if err != nil || results[0] != settlement.Applied {
		t.Errorf("afterwards: %v, %v", results, err)
	}
	if got, err := l.Balance(ctx, "a"); got != 12 || err != nil {
		t.Errorf("balance %d, %v, want 12", got, err)
	}
	if err := l.Check(ctx); err != nil {
		t.Error(err)
	}
}

// Accounts that are only asked about, and refused, take no memory for ever.
func TestBalancesInMemoryAreBounded(t *testing.T) {
	ctx := t.Context()
	_, l := openInside(t)
	for i := range 3 * maxCached / 2 / 1000 {
		for j := range 1000 {
			name := fmt.Sprint(i, " ", j)
			if err := l.applyForTest(settlement.Transfer{ID: settlement.ID{1}, From: name, To: name + "x", Amount: 1}); !errors.Is(err, settlement.ErrInsufficient) {
				t.Fatal(err)
			}
		}
		if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(i, "a", 1)}); err != nil {
			t.Fatal(err)
		}
		if n := len(l.work.balances); n > maxCached {
			t.Fatalf("%d balances are kept in memory", n)
		}
	}
	if got, err := l.Balance(ctx, "a"); got != uint64(3*maxCached/2/1000) || err != nil {
		t.Errorf("balance %d, %v", got, err)
	}
}

func (l *Ledger) applyForTest(t settlement.Transfer) error {
	l.committing.Lock()
	defer l.committing.Unlock()
	_, err := l.applyOne(&t)
	return err
}

// Until the commit in progress has ended, the ledger has its namespace.
func TestCloseWaitsForCommit(t *testing.T) {
	db, l := openInside(t)
	closed := make(chan error, 1)
	l.committing.Lock()
	go func() { closed <- l.Close() }()
	for !l.closed.Load() {
		runtime.Gosched()
	}
	for range 1000 {
		if _, err := NewLedger(db, nil); !errors.Is(err, settlement.ErrLocked) {
			t.Fatalf("a second ledger beside a commit of the first: %v, want ErrLocked", err)
		}
		runtime.Gosched()
	}
	l.committing.Unlock()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := NewLedger(db, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Nothing of what callers passed stays reachable.
func TestKeepsNothingOfTheCaller(t *testing.T) {
	_, l := openInside(t)
	defer runtime.KeepAlive(l)
	ts := make([]settlement.Transfer, 100)
	for i := range ts {
		ts[i] = issue(i, fmt.Sprint("account ", i), 5)
	}
	ts[99] = settlement.Transfer{ID: settlement.ID{9}, From: "nobody", To: "a", Amount: 1}
	if _, err := l.Post(t.Context(), settlement.Lease{}, ts); !errors.Is(err, settlement.ErrInsufficient) {
		t.Fatal(err)
	}
	gone := weak.Make(&ts[0])
	ts = nil
	runtime.GC()
	if gone.Value() != nil {
		t.Error("the slice is still reachable")
	}
}

// A ledger of schema 1 has its issuer's name without a seal.
func TestUpgradeOfTheIssuersName(t *testing.T) {
	db, l := openInside(t)
	l.Close()
	b := dbtest.Inside(db).Batch()
	b.Set(issuerKey, []byte("issuer"), nil)
	b.Set([]byte{ledgerNamespace, 0}, []byte{0, 1}, nil)
	if err := dbtest.Inside(db).Commit(b); err != nil {
		t.Fatal(err)
	}
	if _, err := NewLedger(db, &LedgerOptions{Issuer: "another"}); !errors.Is(err, settlement.ErrSchema) {
		t.Errorf("under another name: %v, want ErrSchema", err)
	}
	for range 2 {
		l, err := NewLedger(db, nil)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	if _, err := dbtest.Inside(db).Get(issuerKey, func(v []byte) error { _, err := kv.Unseal(issuerKey, v); return err }); err != nil {
		t.Errorf("after opening: %v", err)
	}
}
