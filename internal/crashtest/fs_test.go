package crashtest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const unspecified = vfs.WriteCategoryUnspecified

// changes are all operations that change a disk, by method, on a disk that has
// the files a and b.
var changes = map[string]func(vfs.FS) error{
	"FS.Create": func(d vfs.FS) error { return closing(d.Create("/new", unspecified)) },
	"FS.OpenReadWrite": func(d vfs.FS) error {
		return closing(d.OpenReadWrite("/new", unspecified))
	},
	"FS.ReuseForWrite": func(d vfs.FS) error {
		return closing(d.ReuseForWrite("/a", "/new", unspecified))
	},
	"FS.Link":           func(d vfs.FS) error { return d.Link("/a", "/new") },
	"FS.Rename":         func(d vfs.FS) error { return d.Rename("/a", "/new") },
	"FS.Remove":         func(d vfs.FS) error { return d.Remove("/a") },
	"FS.RemoveAll":      func(d vfs.FS) error { return d.RemoveAll("/a") },
	"FS.MkdirAll":       func(d vfs.FS) error { return d.MkdirAll("/new", 0o755) },
	"FS.Lock":           func(d vfs.FS) error { _, err := d.Lock("/new"); return err },
	"FS.OpenDir (sync)": func(d vfs.FS) error { return opened(d.OpenDir("/"))(vfs.File.Sync) },
	"File.Write": func(d vfs.FS) error {
		return written(d)(func(f vfs.File) error { _, err := f.Write([]byte("1234")); return err })
	},
	"File.WriteAt": func(d vfs.FS) error {
		return written(d)(func(f vfs.File) error { _, err := f.WriteAt([]byte("1234"), 0); return err })
	},
	"File.Preallocate": func(d vfs.FS) error {
		return written(d)(func(f vfs.File) error { return f.Preallocate(0, 10) })
	},
	"File.Sync":     func(d vfs.FS) error { return written(d)(vfs.File.Sync) },
	"File.SyncData": func(d vfs.FS) error { return written(d)(vfs.File.SyncData) },
	"File.SyncTo": func(d vfs.FS) error {
		return written(d)(func(f vfs.File) error { _, err := f.SyncTo(1); return err })
	},
}

// reads are the methods that change nothing that a crash could lose.
var reads = []string{
	"FS.Open", "FS.List", "FS.Stat", "FS.PathBase", "FS.PathJoin", "FS.PathDir", "FS.GetDiskUsage", "FS.Unwrap",
	"FS.OpenDir", "File.Close", "File.Read", "File.ReadAt", "File.Stat", "File.Prefetch", "File.Fd",
}

func closing(f vfs.File, err error) error {
	if err != nil {
		return err
	}
	return f.Close()
}

func opened(f vfs.File, err error) func(func(vfs.File) error) error {
	return func(do func(vfs.File) error) error {
		if err != nil {
			return err
		}
		return errors.Join(do(f), f.Close())
	}
}

// written opens b for writing.
func written(d vfs.FS) func(func(vfs.File) error) error {
	return opened(d.OpenReadWrite("/b", unspecified))
}

func newDisk(t *testing.T) *vfs.MemFS {
	t.Helper()
	d := vfs.NewCrashableMem()
	for _, name := range []string{"/a", "/b"} {
		f, err := d.Create(name, unspecified)
		if err == nil {
			_, err = f.Write([]byte("before"))
		}
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := opened(d.OpenDir("/"))(vfs.File.Sync); err != nil {
		t.Fatal(err)
	}
	return d
}

// state is all that programs see on d.
func state(t *testing.T, d vfs.FS) string {
	t.Helper()
	names, err := d.List("/")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	var s string
	for _, name := range names {
		s += name + "=" + content(t, d, "/"+name) + "\n"
	}
	return s
}

func content(t *testing.T, d vfs.FS, name string) string {
	t.Helper()
	f, err := d.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return "a folder"
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestEveryMethodIsKnown: a method of a newer Pebble is hooked, or said to be a
// read, before a crash test believes it.
func TestEveryMethodIsKnown(t *testing.T) {
	for prefix, typ := range map[string]reflect.Type{"FS.": reflect.TypeFor[vfs.FS](), "File.": reflect.TypeFor[vfs.File]()} {
		for i := range typ.NumMethod() {
			name := prefix + typ.Method(i).Name
			if changes[name] == nil && !slices.Contains(reads, name) {
				t.Errorf("%s is neither hooked nor a read", name)
			}
		}
	}
}

// TestEveryChangeIsHooked: each is announced, and an error in its place leaves
// the disk as it was.
func TestEveryChangeIsHooked(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			steps := 0
			count := func() error { steps++; return nil }
			if err := change(Hook(newDisk(t), count)); err != nil {
				t.Fatal(err)
			}
			opens := 0 // written opens a file, which is a step of its own
			if name[:5] == "File." {
				opens = 1
			}
			if steps <= opens {
				t.Fatalf("%d steps", steps)
			}
			d := newDisk(t)
			before, step := state(t, d), 0
			err := change(Hook(d, func() error {
				if step++; step > opens {
					return syscall.EIO
				}
				return nil
			}))
			if after := state(t, d); !errors.Is(err, syscall.EIO) || after != before {
				t.Errorf("%v; before:\n%safter:\n%s", err, before, after)
			}
		})
	}
}

// TestPartialWrites: a write that fails on the way has put down half.
func TestPartialWrites(t *testing.T) {
	for _, name := range []string{"File.Write", "File.WriteAt"} {
		d, step := newDisk(t), 0
		err := changes[name](&hookFS{FS: d, before: func() (bool, error) {
			if step++; step == 2 {
				return true, syscall.ENOSPC
			}
			return false, nil
		}})
		if got := content(t, d, "/b"); !errors.Is(err, syscall.ENOSPC) || got != "12fore" {
			t.Errorf("%s: %v, %q", name, err, got)
		}
	}
}

// TestNoSync: however a file was opened and however it is synced, a crash takes
// what was written.
func TestNoSync(t *testing.T) {
	opens := map[string]func(vfs.FS) (vfs.File, error){
		"Create":        func(d vfs.FS) (vfs.File, error) { return d.Create("/new", unspecified) },
		"OpenReadWrite": func(d vfs.FS) (vfs.File, error) { return d.OpenReadWrite("/b", unspecified) },
		"ReuseForWrite": func(d vfs.FS) (vfs.File, error) { return d.ReuseForWrite("/a", "/new", unspecified) },
	}
	syncs := map[string]func(vfs.File) error{
		"Sync": vfs.File.Sync, "SyncData": vfs.File.SyncData,
		"SyncTo": func(f vfs.File) error { _, err := f.SyncTo(6); return err },
	}
	for how, open := range opens {
		for what, sync := range syncs {
			d := newDisk(t)
			f, err := open(NoSync(d))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write([]byte("after!")); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(sync(f), f.Close(), opened(d.OpenDir("/"))(vfs.File.Sync)); err != nil {
				t.Fatal(err)
			}
			left := d.CrashClone(vfs.CrashCloneCfg{})
			names, err := left.List("/")
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if got := content(t, left, "/"+name); got == "after!" {
					t.Errorf("%s, %s: %s was synced", how, what, name)
				}
			}
			if f, err := open(NoSync(vfs.NewMem())); how == "ReuseForWrite" && (err == nil || f != nil) {
				t.Errorf("%s of no file: %v, %v", how, f, err)
			}
		}
	}
}

// TestFindCrash: a store that writes in place, with WriteAt, is caught; one that
// syncs before it acknowledges is not, and one that forgets only at the very end
// is caught too.
func TestFindCrash(t *testing.T) {
	slots := func(sync func(i int) bool) Work {
		return func(disk vfs.FS, seed uint64, ack func()) error {
			f, err := disk.Create("/slots", unspecified)
			if err == nil {
				err = opened(disk.OpenDir("/"))(vfs.File.Sync)
			}
			for i := 0; i < 4 && err == nil; i++ {
				_, err = f.WriteAt([]byte{byte(i + 1)}, int64(i))
				if err == nil && sync(i) {
					err = f.Sync()
				}
				ack()
			}
			return errors.Join(err, f.Close())
		}
	}
	check := func(disk vfs.FS, seed uint64, acked int) error {
		f, err := disk.Open("/slots")
		if err != nil {
			if acked > 0 {
				return err
			}
			return nil
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		for i := range acked {
			if len(data) <= i || data[i] != byte(i+1) {
				return fmt.Errorf("%d acknowledged, the disk has %v", acked, data)
			}
		}
		return nil
	}
	for name, c := range map[string]struct {
		sync   func(int) bool
		caught bool
	}{
		"syncs":        {func(int) bool { return true }, false},
		"never syncs":  {func(int) bool { return false }, true},
		"not the last": {func(i int) bool { return i < 3 }, true},
	} {
		n, err := FindCrash(200, slots(c.sync), check)
		if (err != nil) != c.caught {
			t.Errorf("%s: %d points, %v", name, n, err)
		}
	}
	// And what is copied is what a power cut leaves, not what programs see.
	d := newDisk(t)
	if err := changes["File.Write"](d); err != nil {
		t.Fatal(err)
	}
	if got := content(t, d.CrashClone(vfs.CrashCloneCfg{RNG: rand.New(rand.NewPCG(1, 1))}), "/b"); got != "before" {
		t.Errorf("%q", got)
	}
}
