package settlementpebble_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

// unreadable is a disk whose tables cannot be read while fail is set.
type unreadable struct {
	vfs.FS
	fail *atomic.Bool
}

func (u unreadable) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := u.FS.Open(name, opts...)
	if err != nil || !strings.HasSuffix(name, ".sst") {
		return file, err
	}
	return unreadableFile{file, u.fail}, nil
}

type unreadableFile struct {
	vfs.File
	fail *atomic.Bool
}

var errDisk = errors.New("the disk cannot be read")

func (u unreadableFile) ReadAt(p []byte, off int64) (int, error) {
	if u.fail.Load() {
		return 0, errDisk
	}
	return u.File.ReadAt(p, off)
}

// When an account cannot be read in the middle of a commit, the balances that it
// had moved in memory are those on disk again.
func TestReadFailsInACommit(t *testing.T) {
	ctx := t.Context()
	disk := unreadable{vfs.NewMem(), new(atomic.Bool)}
	open := func() (*pebbledb.DB, *settlementpebble.Ledger) {
		db, err := dbtest.Open("db", &kv.Options{FS: disk, CacheBytes: 1, MemTableBytes: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		l, err := settlementpebble.NewLedger(db, &settlementpebble.LedgerOptions{CheckLater: true})
		if err != nil {
			t.Fatal(err)
		}
		return db, l
	}
	db, l := open()
	var ts []settlement.Transfer
	far := func(i int) string { return fmt.Sprintf("%0200d", i) } // in blocks of their own
	for i := range 1000 {
		ts = append(ts, settlement.Transfer{ID: settlement.ID{1, byte(i), byte(i >> 8)}, From: "issuer", To: far(i), Amount: 10})
	}
	if _, err := l.Post(ctx, settlement.Lease{}, ts); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, l = open()
	defer db.Close()
	first := settlement.Transfer{ID: settlement.ID{2}, From: far(0), To: far(1), Amount: 3}
	if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{first}); err != nil {
		t.Fatal(err)
	}
	again, away := first, first
	again.ID, away.ID, away.From = settlement.ID{3}, settlement.ID{4}, far(700)
	disk.fail.Store(true)
	if got, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{again, away}); !errors.Is(err, errDisk) || len(got) > 0 {
		t.Fatalf("%v, %v, want no result and the disk's error", got, err)
	}
	disk.fail.Store(false)
	if got, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{again, away}); err != nil || got[0] != settlement.Applied || got[1] != settlement.Applied {
		t.Errorf("once the disk can be read: %v, %v", got, err)
	}
	for i, want := range map[int]uint64{0: 4, 1: 19, 700: 7} {
		if got, err := l.Balance(ctx, far(i)); got != want || err != nil {
			t.Errorf("balance of account %d: %d, %v, want %d", i, got, err, want)
		}
	}
	if err := errors.Join(settlementtest.Conserved(ctx, l), l.Check(ctx)); err != nil {
		t.Error(err)
	}
}

// Whatever is closed from within an iteration, the next step is ErrClosed.
func TestCloseWithinIterations(t *testing.T) {
	ctx := t.Context()
	type opened struct {
		db     *pebbledb.DB
		ledger *settlementpebble.Ledger
	}
	for what, closing := range map[string]func(opened) error{
		"database": func(o opened) error { return o.db.Close() },
		"ledger":   func(o opened) error { return o.ledger.Close() },
	} {
		var o opened
		var err error
		if o.db, err = dbtest.Open("db", &kv.Options{FS: vfs.NewMem()}); err != nil {
			t.Fatal(err)
		}
		if o.ledger, err = settlementpebble.NewLedger(o.db, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := o.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{
			{ID: settlement.ID{1}, From: "issuer", To: "a", Amount: 1},
			{ID: settlement.ID{2}, From: "issuer", To: "b", Amount: 1},
		}); err != nil {
			t.Fatal(err)
		}
		var errs []error
		for _, err := range o.ledger.Accounts(ctx) {
			if errs = append(errs, err); err == nil {
				if err := closing(o); err != nil {
					t.Errorf("%s: Close: %v", what, err)
				}
			}
		}
		if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], settlement.ErrClosed) {
			t.Errorf("%s: the loop saw %v, want nil, ErrClosed", what, errs)
		}
		o.db.Close()
	}
}

func TestCloseWithinFailures(t *testing.T) {
	ctx := t.Context()
	for _, what := range []string{"database", "store"} {
		db, err := dbtest.Open("db", &kv.Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		s, err := settlementpebble.NewStore(db, nil)
		if err != nil {
			t.Fatal(err)
		}
		lease, st, err := s.Acquire(ctx)
		if err == nil {
			err = s.Save(ctx, lease, settlement.Change{State: st, Put: []settlement.Failure{{Seq: 1}, {Seq: 2}}})
		}
		if err != nil {
			t.Fatal(err)
		}
		var errs []error
		for _, err := range s.Failures(ctx, 0) {
			if errs = append(errs, err); err == nil {
				closing := db.Close
				if what == "store" {
					closing = s.Close
				}
				if err := closing(); err != nil {
					t.Errorf("%s: Close: %v", what, err)
				}
			}
		}
		if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], settlement.ErrClosed) {
			t.Errorf("%s: the loop saw %v, want nil, ErrClosed", what, errs)
		}
		db.Close()
	}
}

// Close among posts and iterations: each ends, with nil or ErrClosed, and what
// was acknowledged is there.
func TestCloseAmongCalls(t *testing.T) {
	ctx, disk := t.Context(), vfs.NewMem()
	open := func() (*pebbledb.DB, *settlementpebble.Ledger) {
		db, err := dbtest.Open("db", &kv.Options{FS: disk, MemTableBytes: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		l, err := settlementpebble.NewLedger(db, nil)
		if err != nil {
			t.Fatal(err)
		}
		return db, l
	}
	db, l := open()
	const callers = 4
	var acked [callers]int
	var wg sync.WaitGroup
	running := make(chan bool, 2*callers)
	ended := func(err error) bool {
		if err != nil && !errors.Is(err, settlement.ErrClosed) {
			t.Error(err)
		}
		return err != nil
	}
	transfer := func(c, i int) settlement.Transfer {
		return settlement.Transfer{ID: settlement.ID{byte(c), byte(i), byte(i >> 8), byte(i >> 16)}, From: "issuer", To: fmt.Sprint(c), Amount: 1}
	}
	for c := range callers {
		wg.Go(func() {
			for ; ; acked[c]++ {
				if acked[c] == 3 {
					running <- true
				}
				if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{transfer(c, acked[c])}); ended(err) {
					return
				}
			}
		})
		wg.Go(func() {
			running <- true
			for {
				for _, err := range l.Accounts(ctx) {
					if ended(err) {
						return
					}
				}
				if _, err := l.Balance(ctx, "0"); ended(err) {
					return
				}
			}
		})
	}
	for range cap(running) {
		<-running
	}
	if err := errors.Join(l.Close(), db.Close()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	db, l = open()
	defer db.Close()
	for c, n := range acked {
		for i := range n {
			if _, ok, err := l.Transfer(ctx, transfer(c, i).ID); !ok || err != nil {
				t.Fatalf("post %d of caller %d: %v, %v", i, c, ok, err)
			}
		}
	}
}

func TestWithoutWhatIsNeeded(t *testing.T) {
	ctx := t.Context()
	for _, db := range []*pebbledb.DB{nil, new(pebbledb.DB)} {
		if _, err := settlementpebble.NewLedger(db, nil); !errors.Is(err, settlement.ErrOptions) {
			t.Errorf("NewLedger: %v, want ErrOptions", err)
		}
		if _, err := settlementpebble.NewStore(db, nil); !errors.Is(err, settlement.ErrOptions) {
			t.Errorf("NewStore: %v, want ErrOptions", err)
		}
	}
	if _, err := dbtest.Open(t.TempDir(), &kv.Options{MemTableBytes: 1}); !errors.Is(err, settlement.ErrOptions) {
		t.Errorf("OpenDB: %v, want ErrOptions", err)
	}
	var l settlementpebble.Ledger
	_, perr := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{{}})
	_, berr := l.Balance(ctx, "a")
	_, _, terr := l.Transfer(ctx, settlement.ID{})
	errs := []error{perr, berr, terr, l.Check(ctx)}
	for _, err := range l.Accounts(ctx) {
		errs = append(errs, err)
	}
	for i, err := range errs {
		if !errors.Is(err, settlement.ErrOptions) {
			t.Errorf("call %d of a zero Ledger: %v, want ErrOptions", i, err)
		}
	}
	if err := l.Close(); err != nil || len(errs) != 5 {
		t.Errorf("Close: %v; %d errors", err, len(errs))
	}
}
