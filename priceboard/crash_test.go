package priceboard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A model of a folder that loses what was not synced, and can crash or fail at
// any step.

var errCrash = errors.New("crash")

// inode is a file apart from its name.
type inode struct {
	data   []byte // as programs see it
	synced []byte // what a crash leaves for certain
	clean  bool   // data is synced
}

// change is a change of names: to is bound to node, and from is free.
type change struct {
	from, to string
	node     *inode
}

type crashDisk struct {
	names   map[string]*inode // as programs see them
	stable  map[string]*inode // as of the last sync of the folder
	changes []change          // since then
	locked  bool
	lockErr error

	step    int   // how many steps were taken
	crashAt int   // the step at which everything stops; 0 for never
	failAt  int   // the step that fails with failErr; 0 for none
	forGood bool  // all later steps fail, too
	failErr error // what they return
	crashed bool
}

func newCrashDisk() *crashDisk {
	return &crashDisk{names: map[string]*inode{}, stable: map[string]*inode{}}
}

// next counts a step, and says if it is not to happen.
func (d *crashDisk) next() error {
	d.step++
	if d.crashed || d.step == d.crashAt {
		d.crashed = true
		return errCrash
	}
	if d.failAt > 0 && (d.step == d.failAt || d.forGood && d.step > d.failAt) {
		return d.failErr
	}
	return nil
}

func (d *crashDisk) apply(c change) {
	d.changes = append(d.changes, c)
	c.apply(d.names)
}

func (c change) apply(names map[string]*inode) {
	if c.from != "" {
		delete(names, c.from)
	}
	if c.to != "" {
		names[c.to] = c.node
	}
}

func (d *crashDisk) lock(string) (io.Closer, error) {
	if d.lockErr != nil {
		return nil, d.lockErr
	}
	if d.locked {
		return nil, ErrInUse
	}
	d.locked = true
	return unlocker{d}, nil
}

type unlocker struct{ d *crashDisk }

func (u unlocker) Close() error { u.d.locked = false; return nil }

func (d *crashDisk) read(name string) ([]byte, error) {
	if err := d.next(); err != nil {
		return nil, err
	}
	n := d.names[name]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(n.data), nil
}

func (d *crashDisk) exists(name string) (bool, error) { return d.names[name] != nil, d.next() }

func (d *crashDisk) create(name string) (newFile, error) {
	if err := d.next(); err != nil {
		return nil, err
	}
	if d.names[name] != nil {
		return nil, fs.ErrExist
	}
	n := &inode{}
	d.apply(change{to: name, node: n})
	return &crashFile{d, n}, nil
}

func (d *crashDisk) rename(from, to string) error {
	if err := d.next(); err != nil {
		return err
	}
	if d.names[from] == nil {
		return fs.ErrNotExist
	}
	d.apply(change{from, to, d.names[from]})
	return nil
}

func (d *crashDisk) remove(name string) error {
	if err := d.next(); err != nil {
		return err
	}
	if d.names[name] == nil {
		return fs.ErrNotExist
	}
	d.apply(change{from: name})
	return nil
}

func (d *crashDisk) syncDir(string) error {
	if err := d.next(); err != nil {
		return err
	}
	d.stable, d.changes = maps.Clone(d.names), nil
	return nil
}

type crashFile struct {
	d *crashDisk
	n *inode
}

// Write is two steps, so that a crash or a full disk can leave a part.
func (f *crashFile) Write(p []byte) (int, error) {
	f.n.clean = false
	for i, part := range [][]byte{p[:len(p)/2], p[len(p)/2:]} {
		if err := f.d.next(); err != nil {
			return i * (len(p) / 2), err
		}
		f.n.data = append(f.n.data, part...)
	}
	return len(p), nil
}

func (f *crashFile) Sync() error {
	if err := f.d.next(); err != nil {
		return err
	}
	f.n.synced, f.n.clean = slices.Clone(f.n.data), true
	return nil
}

func (f *crashFile) Close() error { return f.d.next() }

// survivors are the disks that a crash of d can leave: any of the changes of
// names since the last sync, with any of several fates of unsynced data.
func (d *crashDisk) survivors() []*crashDisk {
	fates := []func(n *inode) []byte{
		func(n *inode) []byte { return n.synced },
		func(n *inode) []byte { return n.data[:len(n.data)/2] },
		func(n *inode) []byte { return n.data },
		func(n *inode) []byte { return make([]byte, len(n.data)) }, // size came, data did not
	}
	var out []*crashDisk
	for subset := range 1 << len(d.changes) {
		names := maps.Clone(d.stable)
		for i, c := range d.changes {
			if subset>>i&1 == 1 {
				c.apply(names)
			}
		}
		for _, fate := range fates {
			s := newCrashDisk()
			for name, n := range names {
				data := n.data
				if !n.clean {
					data = fate(n)
				}
				data = slices.Clone(data)
				s.names[name] = &inode{data, data, true}
			}
			s.stable = maps.Clone(s.names)
			out = append(out, s)
		}
	}
	return out
}

// clone is d, to go on with twice. All of it must be synced.
func (d *crashDisk) clone() *crashDisk {
	c := newCrashDisk()
	c.names, c.stable = maps.Clone(d.names), maps.Clone(d.stable)
	return c
}

func (d *crashDisk) open() *FileStore {
	d.locked = false // the process before is gone
	return &FileStore{path: "/dir/board", sys: d}
}

func (d *crashDisk) mustLoad(t *testing.T) []uint64 {
	t.Helper()
	s, err := d.open().Load(t.Context())
	if err == ErrNoSnapshot {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.Prices
}

var (
	oldSnap = Snapshot{Window: 100, Prices: []uint64{1, 2, 3}}
	newSnap = Snapshot{Window: 100, Prices: []uint64{4, 5, 6, 7, 8, 9}}
)

// starts are disks to save newSnap on, and what they hold.
func starts(t *testing.T) map[string]*crashDisk {
	saved := newCrashDisk()
	if err := saved.open().Save(t.Context(), oldSnap); err != nil {
		t.Fatal(err)
	}
	leftover := saved.clone()
	leftover.names["/dir/board.tmp"] = &inode{[]byte("PBRD"), []byte("PBRD"), true}
	leftover.stable = maps.Clone(leftover.names)
	return map[string]*crashDisk{"no file": newCrashDisk(), "a file": saved, "a file and a temporary": leftover}
}

// TestCrashAtEveryStep crashes a save at its first step, its second, … until none
// is left. Whatever the disk has kept, the next process finds the old snapshot or
// the new one, the new one if Save had returned, and can save again.
func TestCrashAtEveryStep(t *testing.T) {
	for name, start := range starts(t) {
		old := start.clone().mustLoad(t)
		for k := 1; ; k++ {
			d := start.clone()
			d.crashAt = k
			err := d.open().Save(t.Context(), newSnap)
			if d.crashed != errors.Is(err, errCrash) {
				t.Fatalf("%s, step %d: %v", name, k, err)
			}
			for i, s := range d.survivors() {
				got := s.mustLoad(t)
				isNew := slices.Equal(got, newSnap.Prices)
				if !isNew && (err == nil || !slices.Equal(got, old)) {
					t.Fatalf("%s, crash at step %d, survivor %d (Save: %v): %v", name, k, i, err, got)
				}
				if s.names["/dir/board.tmp"] != nil {
					t.Fatalf("%s, crash at step %d, survivor %d: the temporary file is still there", name, k, i)
				}
				if err := s.open().Save(t.Context(), oldSnap); err != nil {
					t.Fatal(err)
				}
				if got := s.mustLoad(t); !slices.Equal(got, oldSnap.Prices) {
					t.Fatalf("%s, crash at step %d: saved again, %v", name, k, got)
				}
			}
			if err == nil {
				t.Logf("%s: %d steps", name, k-1)
				break
			}
		}
	}
}

// TestCrashWhileSettingAside crashes the load of a damaged file at every step:
// its bytes are still somewhere, and the next load copes. Once a load has said
// that they are aside, they stay there.
func TestCrashWhileSettingAside(t *testing.T) {
	junk := []byte("PBRD and then nothing that makes sense")
	start := newCrashDisk()
	start.names["/dir/board"] = &inode{junk, junk, true}
	start.stable = maps.Clone(start.names)
	for k := 1; ; k++ {
		d := start.clone()
		d.crashAt = k
		_, err := d.open().Load(t.Context())
		for i, s := range d.survivors() {
			_, again := s.open().Load(t.Context())
			if again != ErrNoSnapshot && (!errors.Is(again, ErrCorrupt) || errors.Is(err, ErrCorrupt)) {
				t.Fatalf("crash at step %d, survivor %d: %v, then %v", k, i, err, again)
			}
			if n := s.names["/dir/board.corrupt"]; n == nil || !bytes.Equal(n.data, junk) {
				t.Fatalf("crash at step %d, survivor %d: the damaged bytes are lost", k, i)
			}
		}
		if !d.crashed {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("without a crash: %v", err)
			}
			break
		}
	}
}

// TestFaultAtEveryStep fails a save at each step, once and for good, as a full, a
// read-only and a broken disk do. The error is told, what was saved before or the
// new snapshot is there, and once the disk is well the next save succeeds.
func TestFaultAtEveryStep(t *testing.T) {
	for name, start := range starts(t) {
		old := start.clone().mustLoad(t)
		for _, fault := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EIO} {
			for _, forGood := range []bool{false, true} {
				for k := 1; ; k++ {
					d := start.clone()
					d.failAt, d.failErr, d.forGood = k, fault, forGood
					f := d.open()
					err := f.Save(t.Context(), newSnap)
					steps := d.step
					at := fmt.Sprintf("%s, %v at step %d", name, fault, k)
					if steps >= k && !errors.Is(err, fault) {
						t.Fatalf("%s: Save returned %v", at, err)
					}
					d.failAt = 0
					for _, s := range d.survivors() {
						got := s.mustLoad(t)
						isNew := slices.Equal(got, newSnap.Prices)
						if !isNew && (err == nil || !slices.Equal(got, old)) {
							t.Fatalf("%s: %v", at, got)
						}
					}
					if err := f.Save(t.Context(), newSnap); err != nil {
						t.Fatalf("%s: the next save: %v", at, err)
					}
					for _, s := range d.survivors() {
						if got := s.mustLoad(t); !slices.Equal(got, newSnap.Prices) {
							t.Fatalf("%s: after the next save: %v", at, got)
						}
					}
					if steps < k {
						break
					}
				}
			}
		}
	}
}

// TestReadOnlyFolder: a board reads there, says that it cannot save, goes on, and
// saves when the folder becomes writable.
func TestReadOnlyFolder(t *testing.T) {
	d := starts(t)["a file"]
	d.lockErr = fmt.Errorf("open board.lock: %w", fs.ErrPermission)
	b := openBoard(t, d.open(), nil)
	if r := b.LoadResult(); r.Outcome != Restored || r.Prices != 3 {
		t.Errorf("%+v", r)
	}
	b.Record(4)
	if err := b.Save(t.Context()); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Save: %v, want fs.ErrPermission", err)
	}
	if bands, ok := b.Bands(); !ok || bands.N != 4 {
		t.Errorf("%+v, %v", bands, ok)
	}
	d.lockErr = nil
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if got := d.mustLoad(t); !slices.Equal(got, []uint64{1, 2, 3, 4}) {
		t.Errorf("saved %v", got)
	}
}

// TestDamagedAndReadOnly: a damaged file that cannot be moved aside is an error
// of Open, for the next save would overwrite it.
func TestDamagedAndReadOnly(t *testing.T) {
	d := newCrashDisk()
	d.names["/dir/board"] = &inode{[]byte("junk"), []byte("junk"), true}
	d.failAt, d.forGood, d.failErr = 3, true, syscall.EROFS // after remove and read
	b, err := Open(t.Context(), d.open(), nil)
	if b != nil || !errors.Is(err, syscall.EROFS) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v, %v", b, err)
	}
	if d.locked {
		t.Error("the claim is still there")
	}
	if got := d.names["/dir/board"]; string(got.data) != "junk" {
		t.Error("the damaged file is gone")
	}
}

// TestUnreadableFile: a file that cannot be read now is not a damaged one. Open
// fails and the file stays.
func TestUnreadableFile(t *testing.T) {
	d := starts(t)["a file"]
	d.failAt, d.failErr = d.step+2, syscall.EIO // the read
	b, err := Open(t.Context(), d.open(), nil)
	if b != nil || !errors.Is(err, syscall.EIO) {
		t.Errorf("%v, %v, want EIO", b, err)
	}
	if got := d.clone().mustLoad(t); !slices.Equal(got, oldSnap.Prices) {
		t.Errorf("after a failed read: %v", got)
	}
}
