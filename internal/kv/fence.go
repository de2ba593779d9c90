package kv

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fence is a file system that stops all writing to disk at the first write,
// sync or create that fails: from then on the disk holds what it would hold
// after a crash, whatever Pebble still does in the background, and the reason is
// kept as the poison of the store.
//
// Pebble must not hear of it. An error on the way to its WAL ends the process
// (rotateWAL panics with its mutex released), one in its manifest is declared
// fatal, and a flush that keeps failing leaves a commit waiting for room for
// ever. So the fence then plays a disk that works: the WAL, the manifest and the
// directories take every write in silence, and new files live in memory. Commits
// are refused by then, so there are few. Compactions alone are told, and paused,
// since Pebble repeats them at once.
type fence struct {
	vfs.FS
	cause  atomic.Pointer[error]
	shadow *vfs.MemFS // the files made after the first failure
}

const compactionPause = 10 * time.Millisecond

func newFence(disk vfs.FS) *fence { return &fence{FS: disk, shadow: vfs.NewMem()} }

// fail closes the fence; the first reason is kept.
func (f *fence) fail(err error) {
	if err != nil {
		f.cause.CompareAndSwap(nil, &err)
	}
}

// reason is nil while the fence is open.
func (f *fence) reason() error {
	if p := f.cause.Load(); p != nil {
		return *p
	}
	return nil
}

// write runs op on the disk unless the fence is closed, and closes it when op
// fails. It reports whether op did its work.
func (f *fence) write(op func() error) bool {
	if f.reason() != nil {
		return false
	}
	err := op()
	f.fail(err)
	return err == nil
}

func (f *fence) writable(name string, c vfs.DiskWriteCategory, open func() (vfs.File, error)) (file vfs.File, err error) {
	ok := f.write(func() error {
		file, err = open()
		return err
	})
	if ok {
		base := f.PathBase(name)
		quiet := strings.HasSuffix(base, ".log") || strings.HasPrefix(base, "MANIFEST-")
		return &fencedFile{File: file, fence: f, quiet: quiet}, nil
	}
	if c == "pebble-compaction" {
		time.Sleep(compactionPause)
		return nil, f.reason()
	}
	if err := f.shadow.MkdirAll(f.PathDir(name), 0o755); err != nil {
		return nil, err
	}
	return f.shadow.Create(name, c)
}

// Create syncs the directory ahead of one of Pebble's marker files, so that no
// disk, whatever order it keeps, has the marker without the file it names.
func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(f.PathBase(name), "marker.") {
		f.write(func() error {
			dir, err := f.FS.OpenDir(f.PathDir(name))
			if err != nil {
				return err
			}
			return errors.Join(dir.Sync(), dir.Close())
		})
	}
	return f.writable(name, c, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.writable(name, c, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *fence) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.writable(newname, c, func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, c) })
}

// OpenDir opens for syncing.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &fencedFile{File: file, fence: f, quiet: true}, nil
}

func (f *fence) Link(oldname, newname string) error {
	if !f.write(func() error { return f.FS.Link(oldname, newname) }) {
		f.shadow.Link(oldname, newname)
	}
	return nil
}

func (f *fence) Rename(oldname, newname string) error {
	if !f.write(func() error { return f.FS.Rename(oldname, newname) }) {
		f.shadow.Rename(oldname, newname)
	}
	return nil
}

func (f *fence) MkdirAll(dir string, perm fs.FileMode) error {
	f.write(func() error { return f.FS.MkdirAll(dir, perm) })
	return nil
}

// Remove deletes what nobody needs any more: its failure harms nothing, and
// Pebble tries again.
func (f *fence) Remove(name string) error {
	if f.reason() != nil {
		f.shadow.Remove(name)
		return nil
	}
	return f.FS.Remove(name)
}

func (f *fence) RemoveAll(name string) error {
	if f.reason() != nil {
		f.shadow.RemoveAll(name)
		return nil
	}
	return f.FS.RemoveAll(name)
}

func (f *fence) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if f.reason() != nil {
		if file, err := f.shadow.Open(name, opts...); err == nil {
			return file, nil
		}
	}
	return f.FS.Open(name, opts...)
}

func (f *fence) Stat(name string) (vfs.FileInfo, error) {
	if f.reason() != nil {
		if info, err := f.shadow.Stat(name); err == nil {
			return info, nil
		}
	}
	return f.FS.Stat(name)
}

func (f *fence) Unwrap() vfs.FS { return f.FS }

// fencedFile is a file on disk.
type fencedFile struct {
	vfs.File
	fence *fence
	quiet bool // Pebble does not survive an error here
}

func (f *fencedFile) write(op func() error) error {
	if f.fence.write(op) || f.quiet {
		return nil
	}
	return f.fence.reason()
}

func (f *fencedFile) Write(p []byte) (int, error) {
	return f.writeAll(p, f.File.Write)
}

func (f *fencedFile) WriteAt(p []byte, off int64) (int, error) {
	return f.writeAll(p, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *fencedFile) writeAll(p []byte, write func([]byte) (int, error)) (int, error) {
	err := f.write(func() error {
		n, err := write(p)
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *fencedFile) Sync() error     { return f.write(f.File.Sync) }
func (f *fencedFile) SyncData() error { return f.write(f.File.SyncData) }

func (f *fencedFile) SyncTo(length int64) (full bool, err error) {
	err = f.write(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *fencedFile) Close() error {
	err := f.File.Close()
	if f.fence.reason() != nil {
		return nil
	}
	return err
}
