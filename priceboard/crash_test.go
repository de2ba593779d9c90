package priceboard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/computemarket/computemarket/internal/durable"
	"github.com/computemarket/computemarket/internal/durable/durabletest"
	"github.com/computemarket/computemarket/internal/filelock"
)

var errCrash = errors.New("crash")

// crashDisk is a disk in memory on which a FileStore stops or fails at any step.
type crashDisk struct {
	durable.FS
	disk    *durabletest.Disk
	locked  bool
	lockErr error

	step    int   // how many steps were taken
	failAt  int   // the step that fails with failErr; 0 for none
	forGood bool  // all later steps fail, too
	failErr error // what they return
}

func onDisk(disk *durabletest.Disk) *crashDisk {
	d := &crashDisk{disk: disk}
	d.FS = durabletest.Hook(disk, d.next)
	return d
}

// next counts a step, and says if it is not to happen.
func (d *crashDisk) next() error {
	d.step++
	if d.failAt > 0 && (d.step == d.failAt || d.forGood && d.step > d.failAt) {
		return d.failErr
	}
	return nil
}

func (d *crashDisk) lock(string) (claim, error) {
	if d.lockErr != nil {
		return nil, d.lockErr
	}
	if d.locked {
		return nil, ErrLocked
	}
	d.locked = true
	return unlocker{d}, nil
}

type unlocker struct{ d *crashDisk }

func (u unlocker) Holds() bool { return u.d.locked }

func (u unlocker) Close() error { u.d.locked = false; return nil }

func (d *crashDisk) read(name string) ([]byte, error) {
	if err := d.next(); err != nil {
		return nil, err
	}
	return d.disk.Get(name)
}

func (d *crashDisk) exists(name string) (bool, error) {
	return slices.Contains(d.disk.Names(), name), d.next()
}

// open returns a store as the next process would, the one before being gone.
func (d *crashDisk) open() *FileStore {
	d.locked = false
	return &FileStore{path: "/board", sys: d}
}

// load returns what a new process finds on disk.
func load(disk *durabletest.Disk) ([]uint64, error) {
	s, err := onDisk(disk).open().Load(context.Background())
	if errors.Is(err, ErrNoSnapshot) {
		err = nil
	}
	return s.Prices, err
}

var (
	oldSnap = Snapshot{Window: 100, Prices: []uint64{1, 2, 3}}
	newSnap = Snapshot{Window: 100, Prices: []uint64{4, 5, 6, 7, 8, 9}, Parties: []string{"a", "b", "a"}}
)

// starts are disks to save newSnap on.
func starts(t *testing.T) map[string]*durabletest.Disk {
	saved := durabletest.NewDisk()
	if err := onDisk(saved).open().Save(t.Context(), oldSnap); err != nil {
		t.Fatal(err)
	}
	leftover := saved.Clone()
	leftover.Put("/board.tmp", []byte("PBRD"))
	return map[string]*durabletest.Disk{"no file": durabletest.NewDisk(), "a file": saved, "a file and a temporary": leftover}
}

// oldOrNew checks that disk holds one of two snapshots, whole: the new one if the
// save had returned.
func oldOrNew(disk *durabletest.Disk, old []uint64, saved error) error {
	got, err := load(disk)
	if err != nil {
		return err
	}
	if !slices.Equal(got, newSnap.Prices) && (saved == nil || !slices.Equal(got, old)) {
		return fmt.Errorf("the file holds %v", got)
	}
	if slices.Contains(disk.Names(), "/board.tmp") {
		return errors.New("the temporary file is still there")
	}
	return nil
}

// TestCrashAtEveryStep crashes a save at its first step, its second, … until none
// is left. Whatever the disk has kept, the next process finds the old snapshot or
// the new one, the new one if Save had returned, and can save again.
func TestCrashAtEveryStep(t *testing.T) {
	for name, start := range starts(t) {
		old, err := load(start.Clone())
		if err != nil {
			t.Fatal(err)
		}
		for k := 1; ; k++ {
			d := onDisk(start.Clone())
			d.failAt, d.forGood, d.failErr = k, true, errCrash
			saved := d.open().Save(t.Context(), newSnap)
			for i, s := range d.disk.Survivors() {
				if err := oldOrNew(s, old, saved); err != nil {
					t.Fatalf("%s, crash at step %d, survivor %d (Save: %v): %v", name, k, i, saved, err)
				}
				if err := onDisk(s).open().Save(t.Context(), oldSnap); err != nil {
					t.Fatal(err)
				}
				if got, err := load(s); err != nil || !slices.Equal(got, oldSnap.Prices) {
					t.Fatalf("%s, crash at step %d: saved again, %v, %v", name, k, got, err)
				}
			}
			if d.step < k {
				if saved != nil {
					t.Fatalf("%s, without a crash: %v", name, saved)
				}
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
	junk[4], junk[5] = 1, 0
	start := durabletest.NewDisk()
	start.Put("/board", junk)
	for k := 1; ; k++ {
		d := onDisk(start.Clone())
		d.failAt, d.forGood, d.failErr = k, true, errCrash
		_, err := d.open().Load(t.Context())
		for i, s := range d.disk.Survivors() {
			_, again := onDisk(s).open().Load(t.Context())
			if !errors.Is(again, ErrNoSnapshot) && (!errors.Is(again, ErrCorrupt) || errors.Is(err, ErrCorrupt)) {
				t.Fatalf("crash at step %d, survivor %d: %v, then %v", k, i, err, again)
			}
			if got, _ := s.Get("/board.corrupt"); !bytes.Equal(got, junk) {
				t.Fatalf("crash at step %d, survivor %d: the damaged bytes are lost", k, i)
			}
		}
		if d.step < k {
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
		old, err := load(start.Clone())
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EIO} {
			for k := 1; ; k++ {
				d := onDisk(start.Clone())
				d.failAt, d.failErr, d.forGood = k, fault, k%2 == 0
				f := d.open()
				saved := f.Save(t.Context(), newSnap)
				steps := d.step
				at := fmt.Sprintf("%s, %v at step %d", name, fault, k)
				if steps >= k && !errors.Is(saved, fault) {
					t.Fatalf("%s: Save returned %v", at, saved)
				}
				d.failAt = 0
				for _, s := range d.disk.Survivors() {
					if err := oldOrNew(s, old, saved); err != nil {
						t.Fatalf("%s: %v", at, err)
					}
				}
				if err := f.Save(t.Context(), newSnap); err != nil {
					t.Fatalf("%s: the next save: %v", at, err)
				}
				for _, s := range d.disk.Survivors() {
					if err := oldOrNew(s, nil, nil); err != nil {
						t.Fatalf("%s: after the next save: %v", at, err)
					}
				}
				if steps < k {
					break
				}
			}
		}
	}
}

// TestUnsyncedFolder: the last step of a save alone can fail. The error does not
// say that the file is as before, for it is not.
func TestUnsyncedFolder(t *testing.T) {
	well := onDisk(starts(t)["a file"])
	if err := well.open().Save(t.Context(), oldSnap); err != nil {
		t.Fatal(err)
	}
	d := onDisk(starts(t)["a file"])
	d.failAt, d.failErr = well.step, syscall.EIO
	err := d.open().Save(t.Context(), newSnap)
	if !errors.Is(err, durable.ErrUnsynced) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("step %d: %v, want ErrUnsynced", d.step, err)
	}
	if got, err := load(d.disk); err != nil || !slices.Equal(got, newSnap.Prices) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestReadOnlyFolder: a board reads there, says that it cannot save, goes on, and
// saves when the folder becomes writable.
func TestReadOnlyFolder(t *testing.T) {
	d := onDisk(starts(t)["a file"])
	d.lockErr = fmt.Errorf("%w: %w", filelock.ErrReadOnly, fs.ErrPermission)
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
	if got, err := load(d.disk); err != nil || !slices.Equal(got, []uint64{1, 2, 3, 4}) {
		t.Errorf("saved %v, %v", got, err)
	}
}

// TestDamagedAndNoClaim: a damaged file that cannot be moved aside is an error of
// Open, for the next save would overwrite it. Without a claim nobody touches it:
// it may be another's.
func TestDamagedAndNoClaim(t *testing.T) {
	for name, prepare := range map[string]func(*crashDisk){
		"cannot be moved": func(d *crashDisk) { d.failAt, d.forGood, d.failErr = 4, true, syscall.EROFS }, // after resolve, remove and read
		"read-only":       func(d *crashDisk) { d.lockErr = fmt.Errorf("%w: %w", filelock.ErrReadOnly, syscall.EROFS) },
	} {
		d := onDisk(durabletest.NewDisk())
		d.disk.Put("/board", []byte("junk"))
		prepare(d)
		f := d.open()
		b, err := Open(t.Context(), f, nil)
		if b != nil || !errors.Is(err, syscall.EROFS) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v, %v", name, b, err)
		}
		if d.locked {
			t.Errorf("%s: the claim is still there", name)
		}
		if got, _ := d.disk.Get("/board"); string(got) != "junk" {
			t.Errorf("%s: the damaged file is gone", name)
		}
		d.failAt, d.lockErr = 0, nil
		if b, err = Open(t.Context(), f, nil); err != nil || b.LoadResult().Outcome != Damaged {
			t.Errorf("%s: the next Open: %v", name, err)
		}
	}
}

// TestUnreadableFile: a file that cannot be read now is not a damaged one. Open
// fails and the file stays.
func TestUnreadableFile(t *testing.T) {
	d := onDisk(starts(t)["a file"])
	d.failAt, d.failErr = 3, syscall.EIO // the read, after resolve and remove
	b, err := Open(t.Context(), d.open(), nil)
	if b != nil || !errors.Is(err, syscall.EIO) || d.locked {
		t.Errorf("%v, %v, want EIO", b, err)
	}
	if got, err := load(d.disk); err != nil || !slices.Equal(got, oldSnap.Prices) {
		t.Errorf("after a failed read: %v, %v", got, err)
	}
}
