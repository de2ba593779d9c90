// Package filelock claims files, and with them the folders they stand for: one
// claim at a time, in this process and in all others of the machine. It ends
// with the process that has it.
package filelock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/computemarket/computemarket/internal/fault"
)

// ErrLocked reports a file that somebody has claimed, perhaps this process.
var ErrLocked = fault.ErrLocked

// ErrReadOnly reports that there is no such file and that none can be made here,
// neither by this process nor, as far as it can see, by another.
var ErrReadOnly = errors.New("the folder is read-only")

// Lock is a claim on a file.
type Lock struct {
	file *os.File
	name string
}

// New claims the file at name, and makes it if need be. Leave the file there
// when the claim is over: who removes it lets two have a claim each.
//
// Possible errors: [ErrLocked]; [ErrReadOnly] with fs.ErrPermission; fs.ErrPermission
// alone if the file is there and may not be opened: it can be the claim of
// another user's process; errors.ErrUnsupported where the system has no such locks; those of
// the file system.
func New(name string) (*Lock, error) {
	for {
		f, err := lock(name)
		if err != nil {
			return nil, err
		}
		l := &Lock{f, name}
		if l.Holds() {
			return l, nil
		}
		if err := l.Close(); err != nil { // it was removed just now
			return nil, err
		}
	}
}

// Holds reports whether the name still leads to the file that is claimed. If
// not, the file was removed, or a folder above it moved, and another may have
// claimed what is there now.
func (l *Lock) Holds() bool {
	there, err := os.Stat(l.name)
	if err != nil {
		return false
	}
	ours, err := l.file.Stat()
	return err == nil && os.SameFile(there, ours)
}

// Close gives the claim back.
func (l *Lock) Close() error { return errors.Join(unlock(l.file), l.file.Close()) }

// denied is the error of a file that may not be opened, for the reason err.
func denied(name string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w (%w)", err, fs.ErrPermission)
	}
	if _, gone := os.Lstat(name); errors.Is(gone, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w: let this process write there, or choose another place", ErrReadOnly, err)
	}
	return fmt.Errorf("%w: a process of another user may have the claim: let this one open the file, or remove it while none runs", err)
}
