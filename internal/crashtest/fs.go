// Package crashtest runs a store on a file system in memory that crashes or
// fails at write 1, 2, 3 … until none is left, and lets the test look at what
// the disk then holds.
package crashtest

import (
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// hookFS calls before ahead of every operation that changes the disk. An error
// of before fails the operation; partial says that a write first puts half of
// its bytes down.
type hookFS struct {
	vfs.FS
	before func() (partial bool, err error)
	alone  sync.Mutex // held where the disk must not be copied meanwhile
}

func (h *hookFS) do(op func() error) error {
	if _, err := h.before(); err != nil {
		return err
	}
	return op()
}

func (h *hookFS) file(open func() (vfs.File, error)) (f vfs.File, err error) {
	if _, err := h.before(); err != nil {
		return nil, err
	}
	if f, err = open(); err != nil {
		return nil, err
	}
	return &hookFile{File: f, hook: h}, nil
}

func (h *hookFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return h.file(func() (vfs.File, error) { return h.FS.Create(name, c) })
}

func (h *hookFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return h.file(func() (vfs.File, error) { return h.FS.OpenReadWrite(name, c, opts...) })
}

func (h *hookFS) ReuseForWrite(o, n string, c vfs.DiskWriteCategory) (vfs.File, error) {
	// In two steps: MemFS.ReuseForWrite takes a lock twice, which deadlocks with
	// a CrashClone in between.
	if err := h.Rename(o, n); err != nil {
		return nil, err
	}
	return h.OpenReadWrite(n, c)
}

func (h *hookFS) OpenDir(name string) (vfs.File, error) {
	f, err := h.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &hookFile{File: f, hook: h}, nil
}

func (h *hookFS) Link(o, n string) error { return h.do(func() error { return h.FS.Link(o, n) }) }

func (h *hookFS) Rename(o, n string) error { return h.do(func() error { return h.FS.Rename(o, n) }) }

func (h *hookFS) Remove(n string) error { return h.do(func() error { return h.FS.Remove(n) }) }

func (h *hookFS) RemoveAll(n string) error {
	return h.do(func() error { return h.FS.RemoveAll(n) })
}

// Lock makes the lock's file.
func (h *hookFS) Lock(n string) (lock io.Closer, err error) {
	err = h.do(func() error {
		h.alone.Lock() // MemFS.Lock takes a lock twice, which deadlocks with a CrashClone in between
		defer h.alone.Unlock()
		lock, err = h.FS.Lock(n)
		return err
	})
	return lock, err
}

func (h *hookFS) MkdirAll(n string, perm fs.FileMode) error {
	return h.do(func() error { return h.FS.MkdirAll(n, perm) })
}

func (h *hookFS) Unwrap() vfs.FS { return h.FS }

type hookFile struct {
	vfs.File
	hook *hookFS
}

func (f *hookFile) Write(p []byte) (int, error) { return f.write(p, f.File.Write) }

func (f *hookFile) WriteAt(p []byte, at int64) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.WriteAt(p, at) })
}

func (f *hookFile) write(p []byte, write func([]byte) (int, error)) (int, error) {
	partial, err := f.hook.before()
	if err == nil {
		return write(p)
	}
	if !partial {
		return 0, err
	}
	n, werr := write(p[:len(p)/2])
	if werr != nil {
		err = werr
	}
	return n, err
}

func (f *hookFile) Preallocate(at, length int64) error {
	return f.hook.do(func() error { return f.File.Preallocate(at, length) })
}

func (f *hookFile) Sync() error     { return f.hook.do(f.File.Sync) }
func (f *hookFile) SyncData() error { return f.hook.do(f.File.SyncData) }

func (f *hookFile) SyncTo(length int64) (full bool, err error) {
	err = f.hook.do(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

// counter numbers the operations from 1.
type counter struct{ n atomic.Int64 }

func (c *counter) next() int { return int(c.n.Add(1)) }

// Hook returns disk with before called ahead of every operation that changes
// it; an error of before fails the operation.
func Hook(disk vfs.FS, before func() error) vfs.FS {
	return &hookFS{FS: disk, before: func() (bool, error) { return false, before() }}
}

// NoSync returns disk as a store would see it that acknowledges before it
// syncs: no file is ever synced. Folders are.
func NoSync(disk vfs.FS) vfs.FS { return &noSyncFS{disk} }

type noSyncFS struct{ vfs.FS }

func (n *noSyncFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return unsynced(n.FS.Create(name, c))
}

func (n *noSyncFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return unsynced(n.FS.OpenReadWrite(name, c, opts...))
}

func (n *noSyncFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return unsynced(n.FS.ReuseForWrite(oldname, newname, c))
}

func unsynced(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &noSyncFile{f}, nil
}

func (n *noSyncFS) Unwrap() vfs.FS { return n.FS }

type noSyncFile struct{ vfs.File }

func (*noSyncFile) Sync() error                { return nil }
func (*noSyncFile) SyncData() error            { return nil }
func (*noSyncFile) SyncTo(int64) (bool, error) { return true, nil }
