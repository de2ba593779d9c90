package priceboard

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/computemarket/computemarket/internal/durable"
	"github.com/computemarket/computemarket/internal/filelock"
)

// disk is the operating system's files.
type disk struct{ durable.OS }

var _ system = disk{}

func (disk) lock(name string) (claim, error) {
	l, err := filelock.New(name)
	if errors.Is(err, filelock.ErrLocked) {
		return nil, ErrLocked
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
	if info.IsDir() {
		return nil, fmt.Errorf("%w: there is a folder of that name: choose another name for the price board", syscall.EISDIR)
	}
	if !info.Mode().IsRegular() { // a pipe would make the open wait
		return nil, fmt.Errorf("%w: that is no file (%v): choose another name for the price board", fs.ErrInvalid, info.Mode())
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var head [head2]byte
	n, err := io.ReadFull(file, head[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	// A file that is huge by mistake is refused before it is in memory.
	if _, err := checkHead(head[:n], info.Size()); err != nil {
		return nil, err
	}
	data := make([]byte, info.Size())
	copy(data, head[:n])
	if _, err := io.ReadFull(file, data[n:]); err != nil {
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
