package priceboard

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestThroughALink: a file has one claim by whatever links it is reached; saving
// through one leaves it a link, and the file keeps its mode.
func TestThroughALink(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file, link, far := filepath.Join(root, "a", "file"), filepath.Join(root, "a", "link"), filepath.Join(root, "b", "far")
	if err := errors.Join(os.Symlink("file", link), os.Symlink("../a/link", far)); err != nil {
		t.Skip(err)
	}
	for round, names := range [][2]string{{link, file}, {file, far}, {far, link}} { // at first there is no file
		b := openBoard(t, File(names[0], nil), nil)
		if r := b.LoadResult(); r.Prices != round {
			t.Errorf("round %d: %+v", round, r)
		}
		b.Record(uint64(round))
		if _, err := Open(t.Context(), File(names[1], nil), nil); !errors.Is(err, ErrLocked) {
			t.Errorf("%s beside %s: %v, want ErrLocked", names[1], names[0], err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{link, far} {
			if info, err := os.Lstat(name); err != nil || info.Mode()&fs.ModeSymlink == 0 {
				t.Errorf("round %d: %s is no link any more: %v, %v", round, name, info, err)
			}
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if round > 0 && runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
			t.Errorf("round %d: mode %v, want 0640", round, info.Mode())
		}
		if err := os.Chmod(file, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	// What is damaged goes aside where the file is, and the link stays.
	if err := os.WriteFile(file, []byte("junk"), 0o640); err != nil {
		t.Fatal(err)
	}
	b := openBoard(t, File(far, nil), nil)
	if got, err := os.ReadFile(b.LoadResult().Aside); err != nil || string(got) != "junk" || filepath.Base(b.LoadResult().Aside) != "file.corrupt" {
		t.Errorf("%+v: %q, %v", b.LoadResult(), got, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestErrorsTellWhatToDo: and what is there stays as it is.
func TestErrorsTellWhatToDo(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, name, text string
		is               error
	}{
		{"missing parent", "no/such/file", "make the folder", fs.ErrNotExist},
		{"a folder of that name", "folder", "there is a folder of that name", syscall.EISDIR},
	} {
		name := filepath.Join(dir, c.name)
		_, err := File(name, nil).Load(t.Context())
		for what, err := range map[string]error{"Load": err, "Save": File(name, nil).Save(t.Context(), oldSnap)} {
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), filepath.Dir(name)) {
				t.Errorf("%s, %s: %v", c.what, what, err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "folder" && e.Name() != "folder.lock" {
			t.Errorf("%s is left behind", e.Name())
		}
	}
}

// TestLoadTwice: a handle loads once, whatever came before; a load that failed
// may be tried again.
func TestLoadTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f := File(path, nil)
	if err := f.Save(t.Context(), oldSnap); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("Load after Save: %v, want ErrLocked", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Load after Close: %v, want ErrClosed", err)
	}
	f = File(path, nil)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(t.Context()); err == nil {
		t.Error("a folder was loaded")
	}
	if err := errors.Join(os.Remove(path), os.Rename(path+".away", path)); err != nil {
		t.Fatal(err)
	}
	if s, err := f.Load(t.Context()); err != nil || !slices.Equal(s.Prices, oldSnap.Prices) {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := f.Load(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("Load after Load: %v, want ErrLocked", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLostClaim: when the folder is moved and another takes its place, or the lock
// file is removed, the board does not write over what may be another's.
func TestLostClaim(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file can be neither moved nor removed")
	}
	for what, lose := range map[string]func(dir string) error{
		"removed":  func(dir string) error { return os.Remove(filepath.Join(dir, "file.lock")) },
		"replaced": func(dir string) error { return errors.Join(os.Rename(dir, dir+"-moved"), os.Mkdir(dir, 0o755)) },
	} {
		dir := filepath.Join(t.TempDir(), "dir")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "file")
		first := openBoard(t, File(path, nil), nil)
		if err := lose(dir); err != nil {
			t.Fatal(err)
		}
		second := openBoard(t, File(path, nil), nil)
		second.Record(2)
		if err := second.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		first.Record(1)
		if err := first.Save(t.Context()); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: Save: %v, want ErrLocked", what, err)
		}
		if err := first.Close(); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: Close: %v, want ErrLocked", what, err)
		}
		if err := second.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err := File(path, nil).Load(t.Context()); err != nil || !slices.Equal(s.Prices, []uint64{2}) {
			t.Errorf("%s: %+v, %v", what, s, err)
		}
	}
}

// TestPathStays: the process may change its folder.
func TestPathStays(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	f := File("file", nil)
	t.Chdir(t.TempDir())
	if err := errors.Join(f.Save(t.Context(), oldSnap), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
		t.Error(err)
	}
}
