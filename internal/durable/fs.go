package durable

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// FS is what this package asks of a file system: [OS], or a model of one that
// crashes.
type FS interface {
	// Resolve returns the name of the file that name leads to, with no link in
	// it. The file itself need not exist, nor what a link at name leads to.
	Resolve(name string) (string, error)
	// Mode follows links.
	Mode(name string) (fs.FileMode, error)
	// Create makes a file that does not exist.
	Create(name string, perm fs.FileMode) (Handle, error)
	Mkdir(name string, perm fs.FileMode) error
	// Rename replaces a file at to.
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes durable which names the folder has.
	SyncDir(name string) error
}

// Handle is a file that is being written.
type Handle interface {
	io.WriteCloser
	Chmod(perm fs.FileMode) error
	Sync() error
}

// OS is the operating system's file system.
type OS struct{}

var _ FS = OS{}

func (OS) Resolve(name string) (string, error) {
	if name == "" {
		return "", &fs.PathError{Op: "resolve", Path: name, Err: fs.ErrInvalid}
	}
	const most = 40 // links in a row, as in the kernel
	for range most {
		dir, base := filepath.Split(name) // cleans nothing: link/.. is not where link is
		dir, err := filepath.EvalSymlinks(cmp.Or(dir, "."))
		if err != nil {
			return "", err
		}
		name = filepath.Join(dir, base)
		link, err := os.Readlink(name)
		if err != nil {
			if _, err := os.Lstat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			return name, nil // no link
		}
		if name = link; !filepath.IsAbs(link) {
			name = dir + string(filepath.Separator) + link
		}
	}
	return "", &fs.PathError{Op: "resolve", Path: name, Err: errors.New("too many links")}
}

func (OS) Mode(name string) (fs.FileMode, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Mode(), nil
}

func (OS) Create(name string, perm fs.FileMode) (Handle, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
}

func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

func (OS) Rename(from, to string) error { return os.Rename(from, to) }

func (OS) Remove(name string) error { return os.Remove(name) }

func (OS) SyncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil // there a folder cannot be synced, nor need be after a rename
	}
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
