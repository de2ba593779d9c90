// Package filelock claims files, and with them the folders they stand for: one
// claim at a time, in this process and in all others of the machine. It ends
// with the process that has it.
package filelock

import (
	"errors"
	"os"
)

// ErrLocked reports a file that somebody has claimed, perhaps this process.
var ErrLocked = errors.New("the lock is held by another")

// Lock is a claim on a file.
type Lock struct {
	file *os.File
	name string
}

// New claims the file at name, and makes it if need be. Leave the file there
// when the claim is over: who removes it lets two have a claim each.
//
// Possible errors: [ErrLocked]; fs.ErrPermission if the folder is read-only for
// any reason; errors.ErrUnsupported where the system has no such locks; those of
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
