package durable

import (
	"errors"
	"io/fs"
)

// File is a new file under a temporary name. Write to it, then either Close it
// and [Rename] it to its own name, or Abort it.
type File struct {
	fsys FS
	name string
	h    Handle
	done bool
}

// Create makes a file at name, which must not exist, with perm less the umask.
//
// Possible errors: fs.ErrExist, fs.ErrNotExist if the folder is missing, and
// those of the file system.
func Create(fsys FS, name string, perm fs.FileMode) (*File, error) {
	h, err := fsys.Create(name, perm)
	if err != nil {
		return nil, explain(err, name)
	}
	return &File{fsys: fsys, name: name, h: h}, nil
}

// Name returns the name that f was made with.
func (f *File) Name() string { return f.name }

// Write writes to the file.
func (f *File) Write(p []byte) (int, error) { return f.h.Write(p) }

// Close makes what was written durable, but for the name. If it cannot, the file
// is gone: after a sync that failed nobody knows what the disk holds. A second
// Close, and one after Abort, is fs.ErrClosed.
func (f *File) Close() error {
	if f.done {
		return fs.ErrClosed
	}
	if err := f.h.Sync(); err != nil {
		return errors.Join(err, f.Abort())
	}
	f.done = true
	if err := f.h.Close(); err != nil {
		return errors.Join(err, f.fsys.Remove(f.name))
	}
	return nil
}

// Abort closes and removes the file. After Close or Abort it does nothing.
func (f *File) Abort() error {
	if f.done {
		return nil
	}
	f.done = true
	return errors.Join(f.h.Close(), f.fsys.Remove(f.name))
}
