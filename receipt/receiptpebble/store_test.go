package receiptpebble_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/computemarket/computemarket/internal/crashtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

var crashPoints = flag.Int("crashpoints", 3000, "points at which TestCrash crashes")

func TestSuite(t *testing.T) {
	for _, later := range []bool{false, true} {
		t.Run(fmt.Sprintf("CheckLater=%v", later), func(t *testing.T) {
			disk := vfs.NewMem()
			receipttest.Run(t, func(name string) (receipt.Store, error) {
				return openDamageable(disk, name, later)
			})
		})
	}
}

func openOn(disk vfs.FS) (*receiptpebble.Store, error) {
	var found receipttest.Counter
	s, err := receiptpebble.OpenOn("db", &kv.Options{FS: disk, MemTableBytes: 32 << 10, CacheBytes: 1 << 20}, &receiptpebble.Options{Metrics: &found})
	if err == nil && found.N() > 0 { // a crash damages nothing, mended or not
		return nil, errors.Join(fmt.Errorf("%d damaged records", found.N()), s.Close())
	}
	return s, err
}

var issued = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// Step i of the crash tests appends three receipts: a new one, a dry run, and
// for real the dry run of the step before.
func batch(seed uint64, i int) []receipt.Receipt {
	name := func(kind string, i int) receipt.Receipt {
		return receipt.New(fmt.Sprintf("%s-%d-%d", kind, seed, i), "buyer", "provider", uint64(i), issued)
	}
	dry := name("dry", i)
	dry.DryRun = true
	rs := []receipt.Receipt{name("real", i), dry}
	if i > 0 {
		rs = append(rs, name("dry", i-1))
	}
	return rs
}

const steps = 30

func work(disk vfs.FS, seed uint64, ack func()) error {
	s, err := openOn(disk)
	if err != nil {
		return err
	}
	defer s.Close()
	for i := range steps {
		if _, err := s.Append(context.Background(), batch(seed, i)); err != nil {
			return err
		}
		ack()
	}
	return s.Close()
}

// check compares the log with the model after n steps, for some n >= acked,
// then carries on to the end.
func check(disk vfs.FS, seed uint64, acked int) error {
	s, err := openOn(disk)
	if err != nil {
		return err
	}
	defer s.Close()
	var m receipttest.Mem
	n := 0
	for ; n < steps; n++ {
		if n >= acked && sameLog(s, &m) == nil {
			break
		}
		m.Append(context.Background(), batch(seed, n))
	}
	if err := sameLog(s, &m); err != nil {
		return fmt.Errorf("no state from step %d on matches; the last: %w", acked, err)
	}
	for i := range steps { // again from the start: what is there is a Duplicate
		if _, err := s.Append(context.Background(), batch(seed, i)); err != nil {
			return err
		}
		m.Append(context.Background(), batch(seed, i))
	}
	return sameLog(s, &m)
}

// sameLog compares receipts and their order; numbers may differ.
func sameLog(a, b receipt.Store) error {
	var logs [2][]receipt.Receipt
	for i, s := range []receipt.Store{a, b} {
		for rec, err := range s.After(context.Background(), 0) {
			if err != nil {
				return err
			}
			logs[i] = append(logs[i], rec.Receipt)
			if got, err := s.Get(context.Background(), rec.Key); err != nil || got.Seq != rec.Seq {
				return fmt.Errorf("Get(%s): %+v, %w", rec.Key, got, err)
			}
		}
	}
	if len(logs[0]) != len(logs[1]) {
		return fmt.Errorf("%d receipts, want %d", len(logs[0]), len(logs[1]))
	}
	for i := range logs[0] {
		if x, y := logs[0][i], logs[1][i]; !x.SameContent(&y) || x.DryRun != y.DryRun {
			return fmt.Errorf("place %d: %+v, want %+v", i, x, y)
		}
	}
	return nil
}

func TestCrash(t *testing.T) {
	points := *crashPoints
	if testing.Short() {
		points = 200
	}
	crashtest.Crash(t, points, work, check)
}

func TestFail(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 11
	}
	for _, f := range crashtest.Faults {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			crashtest.Fail(t, f, step, work, check)
		})
	}
}

// damage opens the database under the store and lets change rewrite it.
func damage(t *testing.T, dir string, change func(*kv.DB, *pebble.Batch) error) {
	t.Helper()
	db, err := kv.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := db.Batch()
	if err := errors.Join(change(db, b), db.Commit(b), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func logKey(seq uint64) []byte { return binary.BigEndian.AppendUint64([]byte("rl"), seq) }

func flip(db *kv.DB, b *pebble.Batch, key []byte, bit int) error {
	found, err := db.Get(key, func(v []byte) error {
		bad := append([]byte(nil), v...)
		bad[bit/8] ^= 1 << (bit % 8)
		return b.Set(key, bad, nil)
	})
	if !found {
		return fmt.Errorf("no key %q: %w", key, err)
	}
	return err
}

func TestDamagedReceipt(t *testing.T) {
	ctx := t.Context()
	for _, later := range []bool{false, true} {
		for _, bit := range []int{0, 100, 500, 680} {
			dir := t.TempDir()
			s, err := receiptpebble.Open(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			rs := batch(1, 1)
			if _, err := s.Append(ctx, rs); err != nil {
				t.Fatal(err)
			}
			s.Close()
			damage(t, dir, func(db *kv.DB, b *pebble.Batch) error { return flip(db, b, logKey(3), bit) })

			for open := range 2 { // it stays damaged
				var found receipttest.Counter
				s, err = receiptpebble.Open(dir, &receiptpebble.Options{Metrics: &found, CheckLater: later})
				if err != nil {
					t.Fatal(err)
				}
				if later {
					if err := s.Check(ctx); err != nil {
						t.Fatal(err)
					}
				}
				if found.N() != 1 {
					t.Errorf("opening %d counts %d damaged receipts, want 1", open+1, found.N())
				}
				if _, err := s.Get(ctx, rs[2].Key); !errors.Is(err, receipt.ErrCorrupt) {
					t.Errorf("Get: %v, want ErrCorrupt", err)
				}
				st, err := s.Append(ctx, rs)
				if !errors.Is(err, receipt.ErrCorrupt) || st[0] != receipt.Duplicate || st[2] != receipt.Corrupt {
					t.Errorf("Append: %v, %v", st, err)
				}
				n := 0
				for rec, err := range s.After(ctx, 0) {
					if n++; err != nil || rec.Key == rs[2].Key {
						t.Errorf("After yields %v, %v", rec, err)
					}
				}
				if n != 2 {
					t.Errorf("the log has %d receipts, want 2", n)
				}
				aside := 0
				for d, err := range s.Damaged(ctx) {
					if aside++; err != nil || d.Seq != 3 || d.Err == nil || len(d.Raw) != rs[2].BinarySize() {
						t.Errorf("kept aside: %+v, %v", d, err)
					}
				}
				if aside != 1 {
					t.Errorf("%d kept aside, want 1", aside)
				}
				s.Close()
			}
		}
	}
}

// The number of a damaged last receipt is never given to another: a consumer may
// have passed it.
func TestDamagedLastNumberIsNotReused(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s, err := receiptpebble.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(ctx, batch(1, 0)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	damage(t, dir, func(db *kv.DB, b *pebble.Batch) error { return flip(db, b, logKey(2), 9) })
	for range 2 {
		if s, err = receiptpebble.Open(dir, nil); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	if s, err = receiptpebble.Open(dir, nil); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := batch(2, 0)[:1]
	if _, err := s.Append(ctx, r); err != nil {
		t.Fatal(err)
	}
	if rec, err := s.Get(ctx, r[0].Key); err != nil || rec.Seq != 3 {
		t.Errorf("the next number is %d, %v, want 3", rec.Seq, err)
	}
}

func TestDamagedIndexIsMended(t *testing.T) {
	r := batch(1, 0)[0]
	index := append([]byte("rk"), r.Key[:]...)
	for name, change := range map[string]func(*kv.DB, *pebble.Batch) error{
		"entry lost":  func(_ *kv.DB, b *pebble.Batch) error { return b.Delete(index, nil) },
		"number lost": func(db *kv.DB, b *pebble.Batch) error { return flip(db, b, index, 63) },
		"cut short":   func(_ *kv.DB, b *pebble.Batch) error { return b.Set(index, []byte{1}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, dir := t.Context(), t.TempDir()
			s, err := receiptpebble.Open(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Append(ctx, batch(1, 0)); err != nil {
				t.Fatal(err)
			}
			s.Close()
			damage(t, dir, change)
			var found receipttest.Counter
			if s, err = receiptpebble.Open(dir, &receiptpebble.Options{Metrics: &found}); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if found.N() != 1 {
				t.Errorf("%d damaged records counted, want 1", found.N())
			}
			if st, err := s.Append(ctx, []receipt.Receipt{r}); err != nil || st[0] != receipt.Duplicate {
				t.Errorf("%v, %v, want Duplicate", st, err)
			}
		})
	}
}

// Appends and promotions while the check runs neither disturb it nor are lost.
func TestCheckWhileAppending(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s, err := receiptpebble.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if _, err := s.Append(ctx, batch(1, i)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	var found receipttest.Counter
	if s, err = receiptpebble.Open(dir, &receiptpebble.Options{CheckLater: true, Metrics: &found}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	done := make(chan error, 1)
	go func() { done <- s.Check(ctx) }()
	for i := range 100 {
		if _, err := s.Append(ctx, batch(1, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Check(ctx); err != nil { // again, on all of it
		t.Fatal(err)
	}
	var m receipttest.Mem
	for i := range 100 {
		st, err := s.Append(ctx, batch(1, i))
		if err != nil {
			t.Fatal(err)
		}
		for j, got := range st {
			if got != receipt.Duplicate {
				t.Fatalf("step %d, receipt %d: %v", i, j, got)
			}
		}
		m.Append(ctx, batch(1, i))
	}
	if err := sameLog(s, &m); err != nil {
		t.Error(err)
	}
	if found.N() != 0 {
		t.Errorf("%d damaged records counted in a sound store", found.N())
	}
}

func TestModel(t *testing.T) {
	ids := []string{"a", "ab", "b", "bc", "c"}
	rapid.Check(t, func(t *rapid.T) {
		disk := vfs.NewMem()
		s, err := openOn(disk)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.Close() }()
		var m receipttest.Mem
		draw := rapid.Custom(func(t *rapid.T) receipt.Receipt {
			id := rapid.SampledFrom(ids)
			r := receipt.New(id.Draw(t, "job"), id.Draw(t, "buyer"), id.Draw(t, "provider"),
				rapid.Uint64Range(0, 2).Draw(t, "price"), issued)
			r.DryRun = rapid.Bool().Draw(t, "dry")
			return r
		})
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				rs := rapid.SliceOfN(draw, 0, 5).Draw(t, "receipts")
				got, gerr := s.Append(context.Background(), rs)
				want, werr := m.Append(context.Background(), rs)
				if fmt.Sprint(got) != fmt.Sprint(want) || (gerr == nil) != (werr == nil) {
					t.Fatalf("Append: %v, %v; want %v, %v", got, gerr, want, werr)
				}
			},
			"reopen": func(t *rapid.T) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = openOn(disk); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				if err := sameLog(s, &m); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

func TestClosed(t *testing.T) {
	s, err := receiptpebble.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), batch(1, 0)); !errors.Is(err, receipt.ErrClosed) {
		t.Errorf("Append: %v", err)
	}
	if _, err := s.Get(t.Context(), receipt.Key{}); !errors.Is(err, receipt.ErrClosed) {
		t.Errorf("Get: %v", err)
	}
	for _, err := range s.After(t.Context(), 0) {
		if !errors.Is(err, receipt.ErrClosed) {
			t.Errorf("After: %v", err)
		}
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s, err := receiptpebble.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := receiptpebble.Open(dir, nil); !errors.Is(err, receipt.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
}

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "receipts")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	store, err := receiptpebble.Open(dir, nil)
	if err != nil {
		panic(err)
	}
	defer store.Close()
	r := receipt.New("job-7", "alice", "bob", 250, time.Now())
	for range 2 {
		status, err := store.Append(ctx, []receipt.Receipt{r})
		fmt.Println(status, err)
	}
	for rec, err := range store.After(ctx, 0) {
		fmt.Println(rec.Seq, rec.JobID, rec.QuotePrice, err)
	}
	// Output:
	// [inserted] <nil>
	// [duplicate] <nil>
	// 1 job-7 250 <nil>
}

// The crash test must catch a store that acknowledges before it syncs.
func TestCrashCatchesMissingSync(t *testing.T) {
	_, err := crashtest.FindCrash(500, func(disk vfs.FS, seed uint64, ack func()) error {
		return work(crashtest.NoSync(disk), seed, ack)
	}, check)
	if err == nil {
		t.Error("no crash point fails")
	}
}
