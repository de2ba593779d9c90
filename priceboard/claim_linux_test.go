package priceboard

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/computemarket/computemarket/internal/filelock"
)

// asNobody runs f on a thread that may do with files what anybody may, and not
// what root may.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // and the thread ends with this goroutine
		if err := syscall.Setfsuid(65534); err != nil {
			t.Error(err)
			return
		}
		f()
	})
	wg.Wait()
}

// sharedFolder is one that nobody can reach too, with a damaged file in it.
func sharedFolder(t *testing.T) (dir, path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "priceboard")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700); os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("junk"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

// TestLoadBesideALiveClaim: a lock file that may not be opened is another's claim
// and no read-only folder. The damaged file is the owner's to move aside.
func TestLoadBesideALiveClaim(t *testing.T) {
	for mode, want := range map[fs.FileMode]string{
		0o000: "a process of another user may have the claim",
		0o444: ErrLocked.Error(), // reading is enough to see the claim
	} {
		_, path := sharedFolder(t)
		owner, err := filelock.New(path + ".lock")
		if err != nil {
			t.Fatal(err)
		}
		defer owner.Close()
		if err := os.Chmod(path+".lock", mode); err != nil {
			t.Fatal(err)
		}
		asNobody(t, func() {
			f := File(path, nil)
			defer f.Close()
			for range 2 {
				if _, err := f.Load(t.Context()); err == nil || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), want) {
					t.Errorf("Load, lock file with mode %v: %v, want %q", mode, err, want)
				}
				if err := f.Save(t.Context(), oldSnap); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Save, lock file with mode %v: %v, want %q", mode, err, want)
				}
			}
		})
		if got, err := os.ReadFile(path); err != nil || string(got) != "junk" {
			t.Errorf("lock file with mode %v: the owner's file is %q, %v", mode, got, err)
		}
	}
}

// TestReadOnlyFolderOnDisk: what can be read is read, what is damaged stays, and
// Save says what to do.
func TestReadOnlyFolderOnDisk(t *testing.T) {
	dir, path := sharedFolder(t)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	saves := func(f *FileStore) {
		err := f.Save(t.Context(), oldSnap)
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "let this process write there") {
			t.Errorf("Save: %v", err)
		}
	}
	asNobody(t, func() {
		f := File(path, nil)
		_, err := f.Load(t.Context())
		if !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("Load of damage: %v", err)
		}
		saves(f)
	})
	data, err := oldSnap.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		f := File(path, nil)
		if s, err := f.Load(t.Context()); err != nil || len(s.Prices) != 3 {
			t.Errorf("Load: %+v, %v", s, err)
		}
		if _, err := f.Load(t.Context()); !errors.Is(err, ErrLocked) {
			t.Errorf("Load again, without a claim: %v, want ErrLocked", err)
		}
		saves(f)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}
