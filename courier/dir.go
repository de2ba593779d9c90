package courier

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"
	"sync"

	"github.com/computemarket/computemarket/internal/durable"
)

// Dir is [Bundles] in a folder, each bundle as the file path/ab/cdef…, named by
// its hash in hex. A bundle is written to path/tmp, synced, renamed and its
// folder synced, so it is there whole or not at all. Make one with [DirBundles].
//
// One Dir at a time uses a folder, from its first use to its Close or the end of
// its process: it claims the file path/lock, which stays there, and removes what
// an earlier process left in path/tmp. For a second one, in this process or
// another, every method returns [ErrLocked] and touches nothing. So it is for
// the first when the folder was moved away or replaced under it; put the folder
// back, or begin anew with another Dir.
//
// When a folder cannot be synced, nobody knows what the disk holds: from then on
// Create and Commit return [ErrPoisoned]. Close the Dir and begin with another.
// After Close every method returns [ErrClosed].
type Dir struct {
	path string
	disk disk

	// gate is held for reading while a method works on the folder, and for
	// writing by Prepare and Close.
	gate   sync.RWMutex
	claim  claim // nil before the first use
	closed bool

	mu       sync.Mutex
	poisoned error

	shards [256]shard
}

// shard is the folder of the bundles that share the first byte.
type shard struct {
	mu    sync.Mutex // held over rename and sync
	ready bool       // the folder was made, durably
}

var _ Bundles = (*Dir)(nil)

const (
	dirPerm  = 0o755
	filePerm = 0o644
)

// DirBundles returns the bundles in the folder at path. Nothing is made, and the
// folder is not claimed, before the first use or [Dir.Prepare].
func DirBundles(path string) *Dir {
	if abs, err := filepath.Abs(path); err == nil && path != "" {
		path = abs // stays the same when the process changes folder
	}
	return &Dir{path: path, disk: osDisk{}}
}

// Prepare makes the folder, with those above it, and claims it, as the first use
// does otherwise: a program that calls it learns at its start that the folder is
// in use. Possible errors: [ErrLocked], [ErrInvalid] for the empty path,
// [ErrPoisoned], [ErrClosed], and those of the file system.
func (d *Dir) Prepare() error {
	d.gate.Lock()
	defer d.gate.Unlock()
	switch {
	case d.disk == nil || d.path == "":
		return fmt.Errorf("%w: bundles without a folder: use DirBundles with a path", ErrInvalid)
	case d.closed:
		return fmt.Errorf("%w: bundles in %s", ErrClosed, d.path)
	case d.claim != nil:
		return nil
	}
	if err := d.mkdir(d.path); err != nil {
		return err
	}
	c, err := d.disk.Claim(d.path)
	if err != nil {
		return wrapDir(err)
	}
	// What is in tmp is nobody's now.
	if err := d.sweep(); err != nil {
		return errors.Join(wrapDir(err), c.Close())
	}
	d.claim = c
	return nil
}

// Close gives the folder back to whoever wants it next. It waits for what is
// being written to it. A second Close does nothing.
func (d *Dir) Close() error {
	d.gate.Lock()
	defer d.gate.Unlock()
	d.closed = true
	if d.claim == nil {
		return nil
	}
	c := d.claim
	d.claim = nil
	return wrapDir(c.Close())
}

// Create implements [Bundles].
func (d *Dir) Create(ctx context.Context) (BundleWriter, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.gate.RUnlock()
	if err := errors.Join(d.poison(nil), d.claim.Holds()); err != nil {
		return nil, wrapDir(err)
	}
	name := filepath.Join(d.tmp(), tmpPrefix+rand.Text())
	f, err := durable.Create(d.disk, name, filePerm)
	if errors.Is(err, fs.ErrNotExist) { // somebody cleans up folders of that name
		if err := d.mkdir(d.tmp()); err != nil {
			return nil, err
		}
		f, err = durable.Create(d.disk, name, filePerm)
	}
	if err != nil {
		return nil, wrapDir(err)
	}
	return &dirWriter{file: f, dir: d}, nil
}

// Open implements [Bundles].
func (d *Dir) Open(ctx context.Context, h Hash) (io.ReadCloser, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.gate.RUnlock()
	r, err := d.disk.Open(d.name(h))
	if !errors.Is(err, fs.ErrNotExist) {
		return r, wrapDir(err)
	}
	// When the whole folder is away, the bundle is not lost.
	if err := d.claim.Holds(); err != nil {
		return nil, wrapDir(err)
	}
	return nil, fmt.Errorf("%w: bundle %v", ErrNotFound, h)
}

// Remove implements [Bundles]. It is not synced: a bundle that comes back after
// a crash is swept by Prune.
func (d *Dir) Remove(ctx context.Context, h Hash) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.gate.RUnlock()
	if err := d.claim.Holds(); err != nil {
		return wrapDir(err)
	}
	if err := d.disk.Remove(d.name(h)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wrapDir(err)
	}
	return nil
}

// All implements [Bundles].
func (d *Dir) All(ctx context.Context) iter.Seq2[Hash, error] {
	return func(yield func(Hash, error) bool) {
		for shard := range len(d.shards) {
			if err := d.holds(ctx); err != nil {
				yield(Hash{}, err)
				return
			}
			for h, err := range d.allOf(ctx, fmt.Sprintf("%02x", shard)) {
				if !yield(h, err) || err != nil {
					return
				}
			}
		}
	}
}

// allOf is All of one shard. The gate is not held while somebody else's loop
// runs, who may call Close.
func (d *Dir) allOf(ctx context.Context, prefix string) iter.Seq2[Hash, error] {
	return func(yield func(Hash, error) bool) {
		for name, err := range d.disk.List(filepath.Join(d.path, prefix)) {
			if e := d.enter(ctx); e != nil {
				yield(Hash{}, e)
				return
			}
			d.gate.RUnlock()
			if errors.Is(err, fs.ErrNotExist) {
				return // no bundle was ever there
			}
			if err != nil {
				yield(Hash{}, wrapDir(err))
				return
			}
			if h, err := ParseHash(prefix + name); err == nil && !yield(h, nil) { // others are not ours
				return
			}
		}
	}
}

// enter returns with the gate held for reading, and the folder claimed, or with
// an error.
func (d *Dir) enter(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.gate.RLock()
		if d.claim != nil {
			return nil
		}
		d.gate.RUnlock()
		if err := d.Prepare(); err != nil {
			return err
		}
	}
}

func (d *Dir) holds(ctx context.Context) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.gate.RUnlock()
	return wrapDir(d.claim.Holds())
}

// tmpPrefix begins the names of temporary files. Earlier releases used numbers.
const tmpPrefix = "bundle-"

func (d *Dir) tmp() string { return filepath.Join(d.path, "tmp") }

func (d *Dir) name(h Hash) string {
	s := h.String()
	return filepath.Join(d.path, s[:2], s[2:])
}

// sweep removes temporary files, and nothing that may be somebody else's.
func (d *Dir) sweep() error {
	for name, err := range d.disk.List(d.tmp()) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !strings.HasPrefix(name, tmpPrefix) && strings.Trim(name, "0123456789") != "" {
			continue
		}
		if err := d.disk.Remove(filepath.Join(d.tmp(), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// mkdir makes a folder, with those above it, durably.
func (d *Dir) mkdir(name string) error { return d.synced(durable.MkdirAll(d.disk, name, dirPerm)) }

// synced poisons d when err says that a folder could not be synced.
func (d *Dir) synced(err error) error {
	if errors.Is(err, durable.ErrUnsynced) {
		return d.poison(fmt.Errorf("%w: %w", ErrPoisoned, err))
	}
	return wrapDir(err)
}

// poison keeps the first error it is given, and returns it from then on.
func (d *Dir) poison(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.poisoned == nil {
		d.poisoned = err
	}
	return d.poisoned
}

func wrapDir(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("courier: bundles: %w", err)
}

// place renames a synced temporary file to its name for good. It also does so
// when the bundle is there already: that mends a damaged one.
func (d *Dir) place(tmp string, h Hash) error {
	if err := d.enter(context.Background()); err != nil {
		return err
	}
	defer d.gate.RUnlock()
	s := &d.shards[h[0]]
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := d.poison(nil); err != nil {
		return err
	}
	err := d.rename(s, tmp, d.name(h))
	if errors.Is(err, fs.ErrNotExist) && s.ready {
		s.ready = false // somebody has removed the folder
		err = d.rename(s, tmp, d.name(h))
	}
	if err != nil {
		return err
	}
	// Asked last: else the file could be in a folder that has just come here.
	return wrapDir(d.claim.Holds())
}

func (d *Dir) rename(s *shard, tmp, name string) error {
	if !s.ready {
		if err := d.claim.Holds(); err != nil { // else a folder that was moved away would be made anew
			return wrapDir(err)
		}
		if err := d.mkdir(filepath.Dir(name)); err != nil {
			return err
		}
		s.ready = true
	}
	return d.synced(durable.Rename(d.disk, tmp, name))
}

type dirWriter struct {
	file *durable.File
	dir  *Dir
}

func (w *dirWriter) Write(p []byte) (int, error) { return w.file.Write(p) }

func (w *dirWriter) Commit(h Hash) error {
	if err := w.file.Close(); err != nil {
		return wrapDir(err)
	}
	if err := w.dir.place(w.file.Name(), h); err != nil {
		w.dir.disk.Remove(w.file.Name()) // it may be gone by then; if not, it is swept some day
		return err
	}
	return nil
}

func (w *dirWriter) Abort() error { return wrapDir(w.file.Abort()) }
