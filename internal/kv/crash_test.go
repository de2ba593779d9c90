package kv_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/computemarket/computemarket/internal/crashtest"
	"github.com/computemarket/computemarket/internal/kv"
)

const steps = 40

func open(disk vfs.FS) (*kv.DB, error) {
	return kv.Open("db", &kv.Options{FS: disk, MemTableBytes: 16 << 10, CacheBytes: 1 << 20})
}

// Step i writes the pair (a, i) and (b, i), so a torn step shows.
func step(db *kv.DB, i int, value []byte) error {
	b := db.Batch()
	b.Set(numbered('a', i), value, nil)
	b.Set(numbered('b', i), value, nil)
	return db.Commit(b)
}

func numbered(space byte, i int) []byte {
	return binary.BigEndian.AppendUint32([]byte{space}, uint32(i))
}

func work(disk vfs.FS, seed uint64, ack func()) error {
	db, err := open(disk)
	if err != nil {
		return err
	}
	defer db.Close()
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range steps {
		value := make([]byte, 1+rng.IntN(2000)) // memtables fill, WALs rotate
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		if err := step(db, i, value); err != nil {
			return err
		}
		ack()
	}
	return db.Close()
}

func check(disk vfs.FS, _ uint64, acked int) error {
	db, err := open(disk)
	if err != nil {
		return err
	}
	defer db.Close()
	n, err := whole(db)
	if err != nil {
		return err
	}
	if n < acked {
		return fmt.Errorf("%d steps are there, %d were acknowledged", n, acked)
	}
	for i := n; i < steps; i++ {
		if err := step(db, i, []byte("again")); err != nil {
			return err
		}
	}
	if n, err := whole(db); n != steps || err != nil {
		return fmt.Errorf("carried on to %d steps of %d: %v", n, steps, err)
	}
	return nil
}

// whole counts the steps from the first, and fails on a gap or half a step.
func whole(db *kv.DB) (int, error) {
	var n [2]int
	for i, space := range []byte{'a', 'b'} {
		for p, err := range db.Scan([]byte{space}, []byte{space + 1}) {
			if err != nil {
				return 0, err
			}
			if got := int(binary.BigEndian.Uint32(p.Key[1:])); got != n[i] {
				return 0, fmt.Errorf("step %d of %c follows %d", got, space, n[i]-1)
			}
			n[i]++
		}
	}
	if n[0] != n[1] {
		return 0, fmt.Errorf("a torn step: %v", n)
	}
	return n[0], nil
}

func TestCrashAtEveryWrite(t *testing.T) {
	points := 1500
	if testing.Short() {
		points = 200
	}
	crashtest.Crash(t, points, work, check)
}

func TestFailAtEveryWrite(t *testing.T) {
	for _, f := range crashtest.Faults {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			step := 1
			if testing.Short() {
				step = 7
			}
			crashtest.Fail(t, f, step, work, check)
		})
	}
}

// After a failed write every call fails, also reads, and opening the store
// again in the same process works.
func TestPoisoned(t *testing.T) {
	disk := vfs.NewCrashableMem()
	var fail atomic.Bool
	db, err := open(crashtest.Hook(disk, func() error {
		if fail.Load() {
			return errors.New("broken disk")
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := step(db, 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	fail.Store(true)
	if err := step(db, 1, []byte("x")); !errors.Is(err, kv.ErrPoisoned) {
		t.Errorf("the failing commit: %v, want ErrPoisoned", err)
	}
	fail.Store(false)
	if err := step(db, 2, []byte("x")); !errors.Is(err, kv.ErrPoisoned) {
		t.Errorf("the next commit: %v, want ErrPoisoned", err)
	}
	if _, err := db.Get(numbered('a', 0), func([]byte) error { return nil }); !errors.Is(err, kv.ErrPoisoned) {
		t.Errorf("Get: %v, want ErrPoisoned", err)
	}
	for _, err := range db.Scan([]byte("a"), []byte("b")) {
		if !errors.Is(err, kv.ErrPoisoned) {
			t.Errorf("Scan: %v, want ErrPoisoned", err)
		}
	}
	if err := db.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := check(disk, 0, 1); err != nil {
		t.Errorf("opened again: %v", err)
	}
}
