package crashtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Work opens a store on disk, works on it in an order that the seed fixes, and
// closes it. It calls ack after each step that the store acknowledged, and
// returns at the first error.
type Work func(disk vfs.FS, seed uint64, ack func()) error

// Check opens the store on what a crash left of disk and returns an error
// unless it shows the state after exactly n steps, for some n >= acked, and
// carries on from there.
type Check func(disk vfs.FS, seed uint64, acked int) error

// Crash runs work with one seed after another and calls check for each point
// at which the disk changes, and for the end, until it has seen that many
// points. Of what was not synced at the point, the disk keeps nothing, all, or a
// random part.
func Crash(t *testing.T, points int, work Work, check Check) {
	t.Helper()
	seen, err := FindCrash(points, work, check)
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d crash points", seen)
}

// FindCrash is Crash without a test: it returns the error of the first point
// that failed, and how many points it saw.
func FindCrash(points int, work Work, check Check) (int, error) {
	var seen atomic.Int64
	var first atomic.Pointer[error]
	fail := func(format string, args ...any) {
		err := fmt.Errorf(format, args...)
		first.CompareAndSwap(nil, &err)
	}
	type point struct {
		disk       *vfs.MemFS
		seed       uint64
		k, percent int
		acked      int
	}
	todo := make(chan point, 8)
	var checkers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		checkers.Go(func() {
			for p := range todo {
				if first.Load() != nil {
					continue
				}
				if err := guard(func() error { return check(p.disk, p.seed, p.acked) }); err != nil {
					fail("seed %d, crash at write %d (%d steps acknowledged, %d %% of unsynced data kept): %w",
						p.seed, p.k, p.acked, p.percent, err)
				}
				seen.Add(1)
			}
		})
	}
	sent := 0
	for seed := uint64(1); sent < points && first.Load() == nil; seed++ {
		disk := vfs.NewCrashableMem()
		var acked atomic.Int64
		var k counter
		var mu sync.Mutex // one clone at a time; guards rng and sent
		rng := rand.New(rand.NewPCG(seed, 1))
		hooked := &hookFS{FS: disk}
		hooked.before = func() (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			p := point{seed: seed, k: k.next(), percent: []int{0, 100, 30, 70}[rng.IntN(4)]}
			// Count first: a step acknowledged while the disk is being copied
			// may be missing from the copy.
			p.acked = int(acked.Load())
			hooked.alone.Lock()
			p.disk = disk.CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: p.percent, RNG: rng,
			})
			hooked.alone.Unlock()
			todo <- p
			sent++
			return false, nil
		}
		if err := work(hooked, seed, func() { acked.Add(1) }); err != nil {
			fail("seed %d: the run without a crash: %w", seed, err)
		}
		if k.n.Load() == 0 {
			fail("seed %d: the work writes nothing", seed)
		}
		hooked.before() // a crash after all of it
	}
	close(todo)
	checkers.Wait()
	if err := first.Load(); err != nil {
		return int(seen.Load()), *err
	}
	return int(seen.Load()), nil
}

// A Fault is how an operation fails.
type Fault struct {
	Name    string
	Err     error
	Partial bool // a write first puts down half of its bytes
	Lasting bool // every later operation fails too
}

// Faults are the ways in which disks fail.
var Faults = []Fault{
	{Name: "EIO once", Err: syscall.EIO},
	{Name: "EIO lasting", Err: syscall.EIO, Lasting: true},
	{Name: "ENOSPC once", Err: syscall.ENOSPC},
	{Name: "ENOSPC lasting", Err: syscall.ENOSPC, Lasting: true},
	{Name: "short write", Err: syscall.ENOSPC, Partial: true},
}

// Fail runs work again and again, with operation 1, 2, 3 … failing, until none
// fails any more. After each it calls check on the disk as the operating system
// saw it, and as a power cut would leave it. A step above 1 skips operations.
func Fail(t *testing.T, f Fault, step int, work Work, check Check) {
	t.Helper()
	runs := 0
	for k := 1; ; k += step {
		disk := vfs.NewCrashableMem()
		var count counter
		var fired atomic.Bool
		hooked := &hookFS{FS: disk, before: func() (bool, error) {
			n := count.next()
			if n == k || f.Lasting && n > k {
				fired.Store(true)
				return f.Partial, f.Err
			}
			return false, nil
		}}
		var acked atomic.Int64
		err := guard(func() error { return work(hooked, 1, func() { acked.Add(1) }) })
		if !fired.Load() {
			if err != nil {
				t.Errorf("%s: the run without a fault: %v", f.Name, err)
			}
			break
		}
		if errors.Is(err, errPanic) {
			t.Fatalf("%s at write %d: %v", f.Name, k, err)
		}
		n := int(acked.Load())
		for _, percent := range []int{100, 0} {
			left := disk.CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(uint64(k), 2)),
			})
			if err := guard(func() error { return check(left, 1, n) }); err != nil {
				t.Fatalf("%s at write %d (%d steps acknowledged, %d %% of unsynced data kept): %v",
					f.Name, k, n, percent, err)
			}
		}
		runs++
	}
	t.Logf("%s: %d runs", f.Name, runs)
}

var errPanic = errors.New("panic")

func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
	}()
	return f()
}
