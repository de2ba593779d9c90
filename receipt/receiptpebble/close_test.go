package receiptpebble_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// Whatever is closed from within an iteration, the next step is ErrClosed.
func TestCloseWithinAfter(t *testing.T) {
	ctx := t.Context()
	for what, closing := range map[string]func(*pebbledb.DB, *receiptpebble.Store) error{
		"database": func(db *pebbledb.DB, _ *receiptpebble.Store) error { return db.Close() },
		"store":    func(_ *pebbledb.DB, s *receiptpebble.Store) error { return s.Close() },
	} {
		for damaged := range 2 {
			db, err := dbtest.Open("db", &kv.Options{FS: vfs.NewMem()})
			if err != nil {
				t.Fatal(err)
			}
			s, err := receiptpebble.New(db, nil)
			if err == nil {
				_, err = s.Append(ctx, batch(1, 1))
			}
			if err != nil {
				t.Fatal(err)
			}
			if damaged == 1 { // the next step would move it aside
				b := dbtest.Inside(db).Batch()
				b.Set(logKey(2), []byte("damaged"), nil)
				if err := dbtest.Inside(db).Commit(b); err != nil {
					t.Fatal(err)
				}
			}
			var errs []error
			for _, err := range s.After(ctx, 0) {
				if errs = append(errs, err); err == nil {
					if err := closing(db, s); err != nil {
						t.Errorf("%s: Close: %v", what, err)
					}
				}
			}
			if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], receipt.ErrClosed) {
				t.Errorf("%s: the loop saw %v, want nil, ErrClosed", what, errs)
			}
			if _, err := s.Append(ctx, batch(1, 2)); !errors.Is(err, receipt.ErrClosed) {
				t.Errorf("%s: Append: %v, want ErrClosed", what, err)
			}
			db.Close()
		}
	}
}

// Close among appends and iterations: each ends, with nil or ErrClosed, and what
// was acknowledged is there.
func TestCloseAmongCalls(t *testing.T) {
	ctx, disk := t.Context(), vfs.NewMem()
	s, err := openOn(disk)
	if err != nil {
		t.Fatal(err)
	}
	const callers = 4
	var acked [callers]int
	var wg sync.WaitGroup
	running := make(chan bool, 2*callers)
	ended := func(err error) bool {
		if err != nil && !errors.Is(err, receipt.ErrClosed) {
			t.Error(err)
		}
		return err != nil
	}
	for c := range callers {
		wg.Go(func() {
			for ; ; acked[c]++ {
				if acked[c] == 3 {
					running <- true
				}
				if _, err := s.Append(ctx, batch(uint64(c), acked[c])); ended(err) {
					return
				}
			}
		})
		wg.Go(func() {
			running <- true
			for {
				for _, err := range s.After(ctx, 0) {
					if ended(err) {
						return
					}
				}
				if _, err := s.Get(ctx, receipt.Key{}); !errors.Is(err, receipt.ErrNotFound) && ended(err) {
					return
				}
			}
		})
	}
	for range cap(running) {
		<-running
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if s, err = openOn(disk); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for c, n := range acked {
		for i := range n {
			for _, r := range batch(uint64(c), i) {
				if _, err := s.Get(ctx, r.Key); err != nil {
					t.Fatalf("append %d of caller %d: %v", i, c, err)
				}
			}
		}
	}
}

func TestWithoutWhatIsNeeded(t *testing.T) {
	ctx := t.Context()
	if _, err := receiptpebble.New(nil, nil); !errors.Is(err, receipt.ErrOptions) {
		t.Errorf("New without a database: %v, want ErrOptions", err)
	}
	if _, err := receiptpebble.New(new(pebbledb.DB), nil); !errors.Is(err, receipt.ErrOptions) {
		t.Errorf("New on a zero database: %v, want ErrOptions", err)
	}
	if _, err := dbtest.Open(t.TempDir(), &kv.Options{CacheBytes: -1}); !errors.Is(err, receipt.ErrOptions) {
		t.Errorf("OpenDB with a negative cache: %v, want ErrOptions", err)
	}
	var s receiptpebble.Store
	_, aerr := s.Append(ctx, batch(1, 1))
	_, gerr := s.Get(ctx, receipt.Key{})
	errs := []error{aerr, gerr, s.Check(ctx)}
	for _, err := range s.After(ctx, 0) {
		errs = append(errs, err)
	}
	for _, err := range s.Damaged(ctx) {
		errs = append(errs, err)
	}
	for i, err := range errs {
		if !errors.Is(err, receipt.ErrOptions) {
			t.Errorf("call %d of a zero Store: %v, want ErrOptions", i, err)
		}
	}
	if err := s.Close(); err != nil || len(errs) != 5 {
		t.Errorf("Close: %v; %d errors", err, len(errs))
	}
}
