//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package filelock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// lock makes an flock: it excludes other opens of the file, in this process too,
// and the kernel releases it when the process ends.
func lock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if why := err; errors.Is(why, fs.ErrPermission) || errors.Is(why, syscall.EROFS) {
		if f, err = os.Open(name); err != nil { // reading is enough for a lock
			return nil, denied(name, why)
		}
	}
	if err != nil {
		return nil, err
	}
	switch err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err {
	case nil:
		return f, nil
	case syscall.EWOULDBLOCK:
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrLocked, name)
	default:
		f.Close()
		return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
	}
}

// unlock comes before the file is closed: a child that is being started may
// still share it.
func unlock(f *os.File) error { return flock(f, syscall.LOCK_UN) }

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			return err
		}
	}
}
