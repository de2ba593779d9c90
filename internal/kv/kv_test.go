package kv_test

import (
	"errors"
	"os"
	"testing"

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

func TestCloseDuringScan(t *testing.T) {
	db, err := kv.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := step(db, i, nil); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan error, 1)
	n := 0
	var last error
	for _, err := range db.Scan([]byte("a"), []byte("b")) {
		if last = err; err != nil {
			break
		}
		if n++; n == 1 {
			go func() { closed <- db.Close() }()
			for step(db, 9, nil) == nil { // until Close has begun
			}
		}
	}
	if n != 1 || !errors.Is(last, kv.ErrClosed) {
		t.Errorf("%d steps, then %v; want 1, ErrClosed", n, last)
	}
	if err := <-closed; err != nil {
		t.Error(err)
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
		if err := db.Claim('x', 2); !errors.Is(err, kv.ErrVersion) {
			t.Errorf("another version: %v, want ErrVersion", err)
		}
	}
	if err := db.Claim('x', 1); err != nil {
		t.Error(err)
	}
}
