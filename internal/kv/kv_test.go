package kv_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/kv"
)

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	db, err := kv.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Open(dir, nil); !errors.Is(err, kv.ErrLocked) {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := step(db, 0, nil); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("Commit after Close: %v, want ErrClosed", err)
	}
	db, err = kv.Open(dir, nil)
	if err != nil {
		t.Fatalf("Open after Close: %v", err)
	}
	db.Close()
}

func TestOpenWhereNothingCanBe(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Open(file, nil); err == nil || errors.Is(err, kv.ErrLocked) {
		t.Errorf("Open on a file: %v", err)
	}
}

func TestClaim(t *testing.T) {
	db, err := kv.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := errors.Join(db.Claim('x', 1), db.Claim('y', 2)); err != nil {
		t.Error(err)
	}
	if err := db.Claim('x', 1); !errors.Is(err, kv.ErrLocked) {
		t.Errorf("claimed twice: %v, want ErrLocked", err)
	}
	db.Release('x')
	for range 2 { // a refused claim holds nothing
		if err := db.Claim('x', 2); !errors.Is(err, kv.ErrSchema) {
			t.Errorf("another version: %v, want ErrVersion", err)
		}
	}
	if err := db.Claim('x', 1); err != nil {
		t.Error(err)
	}
}

func TestClaimFrom(t *testing.T) {
	db, err := kv.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	value := func() (v string) {
		db.Get([]byte("xk"), func(b []byte) error { v = string(b); return nil })
		return v
	}
	upgrade := func(from uint16, b *pebble.Batch) error {
		return b.Set([]byte("xk"), fmt.Append(nil, value(), from), nil)
	}
	for _, c := range []struct {
		oldest, version uint16
		want            error
		value           string
	}{
		{1, 1, nil, ""},
		{1, 1, nil, ""},
		{1, 3, nil, "1"}, // once
		{1, 3, nil, "1"},
		{1, 2, kv.ErrSchema, "1"},
		{4, 5, kv.ErrSchema, "1"},
		{3, 4, nil, "13"},
	} {
		if err := db.ClaimFrom('x', c.oldest, c.version, upgrade); !errors.Is(err, c.want) || value() != c.value {
			t.Errorf("from %d to %d: %v, want %v; then %q, want %q", c.oldest, c.version, err, c.want, value(), c.value)
		}
		db.Release('x')
	}
	broken := errors.New("broken")
	if err := db.ClaimFrom('x', 1, 5, func(uint16, *pebble.Batch) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("an upgrade that fails: %v", err)
	}
	if err := db.ClaimFrom('x', 4, 4, nil); err != nil {
		t.Errorf("after an upgrade that failed: %v", err)
	}
}

func TestWithoutWhatIsNeeded(t *testing.T) {
	for what, db := range map[string]*kv.DB{"none": nil, "zero": new(kv.DB)} {
		_, gerr := db.Get(nil, func([]byte) error { return nil })
		_, _, lerr := db.Last(nil, nil)
		errs := []error{db.Claim('x', 1), db.Commit(nil), db.CommitLazily(nil), db.Err(), gerr, lerr}
		for _, err := range db.Scan(nil, nil) {
			errs = append(errs, err)
		}
		for i, err := range errs {
			if !errors.Is(err, kv.ErrOptions) {
				t.Errorf("%s: call %d: %v, want ErrOptions", what, i, err)
			}
		}
		db.Release('x')
		if err := errors.Join(db.Close(), db.Close()); err != nil || len(errs) != 7 {
			t.Errorf("%s: Close: %v, %d errors", what, err, len(errs))
		}
	}
	for _, o := range []kv.Options{
		{CacheBytes: -1}, {CacheBytes: math.MaxInt64}, {MemTableBytes: 1}, {MemTableBytes: math.MaxUint64},
	} {
		if _, err := kv.Open(t.TempDir(), &o); !errors.Is(err, kv.ErrOptions) {
			t.Errorf("%+v: %v, want ErrOptions", o, err)
		}
	}
	db, err := kv.Open("db", &kv.Options{FS: vfs.NewMem(), CacheBytes: 1, MemTableBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(step(db, 0, make([]byte, 100_000)), db.Close()); err != nil {
		t.Errorf("the smallest: %v", err)
	}
}
