package kv_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/computemarket/computemarket/internal/kv"
)

// A flipped bit in the WAL of the database's first life must not make an
// acknowledged step vanish in silence. Pebble finds it by what the blocks of
// 32 KiB behind it say, checkWAL by what the rest of the block says. Only the
// last two commits may have no witness.
func TestFlippedBitInFirstWAL(t *testing.T) {
	for _, c := range []struct{ bytes, steps, stride int }{
		{9000, 5, 7919}, // over several blocks
		{40, 40, 211},   // within one
	} {
		flipBits(t, c.bytes, c.steps, c.stride)
	}
}

func flipBits(t *testing.T, bytes, steps, stride int) {
	t.Helper()
	live, dir := t.TempDir(), t.TempDir()
	db, err := kv.Open(live, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for i := range steps {
		if err := step(db, i, append(make([]byte, bytes), "value"...)); err != nil {
			t.Fatal(err)
		}
	}
	// As a crash would leave it: Close empties the WAL.
	if err := os.CopyFS(dir, os.DirFS(live)); err != nil {
		t.Fatal(err)
	}
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	var wal string
	var good []byte
	for _, name := range logs {
		if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), "value") {
			wal, good = name, b
		}
	}
	if wal == "" {
		t.Fatalf("no WAL with the steps among %v", logs)
	}
	witnessed := strings.LastIndex(string(good), "value") - 2*(2*bytes+100)
	flips := 0
	for bit := 0; bit < witnessed*8; bit += stride {
		bad := append([]byte(nil), good...)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(wal, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := allOrError(dir, steps); err != nil {
			t.Fatalf("bit %d of %d: %v", bit, witnessed*8, err)
		}
		flips++
	}
	t.Logf("%d flips of %d bytes", flips, witnessed)
}

func allOrError(dir string, n int) error {
	tmp, err := os.MkdirTemp("", "bitrot")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.CopyFS(tmp, os.DirFS(dir)); err != nil {
		return err
	}
	db, err := kv.Open(tmp, &kv.Options{MemTableBytes: 1 << 20})
	if errors.Is(err, kv.ErrCorrupt) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("Open: %w", err)
	}
	defer db.Close()
	got, err := whole(db)
	if got != n || err != nil {
		return fmt.Errorf("%d steps of %d are left: %v", got, n, err)
	}
	return nil
}
