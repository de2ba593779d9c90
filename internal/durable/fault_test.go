package durable_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/computemarket/computemarket/internal/durable"
	"github.com/computemarket/computemarket/internal/durable/durabletest"
)

const (
	oldText = "what was there before"
	newText = "what is there afterwards"
)

// faults are the ways in which disks fail.
var faults = []error{syscall.ENOSPC, syscall.EROFS, syscall.EIO}

// failing fails step at, and if lasting all after it.
type failing struct {
	at      int
	lasting bool
	err     error
	step    int
}

func (f *failing) next() error {
	if f.step++; f.step == f.at || f.lasting && f.step > f.at {
		return f.err
	}
	return nil
}

// TestFaultAtEveryStep, on the system's own files: the error is told, the file is
// as before or, if ErrUnsynced says so, new, never between; no temporary file
// stays behind a disk that is well again; and the next write succeeds.
func TestFaultAtEveryStep(t *testing.T) {
	for _, fault := range faults {
		for _, lasting := range []bool{false, true} {
			for k := 1; ; k++ {
				name := filepath.Join(t.TempDir(), "file")
				write(t, name, oldText, 0o640)
				f := &failing{at: k, lasting: lasting, err: fault}
				err := durable.WriteFile(durabletest.Hook(disk, f.next), name, []byte(newText), 0o644)
				at := fmt.Sprintf("%v at step %d of %d, lasting %v", fault, k, f.step, lasting)
				if f.step < k {
					if err != nil {
						t.Errorf("without a fault: %v", err)
					}
					break
				}
				if !errors.Is(err, fault) {
					t.Errorf("%s: %v", at, err)
				}
				want := oldText
				if errors.Is(err, durable.ErrUnsynced) {
					want = newText
				}
				got, rerr := os.ReadFile(name)
				if rerr != nil || string(got) != want {
					t.Errorf("%s: the file holds %q, %v (error %v)", at, got, rerr, err)
				}
				if !lasting {
					holds(t, name, want, 0o640)
				}
				if err := durable.WriteFile(disk, name, []byte(newText), 0o644); err != nil {
					t.Errorf("%s: the next write: %v", at, err)
				}
			}
		}
	}
}

// TestKilledAtEveryStep kills a process at each step of its write to the system's
// own files: the file is as before or new, and the next process can write.
func TestKilledAtEveryStep(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for k := 1; ; k++ {
		name := filepath.Join(t.TempDir(), "file")
		write(t, name, oldText, 0o640)
		cmd := exec.Command(exe, "-test.run=^TestChild$")
		cmd.Env = append(os.Environ(), "DURABLE_FILE="+name, "DURABLE_STEP="+strconv.Itoa(k))
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Skip("cannot start a process:", err)
		}
		if strings.Contains(string(out), "FAIL") {
			t.Fatalf("killed at step %d: %s", k, out)
		}
		got, rerr := os.ReadFile(name)
		if rerr != nil || string(got) != newText && (err == nil || string(got) != oldText) {
			t.Errorf("killed at step %d: %q, %v", k, got, rerr)
		}
		if werr := durable.WriteFile(disk, name, []byte(newText), 0o644); werr != nil {
			t.Errorf("killed at step %d: the next write: %v", k, werr)
		}
		if err == nil {
			if k < 8 {
				t.Errorf("the write has only %d steps", k-1)
			}
			break
		}
	}
}

// TestChild is the process that TestKilledAtEveryStep starts.
func TestChild(t *testing.T) {
	name := os.Getenv("DURABLE_FILE")
	if name == "" {
		t.Skip("runs as a child of TestKilledAtEveryStep")
	}
	k, err := strconv.Atoi(os.Getenv("DURABLE_STEP"))
	if err != nil {
		t.Fatal(err)
	}
	step := 0
	fsys := durabletest.Hook(disk, func() error {
		if step++; step == k {
			me, err := os.FindProcess(os.Getpid())
			if err != nil {
				return err
			}
			if err := me.Kill(); err != nil {
				return err
			}
			select {}
		}
		return nil
	})
	if err := durable.WriteFile(fsys, name, []byte(newText), 0o644); err != nil {
		t.Fatal(err)
	}
}

var errCrash = errors.New("crash")

// crashes runs work on a disk that stops at each step, until none is left, and
// check on each disk that may be there then, with work's error.
func crashes(t *testing.T, start *durabletest.Disk, work func(durable.FS) error,
	check func(d *durabletest.Disk, err error) error) {
	t.Helper()
	for k := 1; ; k++ {
		d := start.Clone()
		f := &failing{at: k, lasting: true, err: errCrash}
		err := work(durabletest.Hook(d, f.next))
		for i, s := range d.Survivors() {
			if cerr := check(s, err); cerr != nil {
				t.Fatalf("crash at step %d, survivor %d (%v): %v", k, i, err, cerr)
			}
		}
		if f.step < k {
			if err != nil {
				t.Fatalf("without a crash: %v", err)
			}
			t.Logf("%d steps", k-1)
			return
		}
	}
}

// TestCrashAtEveryStep takes what was not synced away: the file is whole, the one
// before or the new one, and the new one once WriteFile has returned.
func TestCrashAtEveryStep(t *testing.T) {
	start := durabletest.NewDisk()
	for _, before := range []string{"", oldText} {
		if before != "" {
			start.Put("/file", []byte(before))
		}
		crashes(t, start, func(fsys durable.FS) error {
			return durable.WriteFile(fsys, "/file", []byte(newText), 0o644)
		}, func(d *durabletest.Disk, err error) error {
			got, _ := d.Get("/file")
			if string(got) != newText && (err == nil || string(got) != before) {
				return fmt.Errorf("the file holds %q", got)
			}
			return nil
		})
	}
}

// TestCrashOfFolders: what is written in a new folder is there after any crash
// that comes later, and so are the folders above it. A process that was killed
// leaves folders that it had no time to sync; the next one sees to them.
func TestCrashOfFolders(t *testing.T) {
	work := func(fsys durable.FS) error {
		if err := durable.MkdirAll(fsys, "/a/b/c", 0o755); err != nil {
			return err
		}
		return durable.WriteFile(fsys, "/a/b/c/file", []byte(newText), 0o644)
	}
	check := func(d *durabletest.Disk, err error) error {
		got, _ := d.Get("/a/b/c/file")
		if err == nil && string(got) != newText {
			return fmt.Errorf("the file holds %q; there are %v", got, d.Names())
		}
		return nil
	}
	crashes(t, durabletest.NewDisk(), work, check)
	for k := 1; ; k++ { // a process killed at step k, and after it another
		d := durabletest.NewDisk()
		f := &failing{at: k, lasting: true, err: errCrash}
		if err := work(durabletest.Hook(d, f.next)); err == nil {
			break
		}
		err := work(d)
		for _, s := range d.Survivors() {
			if cerr := errors.Join(err, check(s, err)); cerr != nil {
				t.Fatalf("killed at step %d, then a crash: %v", k, cerr)
			}
		}
	}
}

// TestCrashOfRename: from one folder to another the file has one name or both,
// and the new one once Rename has returned.
func TestCrashOfRename(t *testing.T) {
	start := durabletest.NewDisk()
	for _, dir := range []string{"/tmp", "/for-good"} {
		if err := durable.MkdirAll(start, dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	start.Put("/tmp/1", []byte(newText))
	crashes(t, start, func(fsys durable.FS) error { return durable.Rename(fsys, "/tmp/1", "/for-good/x") },
		func(d *durabletest.Disk, err error) error {
			x, _ := d.Get("/for-good/x")
			tmp, _ := d.Get("/tmp/1")
			if string(x) != newText && (err == nil || string(tmp) != newText) {
				return fmt.Errorf("%v", d.Names())
			}
			return nil
		})
}

// TestUnsyncedIsTold: a folder that cannot be synced is the one error that says
// that the change is there, whoever asks for the change.
func TestUnsyncedIsTold(t *testing.T) {
	work := map[string]func(durable.FS, string) error{
		"WriteFile": func(fsys durable.FS, dir string) error {
			return durable.WriteFile(fsys, filepath.Join(dir, "new"), nil, 0o644)
		},
		"MkdirAll": func(fsys durable.FS, dir string) error {
			return durable.MkdirAll(fsys, filepath.Join(dir, "new"), 0o755)
		},
		"Rename": func(fsys durable.FS, dir string) error {
			return durable.Rename(fsys, filepath.Join(dir, "old"), filepath.Join(dir, "new"))
		},
	}
	for name, do := range work {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "old"), oldText, 0o644)
		err := do(unsyncable{disk}, dir)
		if !errors.Is(err, durable.ErrUnsynced) || !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "new")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// unsyncable is a disk whose folders cannot be synced once they hold what is new.
type unsyncable struct{ durable.FS }

func (u unsyncable) SyncDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "new" }) {
		return syscall.EIO
	}
	return u.FS.SyncDir(dir)
}
