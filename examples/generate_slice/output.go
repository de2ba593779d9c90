package main

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/computemarket/computemarket/internal/durable"
)

// An output is a file that comes under its name only when it is whole.
type output struct {
	path string
	file *os.File // under a name of its own, in the same folder

	mu        sync.Mutex // a signal and the work may want to end it at once
	ended     bool       // abandoned or kept
	published bool
}

func create(path string) (*output, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), ".slice-"+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return &output{path: path, file: f}, nil
}

var errAbandoned = errors.New("abandoned")

// publish gives the file its name, durably, unless that was taken meanwhile.
func (o *output) publish() error {
	if err := o.file.Sync(); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return errAbandoned
	}
	if err := nameAnew(o.file.Name(), o.path); err != nil {
		return err
	}
	o.published = true
	return durable.OS{}.SyncDir(filepath.Dir(o.path))
}

// nameAnew gives the file a name that nothing has. A rename would overwrite, so it
// is a link, and only where there are none a rename onto an empty file of our own.
func nameAnew(file, path string) error {
	err := os.Link(file, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	own, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	own.Close()
	if err := os.Rename(file, path); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// keep ends the output with success: it is no longer to be abandoned.
func (o *output) keep() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return errAbandoned
	}
	o.file.Close() // it was synced; some systems remove no open file
	if err := os.Remove(o.file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	o.ended = true
	return nil
}

// abandon removes all that is there, unless the output is kept, and reports
// whether it was not.
func (o *output) abandon() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return false
	}
	o.ended = true
	os.Remove(o.file.Name())
	if o.published {
		os.Remove(o.path)
	}
	return true
}
