package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/computemarket/computemarket/internal/durable"
)

var disk = durable.OS{}

func write(t *testing.T, name, data string, perm fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(data), perm); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, perm); err != nil {
		t.Fatal(err)
	}
}

// holds checks content and mode of a file, and that nothing else is beside it.
func holds(t *testing.T, name, data string, perm fs.FileMode, beside ...string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != data {
		t.Errorf("%s holds %q, %v, want %q", name, got, err, data)
	}
	if info, err := os.Stat(name); err == nil && runtime.GOOS != "windows" && info.Mode().Perm() != perm {
		t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), perm)
	}
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(name) && !slices.Contains(beside, e.Name()) {
			t.Errorf("%s is left behind", e.Name())
		}
	}
}

func TestWriteFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	for _, data := range []string{"long enough", "", "short"} {
		if err := durable.WriteFile(disk, name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		holds(t, name, data, 0o600)
	}
}

// TestKeepsMode: also a mode that the umask would take from, and one that does
// not let its owner write.
func TestKeepsMode(t *testing.T) {
	for _, perm := range []fs.FileMode{0o600, 0o640, 0o666, 0o444} {
		name := filepath.Join(t.TempDir(), "file")
		write(t, name, "old", perm)
		if err := durable.WriteFile(disk, name, []byte("new"), 0o644); err != nil {
			t.Fatal(err)
		}
		holds(t, name, "new", perm)
	}
}

// TestFollowsLinks: the link stays, and the file is written where it leads.
func TestFollowsLinks(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"a/deep", "b"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	target := filepath.Join(root, "a", "target")
	for name, link := range map[string]string{
		"absolute": target,
		"relative": "../a/target",
		"in a row": "absolute",
		// Without its link, shortcut/.. would be the folder of the link.
		"through a folder": "shortcut/../target",
	} {
		if err := os.Symlink(link, filepath.Join(root, "b", name)); err != nil {
			t.Skip(err)
		}
	}
	if err := os.Symlink("../a/deep", filepath.Join(root, "b", "shortcut")); err != nil {
		t.Fatal(err)
	}
	names := []string{"absolute", "relative", "in a row", "through a folder", "shortcut/../target"}
	for i, name := range names {
		name := root + "/b/" + name
		if i%2 == 0 {
			os.Remove(target) // a link to nothing makes the file
		}
		if got, err := disk.Resolve(name); err != nil || got != target {
			t.Errorf("%s leads to %s, %v", name, got, err)
		}
		if err := durable.WriteFile(disk, name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		holds(t, target, name, 0o644, "deep")
		if info, err := os.Lstat(filepath.Join(root, "b", "absolute")); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("the link is gone: %v, %v", info, err)
		}
	}
	if err := os.Symlink("loop", filepath.Join(root, "b", "loop")); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(disk, filepath.Join(root, "b", "loop"), nil, 0o644); err == nil {
		t.Error("a link to itself was written")
	}
}

// TestErrorsTellWhatToDo: and nothing is there afterwards that was not before.
func TestErrorsTellWhatToDo(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "", 0o644)
	for _, c := range []struct {
		what, name, text string
		is               error
	}{
		{"missing parent", "no/file", "make the folder", fs.ErrNotExist},
		{"folder", "", "there is a folder of that name", syscall.EISDIR},
		{"file as folder", "file/x", "not a directory", nil},
		{"device", "/dev/null", "that is no file", fs.ErrInvalid},
	} {
		name := filepath.Join(dir, c.name)
		if filepath.IsAbs(c.name) {
			name = c.name
		}
		if _, err := os.Stat(name); c.what == "device" && err != nil {
			continue
		}
		err := durable.WriteFile(disk, name, []byte("x"), 0o644)
		if err == nil || !strings.Contains(err.Error(), c.text) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %q", c.what, err, c.text)
		}
	}
	if err := durable.WriteFile(disk, "", []byte("x"), 0o644); err == nil {
		t.Error("no name at all was written")
	}
	holds(t, filepath.Join(dir, "file"), "", 0o644)
}

// TestSideBySide: of many writers of one file, one is the last, whole.
func TestSideBySide(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				if err := durable.WriteFile(disk, name, []byte(strings.Repeat(string(rune('a'+i)), 100+i)), 0o644); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := os.ReadFile(name)
	if err != nil || len(got) != 100+int(got[0]-'a') || strings.Trim(string(got), string(got[:1])) != "" {
		t.Errorf("%q, %v", got, err)
	}
	holds(t, name, string(got), 0o644)
}

func TestFileIsDoneOnce(t *testing.T) {
	dir := t.TempDir()
	f, err := durable.Create(disk, filepath.Join(dir, "new"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if f.Name() != filepath.Join(dir, "new") {
		t.Error(f.Name())
	}
	if _, err := durable.Create(disk, f.Name(), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Abort(); err != nil {
		t.Errorf("Abort after Close: %v", err)
	}
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Close twice: %v", err)
	}
	holds(t, f.Name(), "x", 0o600)
	f, err = durable.Create(disk, filepath.Join(dir, "other"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Abort(), f.Abort()); err != nil {
		t.Errorf("Abort: %v", err)
	}
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Close after Abort: %v", err)
	}
	holds(t, filepath.Join(dir, "new"), "x", 0o600)
}

func TestMkdirAll(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b", "c")
	for range 2 {
		if err := durable.MkdirAll(disk, deep+"/", 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(deep); err != nil || !info.IsDir() || runtime.GOOS != "windows" && info.Mode().Perm() != 0o750 {
		t.Errorf("%v, %v", info, err)
	}
	if err := durable.MkdirAll(disk, "/", 0o755); err != nil {
		t.Errorf("the root: %v", err)
	}
	write(t, filepath.Join(root, "file"), "", 0o644)
	for _, name := range []string{"file", "file/below"} {
		if err := durable.MkdirAll(disk, filepath.Join(root, name), 0o755); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(root, "link")); err != nil {
		t.Skip(err)
	}
	if err := durable.MkdirAll(disk, filepath.Join(root, "link"), 0o755); err == nil {
		t.Error("a link to nowhere counts as a folder")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := durable.MkdirAll(disk, filepath.Join(root, "x", "y", "z"), 0o755); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestResolveFolders: a name that is a folder's, or none, is not taken for a file.
func TestResolveFolders(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a/b", filepath.Join(root, "link")); err != nil {
		t.Skip(err)
	}
	t.Chdir(root)
	for name, want := range map[string]string{
		root + "/link/":   filepath.Join(root, "a", "b"),
		root + "/link/.":  filepath.Join(root, "a", "b"),
		root + "/link/..": filepath.Join(root, "a"),
		"file":            "file",
	} {
		if got, err := disk.Resolve(name); err != nil || got != want {
			t.Errorf("%s leads to %s, %v, want %s", name, got, err, want)
		}
	}
	if got, err := disk.Resolve(""); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("no name leads to %q, %v", got, err)
	}
}

// TestSyncDirReaches: the system is asked, and its answer told.
func TestSyncDirReaches(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("folders are not synced there")
	}
	if err := disk.SyncDir(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// hasty is a disk on which somebody makes a file just where a folder is to come.
type hasty struct{ durable.FS }

func (h hasty) Mkdir(name string, perm fs.FileMode) error {
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		return err
	}
	return h.FS.Mkdir(name, perm)
}

func TestMkdirAllOverAFile(t *testing.T) {
	if err := durable.MkdirAll(hasty{disk}, filepath.Join(t.TempDir(), "x"), 0o755); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v, want ErrExist", err)
	}
}
