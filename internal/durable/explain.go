package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

// explain adds to the error of an operation on name what its reader can do.
func explain(err error, name string) error {
	dir := filepath.Dir(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: make the folder %s first", err, dir)
	case errors.Is(err, errReadOnlyDisk):
		return fmt.Errorf("%w: choose a place that is not on a read-only disk", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: let this process write to the folder %s, or choose another place", err, dir)
	}
	return err
}

// notAFile is the error of writing to name, which is there with the given mode.
func notAFile(name string, mode fs.FileMode) error {
	if mode.IsDir() {
		return fmt.Errorf("%w: there is a folder of that name: choose another name for the file",
			&fs.PathError{Op: "write", Path: name, Err: syscall.EISDIR})
	}
	return fmt.Errorf("%w: that is no file (%v): choose another name",
		&fs.PathError{Op: "write", Path: name, Err: fs.ErrInvalid}, mode)
}
