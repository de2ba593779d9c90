package priceboard

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/computemarket/computemarket/internal/filelock"
)

// disk is the operating system's files.
type disk struct{}

var _ system = disk{}

func (disk) lock(name string) (io.Closer, error) {
	l, err := filelock.New(name)
	if errors.Is(err, filelock.ErrLocked) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (disk) read(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would make the open wait
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var head [formHead]byte
	n, err := io.ReadFull(file, head[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	// A file that is huge by mistake is refused before it is in memory.
	if err := checkHead(head[:n], info.Size()); err != nil {
		return nil, err
	}
	data := make([]byte, info.Size())
	copy(data, head[:])
	if _, err := io.ReadFull(file, data[formHead:]); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

func (disk) exists(name string) (bool, error) {
	_, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (disk) create(name string) (newFile, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

func (disk) rename(from, to string) error { return os.Rename(from, to) }

func (disk) remove(name string) error { return os.Remove(name) }

func (disk) syncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil // there a folder cannot be synced, nor need be after a rename
	}
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
