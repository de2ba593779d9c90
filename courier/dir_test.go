package courier_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"lukechampine.com/blake3"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriertest"
	"github.com/computemarket/computemarket/internal/durable"
	"github.com/computemarket/computemarket/internal/durable/durabletest"
)

func TestDirKeepsTheContract(t *testing.T) {
	couriertest.RunBundles(t, func(dir string) (courier.Bundles, error) {
		return damagedDir{courier.DirBundles(dir), dir}, nil
	})
}

// damagedDir lets the suite damage a bundle.
type damagedDir struct {
	*courier.Dir
	path string
}

func (d damagedDir) Damage(h courier.Hash) error {
	s := h.String()
	return os.WriteFile(filepath.Join(d.path, s[:2], s[2:]), []byte("something else"), 0o600)
}

// put keeps content in b.
func put(b courier.Bundles, content string) (courier.Hash, error) {
	h := courier.Hash(blake3.Sum256([]byte(content)))
	w, err := b.Create(context.Background())
	if err != nil {
		return h, err
	}
	defer w.Abort()
	if _, err := io.WriteString(w, content); err != nil {
		return h, err
	}
	return h, w.Commit(h)
}

func mustPut(t *testing.T, b courier.Bundles, content string) courier.Hash {
	t.Helper()
	h, err := put(b, content)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// kept checks that b has content.
func kept(t *testing.T, b courier.Bundles, content string) {
	t.Helper()
	r, err := b.Open(t.Context(), blake3.Sum256([]byte(content)))
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != content {
		t.Errorf("kept: %q, %v, want %q", got, err, content)
	}
}

// allFail checks that every method of b fails with want.
func allFail(t *testing.T, what string, b courier.Bundles, want error) {
	t.Helper()
	_, create := b.Create(t.Context())
	_, open := b.Open(t.Context(), courier.Hash{1})
	errs := map[string]error{"Create": create, "Open": open, "Remove": b.Remove(t.Context(), courier.Hash{1})}
	for _, err := range b.All(t.Context()) {
		errs["All"] = err
	}
	for _, name := range []string{"Create", "Open", "Remove", "All"} {
		if err := errs[name]; !errors.Is(err, want) || errors.Is(err, courier.ErrNotFound) {
			t.Errorf("%s: %s: %v, want %v", what, name, err, want)
		}
	}
}

// The second user of a folder is refused, whatever name it knows the folder by,
// and the first is not disturbed.
func TestFolderHasOneUser(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	first := courier.DirBundles(dir)
	defer first.Close()
	w, err := first.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "content")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Skip(err)
	}
	for _, name := range []string{dir, link, dir + "/../" + filepath.Base(dir)} {
		second := courier.DirBundles(name)
		allFail(t, name, second, courier.ErrLocked)
		if err := second.Prepare(); !errors.Is(err, courier.ErrLocked) {
			t.Errorf("Prepare: %v", err)
		}
	}
	if out, err := user(t, dir).CombinedOutput(); err == nil || !bytes.Contains(out, []byte(courier.ErrLocked.Error())) {
		t.Errorf("another process: %v, %s", err, out)
	}
	if err := w.Commit(blake3.Sum256([]byte("content"))); err != nil {
		t.Fatal(err)
	}
	kept(t, first, "content")
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	allFail(t, "closed", first, courier.ErrClosed)
	if out, err := user(t, dir).CombinedOutput(); err != nil {
		t.Errorf("another process, after Close: %v, %s", err, out)
	}
	second := courier.DirBundles(dir)
	defer second.Close()
	kept(t, second, "content")
	kept(t, second, "by another process")
}

// user is another process that puts a bundle into dir.
func user(t *testing.T, dir string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestUser$")
	cmd.Env = append(os.Environ(), "COURIER_TEST_BUNDLES="+dir)
	return cmd
}

func TestUser(t *testing.T) {
	dir := os.Getenv("COURIER_TEST_BUNDLES")
	if dir == "" {
		t.Skip("runs as a process of TestFolderHasOneUser")
	}
	mustPut(t, courier.DirBundles(dir), "by another process")
}

// A Courier on a folder in use sends nothing, and takes no bundle for damaged.
func TestCourierOnFolderInUse(t *testing.T) {
	dir := t.TempDir()
	s := new(couriertest.Model)
	mine := courier.DirBundles(dir)
	send(t, newCourier(t, s, &courier.Options{Bundles: mine}), 3)
	c := newCourier(t, s, &courier.Options{Bundles: courier.DirBundles(dir)})
	if _, err := c.Send(t.Context(), strings.NewReader("x"), "s"); !errors.Is(err, courier.ErrLocked) {
		t.Errorf("Send: %v", err)
	}
	if r, err := c.Flush(t.Context(), takes); !errors.Is(err, courier.ErrLocked) || r.Remaining != 3 {
		t.Errorf("Flush: %+v, %v", r, err)
	}
	mine.Close()
	report(t, c, takes, courier.Report{Forwarded: 3})
}

// Of what is removed under a Dir while it runs, each Send makes anew what it
// needs; only the bundles themselves are gone.
func TestFoldersRemovedWhileRunning(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the lock of a running process cannot be removed")
	}
	for _, what := range []string{"tmp", "lock", "shards", "all"} {
		dir := t.TempDir()
		b := courier.DirBundles(dir)
		defer b.Close()
		h := mustPut(t, b, "before")
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if what == "all" || e.Name() == what || what == "shards" && len(e.Name()) == 2 {
				if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
					t.Fatal(err)
				}
			}
		}
		mustPut(t, b, "after")
		mustPut(t, b, "before")
		kept(t, b, "after")
		kept(t, b, "before")
		if err := b.Remove(t.Context(), h); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := courier.DirBundles(dir).Prepare(); !errors.Is(err, courier.ErrLocked) {
			t.Errorf("%s removed, a second user: %v", what, err)
		}
	}
}

// A folder that is away, as a disk that was pulled out is, has lost no bundle;
// nothing is made or removed in what is there instead.
func TestFolderMovedWhileRunning(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the folder of a running process cannot be moved")
	}
	dir := filepath.Join(t.TempDir(), "dir")
	away := dir + "-away"
	b := courier.DirBundles(dir)
	defer b.Close()
	h := mustPut(t, b, "content")
	w, err := b.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	allFail(t, "away", b, courier.ErrLocked)
	if err := w.Commit(h); !errors.Is(err, courier.ErrLocked) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made anew: %v", err)
	}
	other := courier.DirBundles(dir)
	mustPut(t, other, "content")
	allFail(t, "replaced", b, courier.ErrLocked)
	if err := b.Remove(t.Context(), h); !errors.Is(err, courier.ErrLocked) {
		t.Errorf("Remove: %v", err)
	}
	kept(t, other, "content")
	if err := errors.Join(other.Close(), os.RemoveAll(dir), os.Rename(away, dir)); err != nil {
		t.Fatal(err)
	}
	kept(t, b, "content")
	mustPut(t, b, "more")
}

// The first use removes temporary files, its own kind alone.
func TestSweepKeepsOthers(t *testing.T) {
	dir := t.TempDir()
	for name, stays := range map[string]bool{"7": false, "bundle-X": false, "notes.txt": true, "folder/7": true} {
		name = filepath.Join(dir, "tmp", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if _, err := os.Stat(name); (err == nil) != stays {
				t.Errorf("%s: %v", name, err)
			}
		}()
	}
	b := courier.DirBundles(dir)
	defer b.Close()
	if err := errors.Join(b.Prepare(), b.Prepare()); err != nil {
		t.Fatal(err)
	}
}

func TestDirWithoutFolder(t *testing.T) {
	allFail(t, "zero", new(courier.Dir), courier.ErrInvalid)
	allFail(t, "no path", courier.DirBundles(""), courier.ErrInvalid)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	allFail(t, "a file", courier.DirBundles(file), fs.ErrExist)
}

// Close in the body of a loop ends it.
func TestCloseWithinAll(t *testing.T) {
	b := courier.DirBundles(t.TempDir())
	for i := range 5 {
		mustPut(t, b, fmt.Sprint(i))
	}
	n := 0
	var last error
	for _, err := range b.All(t.Context()) {
		n++
		last = errors.Join(err, b.Close())
	}
	if n != 2 || !errors.Is(last, courier.ErrClosed) {
		t.Errorf("%d steps, the last: %v", n, last)
	}
}

// onDurable lets a Dir use durabletest's disk.
type onDurable struct {
	durable.FS
	disk *durabletest.Disk
}

func (o onDurable) Open(name string) (io.ReadCloser, error) {
	data, err := o.disk.Get(name)
	return io.NopCloser(bytes.NewReader(data)), err
}

func (o onDurable) List(dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, name := range o.disk.Names() {
			if filepath.Dir(name) == dir && !yield(filepath.Base(name), nil) {
				return
			}
		}
	}
}

func (onDurable) Claim(string) (courier.Claim, error) { return noClaim{}, nil }

// A bundle in a new folder under new folders is there after any crash, once
// Commit has returned; before, it is there whole or not at all.
func TestCrashOfNewFolders(t *testing.T) {
	stop := errors.New("crash")
	for k := 1; ; k++ {
		disk, step := durabletest.NewDisk(), 0
		hooked := durabletest.Hook(disk, func() error {
			if step++; step >= k {
				return stop
			}
			return nil
		})
		h, err := put(courier.DirBundlesOn(onDurable{hooked, disk}, "/a/b/bundles"), "content")
		for _, survivor := range disk.Survivors() {
			again := courier.DirBundlesOn(onDurable{survivor, survivor}, "/a/b/bundles")
			r, oerr := again.Open(t.Context(), h)
			if oerr != nil {
				if err == nil || !errors.Is(oerr, courier.ErrNotFound) {
					t.Fatalf("crash before step %d (%v): %v; there are %v", k, err, oerr, survivor.Names())
				}
			} else if got, _ := io.ReadAll(r); string(got) != "content" {
				t.Fatalf("crash before step %d (%v): %q", k, err, got)
			}
			mustPut(t, again, "content")
		}
		if step < k {
			if err != nil {
				t.Error(err)
			}
			t.Logf("%d steps", step)
			return
		}
	}
}

// unsyncable fails to sync folders when told to.
type unsyncable struct {
	onDurable
	broken *bool
}

func (u unsyncable) SyncDir(name string) error {
	if *u.broken {
		return syscall.EIO
	}
	return u.onDurable.SyncDir(name)
}

func TestPoisonedDir(t *testing.T) {
	disk, broken := durabletest.NewDisk(), false
	b := courier.DirBundlesOn(unsyncable{onDurable{disk, disk}, &broken}, "/bundles")
	mustPut(t, b, "before")
	w, err := b.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	broken = true
	if _, err := put(b, "now"); !errors.Is(err, courier.ErrPoisoned) || !errors.Is(err, syscall.EIO) {
		t.Errorf("Commit: %v", err)
	}
	broken = false
	if _, err := b.Create(t.Context()); !errors.Is(err, courier.ErrPoisoned) {
		t.Errorf("Create: %v", err)
	}
	if err := w.Commit(courier.Hash{1}); !errors.Is(err, courier.ErrPoisoned) {
		t.Errorf("Commit of what was begun before: %v", err)
	}
	kept(t, b, "before")
}
