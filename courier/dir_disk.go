package courier

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"

	"github.com/computemarket/computemarket/internal/durable"
	"github.com/computemarket/computemarket/internal/filelock"
)

// disk is what a Dir asks of a file system: osDisk, or a model that crashes.
type disk interface {
	durable.FS
	Open(name string) (io.ReadCloser, error)
	// List yields the names in a folder, in constant memory.
	List(dir string) iter.Seq2[string, error]
	// Claim makes a folder this claim's alone, or returns ErrLocked.
	Claim(dir string) (claim, error)
}

type claim interface {
	// Holds returns ErrLocked if the folder is no longer the one claimed.
	Holds() error
	Close() error
}

// osDisk is the operating system's file system.
type osDisk struct{ durable.OS }

var _ disk = osDisk{}

func (osDisk) Open(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err // not a nil *os.File
	}
	return f, nil
}

func (osDisk) List(dir string) iter.Seq2[string, error] {
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

func (osDisk) Claim(dir string) (claim, error) {
	l, err := lockIn(dir)
	if err != nil {
		return nil, err
	}
	folder, err := os.Stat(dir)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &osClaim{dir: dir, folder: folder, lock: l}, nil
}

// osClaim is the claim on the folder at dir by the file lock in it.
type osClaim struct {
	dir    string
	folder fs.FileInfo // which folder it was

	mu   sync.Mutex
	lock *filelock.Lock
}

func lockIn(dir string) (*filelock.Lock, error) {
	l, err := filelock.New(filepath.Join(dir, "lock"))
	if errors.Is(err, filelock.ErrLocked) {
		return nil, fmt.Errorf("%w: %w", ErrLocked, err)
	}
	return l, err
}

// Holds locks again when only the file was removed, as somebody does who cleans
// up.
func (c *osClaim) Holds() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lock.Holds() {
		return nil
	}
	there, err := os.Stat(c.dir)
	if err == nil && !os.SameFile(there, c.folder) {
		err = errors.New("another folder is there")
	}
	if err != nil {
		return fmt.Errorf("%w: the folder %s was moved, removed or replaced: %w", ErrLocked, c.dir, notGone(err))
	}
	l, err := lockIn(c.dir)
	if err != nil {
		return err
	}
	old := c.lock
	c.lock = l
	return old.Close()
}

// notGone keeps a folder that is away from being taken for a bundle that is.
func notGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("nothing is there")
	}
	return err
}

func (c *osClaim) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lock.Close()
}
