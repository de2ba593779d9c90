package courier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
)

// DirBundles keeps each bundle as the file path/ab/cdef…, named by its hash in
// hex. A bundle is written to path/tmp, synced, renamed and its folder synced,
// so it is there whole or not at all. One Courier of one process uses a path;
// what an earlier process left in path/tmp is removed at the first use. Nothing
// is made before that.
//
// When a folder cannot be synced, nobody knows what the disk holds: from then
// on Commit returns ErrPoisoned until the Bundles is made anew.
func DirBundles(path string) Bundles { return &dirBundles{path: path, files: osFiles{}} }

// files is what dirBundles needs of a file system.
type files interface {
	mkdirAll(dir string) error
	create(name string) (newFile, error)
	open(name string) (io.ReadCloser, error)
	rename(from, to string) error
	remove(name string) error
	list(dir string) iter.Seq2[string, error] // in constant memory
	syncDir(dir string) error
}

type newFile interface {
	io.WriteCloser
	Sync() error
}

type dirBundles struct {
	path  string
	files files

	mu       sync.Mutex
	ready    bool   // tmp is there and empty of old files
	next     uint64 // number of the next temporary file
	poisoned error

	shards [256]shard
}

// shard is the folder of the bundles that share the first byte.
type shard struct {
	mu    sync.Mutex // held over rename and sync
	ready bool       // the folder is there, durably
}

func (d *dirBundles) tmp() string { return filepath.Join(d.path, "tmp") }

func (d *dirBundles) name(h Hash) string {
	s := h.String()
	return filepath.Join(d.path, s[:2], s[2:])
}

// prepare makes the folders, durably, and removes old temporary files. d.mu is
// held.
func (d *dirBundles) prepare() error {
	if d.ready {
		return nil
	}
	if err := d.files.mkdirAll(d.tmp()); err != nil {
		return err
	}
	if err := d.files.syncDir(filepath.Dir(filepath.Clean(d.path))); err != nil {
		return err
	}
	for name, err := range d.files.list(d.tmp()) {
		if err != nil {
			return err
		}
		if err := d.files.remove(filepath.Join(d.tmp(), name)); err != nil {
			return err
		}
	}
	d.ready = true
	return nil
}

func (d *dirBundles) Create(ctx context.Context) (BundleWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.poisoned != nil {
		return nil, d.poisoned
	}
	if err := d.prepare(); err != nil {
		return nil, fmt.Errorf("courier: bundles: %w", err)
	}
	d.next++
	name := filepath.Join(d.tmp(), strconv.FormatUint(d.next, 10))
	f, err := d.files.create(name)
	if err != nil {
		return nil, fmt.Errorf("courier: bundles: %w", err)
	}
	return &dirWriter{newFile: f, dir: d, name: name}, nil
}

func (d *dirBundles) Open(ctx context.Context, h Hash) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := d.files.open(d.name(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: bundle %v", ErrNotFound, h)
	}
	return r, err
}

// Remove is not synced: a bundle that comes back after a crash is swept later.
func (d *dirBundles) Remove(ctx context.Context, h Hash) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.files.remove(d.name(h)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("courier: bundles: %w", err)
	}
	return nil
}

func (d *dirBundles) All(ctx context.Context) iter.Seq2[Hash, error] {
	return func(yield func(Hash, error) bool) {
		for shard := range 256 {
			prefix := fmt.Sprintf("%02x", shard)
			for name, err := range d.files.list(filepath.Join(d.path, prefix)) {
				if errors.Is(err, fs.ErrNotExist) {
					break
				}
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					yield(Hash{}, err)
					return
				}
				h, err := ParseHash(prefix + name)
				if err != nil {
					continue // not ours
				}
				if !yield(h, nil) {
					return
				}
			}
		}
	}
}

// place renames a synced temporary file to its name for good. It also does so
// when the bundle is there already: that mends a damaged one.
func (d *dirBundles) place(tmp string, h Hash) error {
	s := &d.shards[h[0]]
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := d.poison(nil); err != nil {
		return err
	}
	name := d.name(h)
	if !s.ready {
		if err := d.files.mkdirAll(filepath.Dir(name)); err != nil {
			return err
		}
		if err := d.sync(d.path); err != nil {
			return err
		}
		s.ready = true
	}
	if err := d.files.rename(tmp, name); err != nil {
		return err
	}
	return d.sync(filepath.Dir(name))
}

func (d *dirBundles) sync(dir string) error {
	if err := d.files.syncDir(dir); err != nil {
		return d.poison(fmt.Errorf("%w: sync %s: %w", ErrPoisoned, dir, err))
	}
	return nil
}

// poison keeps the first error it is given, and returns it from then on.
func (d *dirBundles) poison(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.poisoned == nil {
		d.poisoned = err
	}
	return d.poisoned
}

type dirWriter struct {
	newFile
	dir  *dirBundles
	name string
	done bool
}

func (w *dirWriter) Commit(h Hash) error {
	if w.done {
		return fmt.Errorf("courier: bundles: %w", fs.ErrClosed)
	}
	if err := w.newFile.Sync(); err != nil {
		return errors.Join(fmt.Errorf("courier: bundles: %w", err), w.Abort())
	}
	w.done = true
	if err := w.newFile.Close(); err != nil {
		return errors.Join(fmt.Errorf("courier: bundles: %w", err), w.dir.files.remove(w.name))
	}
	if err := w.dir.place(w.name, h); err != nil {
		w.dir.files.remove(w.name) // it may be gone by then; if not, the next process sweeps it
		return fmt.Errorf("courier: bundles: %w", err)
	}
	return nil
}

func (w *dirWriter) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	return errors.Join(w.newFile.Close(), w.dir.files.remove(w.name))
}

// osFiles is the operating system's file system.
type osFiles struct{}

func (osFiles) mkdirAll(dir string) error { return os.MkdirAll(dir, 0o755) }

func (osFiles) create(name string) (newFile, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

func (osFiles) open(name string) (io.ReadCloser, error) { return os.Open(name) }

func (osFiles) rename(from, to string) error { return os.Rename(from, to) }

func (osFiles) remove(name string) error { return os.Remove(name) }

func (osFiles) list(dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		f, err := os.Open(dir)
		if err != nil {
			yield("", err)
			return
		}
		defer f.Close()
		for {
			names, err := f.Readdirnames(256)
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield("", err)
				return
			}
		}
	}
}

func (osFiles) syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // there a folder cannot be synced, nor need be after a rename
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
