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

	"github.com/computemarket/computemarket/internal/durable"
	"github.com/computemarket/computemarket/internal/filelock"
)

// FileStore is a [Store] in one file of the form price_board.v1.bin. Make one
// with [File]; the zero FileStore answers [ErrOptions].
//
// Symbolic links are followed, and the file is the one that they lead to when the
// store is claimed. Beside it three names are used: .tmp added is a save under
// way, and removed by Load if a crash left it; .lock carries the claim and stays,
// for removing it would let two boards hold one each; .corrupt (then .corrupt.1,
// .corrupt.2, …) is a damaged file that Load has moved aside.
type FileStore struct {
	path    string // absolute, so that it stays the same when the process changes folder
	bad     error  // why there is no path
	version int
	sys     system

	mu     sync.Mutex
	used   bool // by a Load or Save
	closed bool
	lock   claim  // nil until the file is claimed
	file   string // path without links, once claimed
}

var _ Store = (*FileStore)(nil)

// FileOptions are the settings of a [FileStore]. The zero value, and nil, take
// every default.
type FileOptions struct {
	// Version is the form that Save writes. 1 is what other nodes read; it has
	// no parties, so after a restart [Options.MaxPerParty] counts only what
	// comes then. 2 has them; a snapshot without parties, which is what a board
	// without that limit saves, is in version 1 all the same. Load reads both.
	// Defaults to 2.
	Version int
}

// system is what a FileStore asks of the operating system: disk, or a model that
// crashes.
type system interface {
	durable.FS
	// lock claims a file for this process, and makes it if need be. It returns
	// ErrLocked if the claim is another's, and filelock.ErrReadOnly if there is
	// no such file and none can be made.
	lock(name string) (claim, error)
	// read returns the whole file, or the error of what cannot be a snapshot.
	read(name string) ([]byte, error)
	exists(name string) (bool, error)
}

type claim interface {
	io.Closer
	// Holds reports whether the name that was claimed is still the same file.
	Holds() bool
}

// File returns a store in the file at path; nil options take the defaults. The
// folder must exist; the file need not. Nothing is touched before Load or Save,
// and they return [ErrOptions] for an empty path and for options out of range.
func File(path string, opts *FileOptions) *FileStore {
	f := &FileStore{sys: disk{}, version: 2}
	if opts != nil && opts.Version != 0 {
		f.version = opts.Version
	}
	if f.version != 1 && f.version != 2 {
		f.bad = fmt.Errorf("%w: Version %d, want 1 or 2", ErrOptions, f.version)
	}
	if path != "" {
		abs, err := filepath.Abs(path)
		if err != nil {
			f.bad = fmt.Errorf("price board %s: %w", path, err)
		}
		f.path = abs
	}
	return f
}

// usable returns why f cannot be used, if it cannot. The caller holds f.mu.
func (f *FileStore) usable(ctx context.Context) error {
	switch {
	case f.closed:
		return ErrClosed
	case f.bad != nil:
		return f.bad
	case f.path == "":
		return fmt.Errorf("%w: a file store without a path", ErrOptions)
	}
	return ctx.Err()
}

// Load implements [Store]. In a folder that cannot be written it reads without a
// claim, since nobody can save there either; the first Save then claims it. A
// damaged file there stays where it is and is an error.
func (f *FileStore) Load(ctx context.Context) (Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.used && !f.closed {
		return Snapshot{}, ErrLocked
	}
	if err := f.usable(ctx); err != nil {
		return Snapshot{}, err
	}
	readOnly := f.claim()
	if readOnly != nil && !errors.Is(readOnly, filelock.ErrReadOnly) {
		return Snapshot{}, readOnly
	}
	s, err := f.load(readOnly)
	f.used = err == nil || errors.Is(err, ErrNoSnapshot) || errors.Is(err, ErrCorrupt)
	if !f.used {
		err = errors.Join(err, f.release())
	}
	return s, err
}

// load is Load with the claim taken, or with the reason why there is none.
func (f *FileStore) load(readOnly error) (s Snapshot, err error) {
	if readOnly == nil {
		f.sys.Remove(f.file + ".tmp") // or Save does it, and tells
	}
	data, err := f.sys.read(f.file)
	if err == nil {
		err = s.UnmarshalBinary(data)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, ErrNoSnapshot
	case errors.Is(err, ErrCorrupt) && readOnly != nil:
		return s, fmt.Errorf("%v; cannot move it aside: %w", err, readOnly)
	case errors.Is(err, ErrCorrupt):
		aside, moveErr := f.setAside()
		if moveErr != nil {
			return s, fmt.Errorf("%v; cannot move it aside: %w", err, moveErr)
		}
		return s, &CorruptError{Aside: aside, Err: err}
	case err != nil:
		return s, fmt.Errorf("%s: %w", f.file, err)
	}
	return s, nil
}

// Save implements [Store]: a temporary file in the same folder, fsync, rename,
// fsync of the folder. The file keeps its mode. After an error the file holds
// what it held before, or what was to be saved if all that failed was the last
// step; the next Save starts from nothing with a new file, so no page that failed
// to reach the disk is ever trusted.
func (f *FileStore) Save(ctx context.Context, s Snapshot) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usable(ctx); err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return err
	}
	if f.version == 1 {
		s.Parties = nil
	}
	data, err := s.MarshalBinary()
	if err != nil {
		return err
	}
	if f.lock == nil {
		if err := f.claim(); err != nil {
			return err
		}
	}
	if !f.lock.Holds() {
		return fmt.Errorf("%w: perhaps, for %s.lock was removed or its folder moved: close this one and open it again", ErrLocked, f.file)
	}
	f.used = true
	tmp := f.file + ".tmp"
	if err := f.sys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.Replace(f.sys, f.file, func(string) string { return tmp }, data, 0o644)
}

// Close implements [Store].
func (f *FileStore) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return f.release()
}

// claim finds the file and takes its lock. The caller holds f.mu, and no lock.
func (f *FileStore) claim() error {
	file, err := f.sys.Resolve(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: make the folder %s first", err, filepath.Dir(f.path))
	}
	if err != nil {
		return err
	}
	f.file = file
	lock, err := f.sys.lock(file + ".lock")
	if err != nil {
		return err
	}
	f.lock = lock
	return nil
}

// release gives the lock back, if f has it. The caller holds f.mu.
func (f *FileStore) release() error {
	lock := f.lock
	if f.lock = nil; lock == nil {
		return nil
	}
	return lock.Close()
}

// setAside renames the damaged file to a name that is free.
func (f *FileStore) setAside() (string, error) {
	to := f.file + ".corrupt"
	for i := 1; ; i++ {
		taken, err := f.sys.exists(to)
		if err != nil {
			return "", err
		}
		if !taken {
			break
		}
		to = f.file + ".corrupt." + strconv.Itoa(i)
	}
	return to, durable.Rename(f.sys, f.file, to)
}
