package kv

import (
	"errors"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// oddDisk has files whose Write writes less than it was given, without an error,
// and whose Close fails.
type oddDisk struct{ vfs.FS }

type oddFile struct{ vfs.File }

var errClose = errors.New("cannot close")

func (d oddDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := d.FS.Create(name, c)
	return oddFile{file}, err
}

func (f oddFile) Write(p []byte) (int, error) { return f.File.Write(p[:len(p)-1]) }
func (f oddFile) Close() error                { return errors.Join(f.File.Close(), errClose) }

func write(t *testing.T, fs vfs.FS, name string) {
	t.Helper()
	file, err := fs.Create(name, "test")
	if err == nil {
		_, err = file.Write([]byte("content"))
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func there(fs vfs.FS, name string) bool {
	_, err := fs.Stat(name)
	file, oerr := fs.Open(name)
	if oerr == nil {
		file.Close()
	}
	return err == nil && oerr == nil
}

// A closed fence shows a disk that works, and leaves the one beneath alone.
func TestClosedFence(t *testing.T) {
	disk := vfs.NewMem()
	f := newFence(disk)
	for _, name := range []string{"old", "removed", "folder"} {
		write(t, f, name)
	}
	if err := f.Remove("removed"); err != nil || there(disk, "removed") {
		t.Fatalf("an open fence does not remove: %v", err)
	}
	f.fail(errors.New("broken"))
	write(t, f, "new")
	if !there(f, "new") || there(disk, "new") {
		t.Error("what is made behind the fence is missing, or is on the disk")
	}
	if err := errors.Join(f.Rename("new", "newer"), f.Link("newer", "linked")); err != nil || !there(f, "newer") || !there(f, "linked") {
		t.Errorf("what is made behind the fence cannot be named anew: %v", err)
	}
	if err := errors.Join(f.Remove("old"), f.RemoveAll("folder"), f.Remove("newer")); err != nil {
		t.Errorf("removing behind the fence: %v", err)
	}
	if !there(disk, "old") || !there(disk, "folder") || !there(f, "old") || there(f, "newer") {
		t.Error("removing behind the fence removes on the disk, or not behind it")
	}
	if _, err := f.Create("compacted", "pebble-compaction"); err == nil {
		t.Error("a compaction is not told")
	}
}

// A disk that writes less than it says, or cannot close, is told of.
func TestFenceAroundAnOddDisk(t *testing.T) {
	f := newFence(oddDisk{vfs.NewMem()})
	file, err := f.Create("table.sst", "test")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := file.Write([]byte("content")); !errors.Is(err, io.ErrShortWrite) || n != 0 || f.reason() == nil {
		t.Errorf("%d bytes, %v, and the fence says %v; want ErrShortWrite", n, err, f.reason())
	}
	if err := file.Close(); err != nil {
		t.Errorf("Close behind the fence: %v", err)
	}
	f = newFence(oddDisk{vfs.NewMem()})
	if file, err = f.Create("table.sst", "test"); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); !errors.Is(err, errClose) {
		t.Errorf("Close before the fence: %v, want that of the disk", err)
	}
	f = newFence(oddDisk{vfs.NewMem()})
	if file, err = f.Create("000001.log", "test"); err != nil {
		t.Fatal(err)
	}
	if n, err := file.Write([]byte("content")); n != 7 || err != nil || f.reason() == nil {
		t.Errorf("a WAL hears %d, %v of a short write, and the fence says %v", n, err, f.reason())
	}
}
