package filelock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// lock opens name so that no other open can share it. The system closes it when
// the process ends.
func lock(name string) (*os.File, error) {
	const sharingViolation = syscall.Errno(32)
	path, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	h, err := syscall.CreateFile(path, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil,
		syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, sharingViolation) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, name)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, denied(name, &fs.PathError{Op: "lock", Path: name, Err: err})
	}
	if err != nil {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	return os.NewFile(uintptr(h), name), nil
}

func unlock(*os.File) error { return nil }
