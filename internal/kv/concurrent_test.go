package kv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/kv"
)

// reads are the ways to see whether the pair ('a', 0) of step 0 is there.
var reads = map[string]func(*kv.DB) (bool, error){
	"Get": func(db *kv.DB) (bool, error) {
		return db.Get(numbered('a', 0), func([]byte) error { return nil })
	},
	"Scan": func(db *kv.DB) (bool, error) {
		for _, err := range db.Scan([]byte("a"), []byte("b")) {
			return err == nil, err
		}
		return false, nil
	},
	"Last": func(db *kv.DB) (bool, error) {
		_, ok, err := db.Last([]byte("a"), []byte("b"))
		return ok, err
	},
}

// meanwhile lets other goroutines run until done has something, or for as long
// as nearly all would need.
func meanwhile[T any](done <-chan T) {
	for range 5000 {
		if len(done) > 0 {
			return
		}
		runtime.Gosched()
	}
}

// walFS calls before ahead of every write to a WAL.
type walFS struct {
	vfs.FS
	before func() error
}

func (f walFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.wrap(name)(f.FS.Create(name, c))
}

func (f walFS) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.wrap(name)(f.FS.ReuseForWrite(from, name, c))
}

func (f walFS) wrap(name string) func(vfs.File, error) (vfs.File, error) {
	return func(file vfs.File, err error) (vfs.File, error) {
		if err != nil || !strings.HasSuffix(name, ".log") {
			return file, err
		}
		return walFile{file, f.before}, nil
	}
}

type walFile struct {
	vfs.File
	before func() error
}

func (f walFile) Write(p []byte) (int, error) {
	if err := f.before(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

// What a commit has applied and not yet synced, nobody sees: here the disk fails
// while a reader asks again and again.
func TestReadsWaitForTheSync(t *testing.T) {
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			var armed atomic.Bool
			var db *kv.DB
			seen := make(chan error, 1)
			db, err := open(walFS{vfs.NewMem(), func() error {
				if !armed.Swap(false) {
					return nil
				}
				go func() {
					for {
						if found, err := read(db); found || err != nil {
							seen <- err
							return
						}
					}
				}()
				meanwhile(seen)
				return errors.New("broken disk")
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			armed.Store(true)
			if err := step(db, 0, nil); !errors.Is(err, kv.ErrPoisoned) {
				t.Errorf("Commit: %v, want ErrPoisoned", err)
			}
			if err := <-seen; !errors.Is(err, kv.ErrPoisoned) {
				t.Errorf("the reader saw what was never synced, or %v", err)
			}
		})
	}
}

// Close lets the commit in progress end.
func TestCloseWaitsForCommit(t *testing.T) {
	disk := vfs.NewMem()
	var armed atomic.Bool
	var db *kv.DB
	closed := make(chan error, 1)
	db, err := open(walFS{disk, func() error {
		if armed.Swap(false) {
			go func() { closed <- db.Close() }()
			meanwhile(closed)
			if len(closed) > 0 {
				t.Error("Close has returned in the middle of a commit")
			}
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	if err := step(db, 0, nil); err != nil {
		t.Errorf("Commit: %v", err)
	}
	if err := errors.Join(<-closed, db.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := check(disk, 0, 1); err != nil {
		t.Error(err)
	}
}

// Whatever is going on, Close ends it with nil or ErrClosed, and waits for no
// loop's body.
func TestCloseAmongCalls(t *testing.T) {
	disk := vfs.NewMem()
	db, err := open(disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := step(db, 0, []byte("value")); err != nil {
		t.Fatal(err)
	}
	const committers = 4
	var acked [committers]int
	var wg sync.WaitGroup
	ended := func(err error) bool {
		if err != nil && !errors.Is(err, kv.ErrClosed) {
			t.Error(err)
		}
		return err != nil
	}
	running := make(chan bool, committers+len(reads)+1)
	for c := range committers {
		wg.Go(func() {
			for ; ; acked[c]++ {
				if acked[c] == 2 {
					running <- true
				}
				b := db.Batch()
				b.Set(numbered('c'+byte(c), acked[c]), []byte("value"), nil)
				if ended(db.Commit(b)) {
					return
				}
			}
		})
	}
	for _, read := range reads {
		wg.Go(func() {
			running <- true
			for {
				if _, err := read(db); ended(err) {
					return
				}
			}
		})
	}
	release := make(chan struct{})
	wg.Go(func() { // a loop whose body takes longer than Close
		steps := 0
		for p, err := range db.Scan([]byte{0}, []byte{0xff}) {
			if ended(err) {
				break
			}
			if steps++; steps == 1 {
				running <- true
				<-release
			}
			if len(p.Key) == 0 {
				t.Error("an empty key")
			}
		}
		if steps != 1 {
			t.Errorf("%d steps of a scan across a Close, want 1", steps)
		}
	})
	for range cap(running) {
		<-running
	}
	var closers sync.WaitGroup
	for range 3 {
		closers.Go(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	closers.Wait()
	close(release)
	wg.Wait()
	if db, err = open(disk); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for c, n := range acked {
		for i := range n {
			if found, err := db.Get(numbered('c'+byte(c), i), func([]byte) error { return nil }); !found || err != nil {
				t.Fatalf("commit %d of committer %d is lost, %v", i, c, err)
			}
		}
	}
}

func TestCloseWithinScan(t *testing.T) {
	disk := vfs.NewMem()
	db, err := open(disk)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := step(db, i, []byte(fmt.Sprint("value ", i))); err != nil {
			t.Fatal(err)
		}
	}
	var errs []error
	for p, err := range db.Scan([]byte("a"), []byte("b")) {
		if errs = append(errs, err); err != nil {
			continue // there is no next
		}
		if err := errors.Join(db.Close(), db.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
		again, err := open(disk) // it is closed, not about to be
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if string(p.Value) != "value 0" || string(p.Key) != string(numbered('a', 0)) {
			t.Errorf("after Close the pair is %q, %q", p.Key, p.Value)
		}
	}
	if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], kv.ErrClosed) {
		t.Errorf("the loop saw %v, want nil, ErrClosed", errs)
	}
}

// A scan that its reader leaves in whatever way holds nothing.
func TestLeftScan(t *testing.T) {
	db, err := open(vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	if err := step(db, 0, nil); err != nil {
		t.Fatal(err)
	}
	for how, leave := range map[string]func() bool{
		"to the end": func() bool { return false },
		"break":      func() bool { return true },
		"panic":      func() bool { panic("out") },
		"goexit":     func() bool { runtime.Goexit(); return true },
	} {
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { recover() }()
			for range db.Scan([]byte("a"), []byte("c")) {
				if db.Scans() != 1 {
					t.Errorf("%d scans in progress in one", db.Scans())
				}
				if leave() {
					break
				}
			}
		})
		wg.Wait()
		if n := db.Scans(); n > 0 {
			t.Errorf("%s: %d scans in progress", how, n)
		}
	}
	if _, _, err := db.Last([]byte("a"), []byte("c")); err != nil || db.Scans() > 0 {
		t.Errorf("Last: %v; %d scans in progress", err, db.Scans())
	}
	if err := db.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// handler calls back into the database that logs.
type handler struct {
	slog.Handler
	call func()
}

func (h handler) Handle(context.Context, slog.Record) error { h.call(); return nil }
func (handler) Enabled(context.Context, slog.Level) bool    { return true }

// Nothing is locked while the caller's code runs: the body of a loop, the use of
// a value, a handler of log records.
func TestCallsFromCallbacks(t *testing.T) {
	dir := t.TempDir()
	var db *kv.DB
	all := func() error {
		_, gerr := db.Get(numbered('c', 0), func([]byte) error { return nil })
		_, _, lerr := db.Last([]byte("c"), []byte("d"))
		b := db.Batch()
		b.Set([]byte("d"), nil, nil)
		return errors.Join(gerr, lerr, db.Commit(b), db.Err())
	}
	db, err := kv.Open(dir, nil)
	if err == nil {
		err = step(db, 0, []byte("value"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err = db.Get(numbered('a', 0), func([]byte) error { return all() }); err != nil {
		t.Errorf("from the use of a value: %v", err)
	}
	for _, err := range db.Scan([]byte("a"), []byte("b")) {
		if err := errors.Join(err, all()); err != nil {
			t.Errorf("from a loop: %v", err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	// Pebble logs a damaged block.
	tables, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[10] ^= 1
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	logged := 0
	db, err = kv.Open(dir, &kv.Options{Logger: slog.New(handler{call: func() {
		if logged++; logged > 1 {
			return
		}
		if err := all(); !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("from the logger: %v, want ErrCorrupt", err)
		}
		if err := db.Close(); err != nil {
			t.Errorf("Close from the logger: %v", err)
		}
	}})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Get(numbered('a', 0), func([]byte) error { return nil }); !errors.Is(err, kv.ErrCorrupt) {
		t.Errorf("Get: %v, want ErrCorrupt", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if logged == 0 {
		t.Error("nothing was logged")
	}
}
