//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package priceboard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// fileLock is an flock: it excludes other opens of the file, in this process
// too, and the kernel releases it when the process ends.
type fileLock struct{ *os.File }

func lockFile(name string) (fileLock, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if errors.Is(err, syscall.EROFS) {
		return fileLock{}, fmt.Errorf("%w (%w)", err, fs.ErrPermission)
	}
	if err != nil {
		return fileLock{}, err
	}
	switch err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err {
	case nil:
		return fileLock{f}, nil
	case syscall.EWOULDBLOCK:
		f.Close()
		return fileLock{}, ErrInUse
	default:
		f.Close()
		return fileLock{}, &fs.PathError{Op: "flock", Path: name, Err: err}
	}
}

// Close unlocks first: a child that is being started may still share the file.
func (l fileLock) Close() error {
	return errors.Join(flock(l.File, syscall.LOCK_UN), l.File.Close())
}

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			return err
		}
	}
}
