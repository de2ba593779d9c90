//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package priceboard

import (
	"errors"
	"io/fs"
	"os"
)

// lockFile refuses: without a lock that ends with its process, two boards could
// overwrite each other.
func lockFile(name string) (*os.File, error) {
	return nil, &fs.PathError{Op: "lock", Path: name, Err: errors.ErrUnsupported}
}
