package filelock_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/computemarket/computemarket/internal/filelock"
)

// TestOneClaim: in one process too, by any name of the folder; closed, it is free.
func TestOneClaim(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "lock")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Skip(err)
	}
	for range 2 {
		l, err := filelock.New(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{name, filepath.Join(link, "lock")} {
			if _, err := filelock.New(name); !errors.Is(err, filelock.ErrLocked) {
				t.Errorf("%s: %v, want ErrLocked", name, err)
			}
		}
		if !l.Holds() {
			t.Error("the claim is not held")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := filelock.New(filepath.Join(dir, "none", "lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

// TestHolds: a claim on what the name no longer leads to is none.
func TestHolds(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file can be neither moved nor removed")
	}
	for what, lose := range map[string]func(dir string) error{
		"removed":  func(dir string) error { return os.Remove(filepath.Join(dir, "lock")) },
		"moved":    func(dir string) error { return os.Rename(dir, dir+"-moved") },
		"replaced": func(dir string) error { return errors.Join(os.Rename(dir, dir+"-moved"), os.Mkdir(dir, 0o755)) },
	} {
		dir := filepath.Join(t.TempDir(), "dir")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		l, err := filelock.New(filepath.Join(dir, "lock"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := lose(dir); err != nil {
			t.Fatal(err)
		}
		if l.Holds() {
			t.Errorf("%s: still held", what)
		}
	}
}
