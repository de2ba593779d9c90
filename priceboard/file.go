package priceboard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"sync"
)

// FileStore is a [Store] in one file of the form price_board.v1.bin. Make one
// with [File].
//
// Beside the file at path it uses three names: path.tmp is a save under way, and
// removed by Load if a crash left it; path.lock carries the claim and stays, for
// removing it would let two boards hold one each; path.corrupt (then .corrupt.1,
// .corrupt.2, …) is a damaged file that Load has moved aside.
type FileStore struct {
	path string
	sys  system

	mu      sync.Mutex
	loaded  bool
	closed  bool
	lock    io.Closer // nil until the file is claimed
	scratch []byte
}

var _ Store = (*FileStore)(nil)

// system is what a FileStore asks of the operating system: disk, or a model that
// crashes.
type system interface {
	// lock claims a file for this process, and makes it if need be. It returns
	// ErrInUse if the claim is another's, fs.ErrPermission if the folder is
	// read-only for any reason.
	lock(name string) (io.Closer, error)
	// read returns the whole file, or ErrCorrupt if it cannot be a snapshot.
	read(name string) ([]byte, error)
	exists(name string) (bool, error)
	// create makes a file that does not exist.
	create(name string) (newFile, error)
	rename(from, to string) error
	remove(name string) error
	syncDir(name string) error
}

type newFile interface {
	io.WriteCloser
	Sync() error
}

// File returns a store in the file at path. Its folder must exist; the file need
// not. Nothing is touched before Load or Save.
func File(path string) *FileStore {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs // stays the same file when the process changes folder
	}
	return &FileStore{path: path, sys: disk{}}
}

// Load implements [Store]. In a folder that cannot be written it reads without a
// claim, since nobody can save there either; the first Save then claims it.
func (f *FileStore) Load(ctx context.Context) (Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return Snapshot{}, ErrClosed
	case ctx.Err() != nil:
		return Snapshot{}, ctx.Err()
	case f.loaded:
		return Snapshot{}, ErrInUse
	}
	readOnly := false
	if err := f.claim(); err != nil {
		if readOnly = errors.Is(err, fs.ErrPermission); !readOnly {
			return Snapshot{}, err
		}
	}
	if !readOnly {
		if err := f.sys.remove(f.path + ".tmp"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Snapshot{}, err
		}
	}
	data, err := f.sys.read(f.path)
	var s Snapshot
	if err == nil {
		err = s.UnmarshalBinary(data)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = ErrNoSnapshot
	case errors.Is(err, ErrCorrupt):
		aside, moveErr := f.setAside()
		if moveErr != nil {
			return Snapshot{}, fmt.Errorf("%v; cannot move it aside: %w", err, moveErr)
		}
		err = &CorruptError{Aside: aside, Err: err}
	case err != nil:
		return Snapshot{}, err
	}
	f.loaded = true
	return s, err
}

// Save implements [Store]: a temporary file in the same folder, fsync, rename,
// fsync of the folder. After an error the next Save starts from nothing with a
// new file, so no page that failed to reach the disk is ever trusted.
func (f *FileStore) Save(ctx context.Context, s Snapshot) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	data, err := s.AppendBinary(f.scratch[:0])
	if err != nil {
		return err
	}
	f.scratch = data
	if err := f.claim(); err != nil {
		return err
	}
	tmp := f.path + ".tmp"
	if err := f.sys.remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.write(tmp, data); err != nil {
		f.sys.remove(tmp) // it may hold the space that was missing
		return err
	}
	if err := f.sys.rename(tmp, f.path); err != nil {
		f.sys.remove(tmp)
		return err
	}
	return f.sys.syncDir(filepath.Dir(f.path))
}

// Close implements [Store].
func (f *FileStore) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed, f.scratch = true, nil
	if f.lock == nil {
		return nil
	}
	lock := f.lock
	f.lock = nil
	return lock.Close()
}

// claim takes the lock, unless f has it. The caller holds f.mu.
func (f *FileStore) claim() error {
	if f.lock != nil {
		return nil
	}
	lock, err := f.sys.lock(f.path + ".lock")
	if err != nil {
		return err
	}
	f.lock = lock
	return nil
}

// write makes the file name, durable but for its place in the folder.
func (f *FileStore) write(name string, data []byte) error {
	file, err := f.sys.create(name)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := file.Sync(); err != nil {
		return errors.Join(err, file.Close())
	}
	return file.Close()
}

// setAside renames the damaged file to a name that is free.
func (f *FileStore) setAside() (string, error) {
	to := f.path + ".corrupt"
	for i := 1; ; i++ {
		taken, err := f.sys.exists(to)
		if err != nil {
			return "", err
		}
		if !taken {
			break
		}
		to = f.path + ".corrupt." + strconv.Itoa(i)
	}
	if err := f.sys.rename(f.path, to); err != nil {
		return "", err
	}
	return to, f.sys.syncDir(filepath.Dir(f.path))
}
