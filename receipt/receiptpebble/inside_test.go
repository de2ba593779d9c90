package receiptpebble

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

func openInside(t *testing.T) (*pebbledb.DB, *Store) {
	t.Helper()
	db, err := dbtest.Open("db", &kv.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	return db, s
}

func numbered(i int) receipt.Receipt {
	return receipt.New(fmt.Sprint("job ", i), "buyer", "provider", 1, time.Unix(1, 0))
}

// Who shared a commit that panicked hears so, and that the outcome is unknown;
// the store goes on.
func TestPanicInACommit(t *testing.T) {
	_, s := openInside(t)
	broken := &request{receipts: []receipt.Receipt{numbered(-1), numbered(-2)}, statuses: make([]receipt.Status, 1)}
	for try := 0; ; try++ {
		if try == 1000 {
			t.Fatal("never did the two share a commit")
		}
		var wg sync.WaitGroup
		var shared error
		s.writing.Lock() // the first is in its commit, and the others gather
		wg.Go(func() { s.Append(t.Context(), []receipt.Receipt{numbered(0)}) })
		for range 100 {
			runtime.Gosched()
		}
		wg.Go(func() {
			if err := s.appends.Do(context.Background(), broken); err == nil {
				t.Error("a panic is success")
			}
		})
		wg.Go(func() { _, shared = s.Append(t.Context(), []receipt.Receipt{numbered(try)}) })
		for range 100 {
			runtime.Gosched()
		}
		s.writing.Unlock()
		wg.Wait()
		if shared == nil {
			continue
		}
		if _, ok := errors.AsType[*callback.Panic](shared); !ok || !errors.Is(shared, receipt.ErrUnknown) {
			t.Errorf("Append: %v, want ErrUnknown and the panic", shared)
		}
		break
	}
	if st, err := s.Append(t.Context(), []receipt.Receipt{numbered(-1)}); err != nil || st[0] != receipt.Inserted {
		t.Errorf("after the panic: %v, %v", st, err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// Until the append in progress has ended, the store has its namespace.
func TestCloseWaitsForAppend(t *testing.T) {
	db, s := openInside(t)
	closed := make(chan error, 1)
	s.writing.Lock()
	go func() { closed <- s.Close() }()
	for !s.closed.Load() {
		runtime.Gosched()
	}
	for range 1000 {
		if _, err := New(db, nil); !errors.Is(err, receipt.ErrLocked) {
			t.Fatalf("a second store beside an append of the first: %v, want ErrLocked", err)
		}
		runtime.Gosched()
	}
	s.writing.Unlock()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := New(db, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A reader that meets damage after Close leaves it where it is: the namespace
// may have another store by then.
func TestNothingIsMovedAfterClose(t *testing.T) {
	db, s := openInside(t)
	if _, err := s.Append(t.Context(), []receipt.Receipt{numbered(1)}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := s.setAside(1, errors.New("damaged")); !errors.Is(err, receipt.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	if found, err := dbtest.Inside(db).Get(appendNumbered(nil, spaceLog, 1), func([]byte) error { return nil }); !found || err != nil {
		t.Errorf("the record is gone, %v", err)
	}
}

// Nothing of what callers passed stays reachable.
func TestKeepsNothingOfTheCaller(t *testing.T) {
	_, s := openInside(t)
	defer runtime.KeepAlive(s)
	for _, n := range []int{3, 3 * maxGroup} {
		rs := make([]receipt.Receipt, n)
		for i := range rs {
			rs[i] = numbered(i)
			rs[i].DryRun = i == 1
		}
		if _, err := s.Append(t.Context(), rs); err != nil {
			t.Fatal(err)
		}
		id := []byte("a job of which the store keeps no string")
		rs[1].DryRun, rs[0] = false, receipt.New(string(id), "b", "p", 1, time.Unix(1, 0))
		if _, err := s.Append(t.Context(), rs[:2]); err != nil {
			t.Fatal(err)
		}
		gone := weak.Make(&rs[0])
		rs = nil
		runtime.GC()
		if gone.Value() != nil {
			t.Errorf("after an append of %d: the slice is still reachable", n)
		}
		if cap(s.entries) > 2*maxGroup {
			t.Errorf("after an append of %d: room for %d is kept", n, cap(s.entries))
		}
	}
}
