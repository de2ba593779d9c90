package courier_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
	"github.com/computemarket/computemarket/internal/crashtest"
	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/durable"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// onVFS lets a Dir use the disk that crashes.
type onVFS struct{ fs vfs.FS }

func (f onVFS) Resolve(name string) (string, error) { return name, nil }

func (f onVFS) Mode(name string) (fs.FileMode, error) {
	info, err := f.fs.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Mode(), nil
}

func (f onVFS) Create(name string, _ fs.FileMode) (durable.Handle, error) {
	file, err := f.fs.Create(name, "bundles")
	if err != nil {
		return nil, err
	}
	return vfsHandle{file}, nil
}

type vfsHandle struct{ vfs.File }

func (vfsHandle) Chmod(fs.FileMode) error { return nil }

func (f onVFS) Mkdir(name string, perm fs.FileMode) error { return f.fs.MkdirAll(name, perm) }

func (f onVFS) Rename(from, to string) error { return f.fs.Rename(from, to) }

func (f onVFS) Remove(name string) error { return f.fs.Remove(name) }

func (f onVFS) Open(name string) (io.ReadCloser, error) { return f.fs.Open(name) }

func (f onVFS) List(dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := f.fs.List(dir)
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

func (f onVFS) SyncDir(dir string) error {
	d, err := f.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f onVFS) Claim(string) (courier.Claim, error) { return noClaim{}, nil }

type noClaim struct{}

func (noClaim) Holds() error { return nil }
func (noClaim) Close() error { return nil }

// ledger credits each ID once, durably, in the database of the courier's store.
type ledger struct {
	db *pebbledb.DB
	mu sync.Mutex
}

const perReceipt = 7

func amount(r courier.Receipt) uint64 { return perReceipt }

func creditKey(id courier.ID) []byte { return append([]byte("t"), id[:]...) }

func (l *ledger) Credit(_ context.Context, credits []courier.Credit) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := dbtest.Inside(l.db).Batch()
	for _, c := range credits {
		if c.Account != "carrier" || c.Amount != perReceipt {
			return 0, fmt.Errorf("a strange credit: %+v", c)
		}
		found, err := dbtest.Inside(l.db).Get(creditKey(c.ID), func([]byte) error { return nil })
		if err != nil {
			return 0, err
		}
		if !found {
			b.Set(creditKey(c.ID), binary.BigEndian.AppendUint64(nil, c.Amount), nil)
		}
	}
	return len(credits), dbtest.Inside(l.db).Commit(b)
}

// credited returns the IDs that were.
func (l *ledger) credited() (map[courier.ID]bool, error) {
	ids := map[courier.ID]bool{}
	for p, err := range dbtest.Inside(l.db).Scan([]byte("t"), []byte("u")) {
		if err != nil {
			return nil, err
		}
		ids[courier.ID(p.Key[1:])] = true
	}
	return ids, nil
}

// node is a courier with everything it needs, on one disk.
type node struct {
	*courier.Courier
	ledger *ledger
	db     *pebbledb.DB
}

func openNode(disk vfs.FS, dir string, bundles courier.Bundles) (*node, error) {
	db, err := dbtest.Open(dir, &kv.Options{
		FS: disk, MemTableBytes: 64 << 10, CacheBytes: 1 << 20,
	})
	if err != nil {
		return nil, err
	}
	s, err := courierpebble.New(db, nil)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	l := &ledger{db: db}
	c, err := courier.New(s, &courier.Options{
		Bundles: bundles, Concurrency: 4, GroupSize: 3, MaxAttempts: 1,
		Rewarder: l, Account: "carrier", Amount: amount,
	})
	return &node{c, l, db}, err
}

func openOn(disk vfs.FS) (*node, error) {
	return openNode(disk, "db", courier.DirBundlesOn(onVFS{disk}, "bundles"))
}

const crashSteps = 12

// Step i sends bundle i; every third has the bundle of the one before.
func stepID(i int) (id courier.ID) {
	id[15] = byte(i)
	return id
}

func bundleOf(i int) string {
	if i%3 == 2 {
		i--
	}
	return strings.Repeat(fmt.Sprintf("bundle %d ", i), 1+40*(i%4))
}

func sendStep(n *node, i int) error {
	_, err := n.SendAs(context.Background(), stepID(i), strings.NewReader(bundleOf(i)), "sender")
	return err
}

// reads is a peer that verifies what it is sent.
var reads = forwarder(func(_ context.Context, r courier.Receipt, bundle io.Reader) error {
	got, err := io.ReadAll(bundle)
	if err == nil && string(got) != bundleOf(int(r.ID[15])) {
		err = fmt.Errorf("got %q for receipt %v", got, r.ID)
	}
	return err
})

func crashWork(disk vfs.FS, _ uint64, ack func()) error {
	n, err := openOn(disk)
	if err != nil {
		return err
	}
	defer n.db.Close()
	for i := range crashSteps {
		if err := sendStep(n, i); err != nil {
			return err
		}
		ack()
		if i%4 == 3 {
			if r, err := n.Flush(context.Background(), reads); err != nil || r.Forwarded != 4 {
				return fmt.Errorf("Flush: %+v, %w", r, err)
			}
		}
		if i == 8 {
			if _, err := n.Prune(context.Background(), 0); err != nil {
				return err
			}
		}
	}
	return n.db.Close()
}

func crashCheck(disk vfs.FS, _ uint64, acked int) error {
	n, err := openOn(disk)
	if err != nil {
		return err
	}
	defer n.db.Close()
	ctx := context.Background()
	credited, err := n.ledger.credited()
	if err != nil {
		return err
	}
	for i := range acked {
		r, err := n.Get(ctx, stepID(i))
		pruned := errors.Is(err, courier.ErrNotFound) && i < 9 && credited[stepID(i)]
		if err != nil && !pruned {
			return fmt.Errorf("step %d was acknowledged: %w", i, err)
		}
		if err == nil && r.Acknowledged() && !credited[r.ID] {
			return fmt.Errorf("step %d is acknowledged without its reward", i)
		}
	}
	// Each pending receipt still has its bundle, before sending again mends it.
	if r, err := n.Flush(ctx, reads); err != nil || r.Damaged+r.Rejected+r.Failed+r.Remaining > 0 {
		return fmt.Errorf("the first Flush: %+v, %v", r, err)
	}
	// Carry on: those that are there are not sent anew.
	for i := range crashSteps {
		if err := sendStep(n, i); err != nil {
			return fmt.Errorf("step %d again: %w", i, err)
		}
	}
	if r, err := n.Flush(ctx, reads); err != nil || r.Damaged+r.Rejected+r.Failed+r.Remaining > 0 {
		return fmt.Errorf("Flush: %+v, %v", r, err)
	}
	if credited, err = n.ledger.credited(); err != nil || len(credited) != crashSteps {
		return fmt.Errorf("%d credits, want %d: %v", len(credited), crashSteps, err)
	}
	if c, err := n.Count(ctx); err != nil || c != (courier.Counts{Acknowledged: crashSteps}) {
		return fmt.Errorf("Count: %+v, %v", c, err)
	}
	if _, err := n.Prune(ctx, 0); err != nil {
		return err
	}
	for h, err := range courier.DirBundlesOn(onVFS{disk}, "bundles").All(ctx) {
		return fmt.Errorf("a bundle stays that nobody needs: %v, %v", h, err)
	}
	return nil
}

func TestCrashAtEveryWrite(t *testing.T) {
	points := 800
	if testing.Short() {
		points = 200
	}
	if *sweep {
		points = 10_000
	}
	crashtest.Crash(t, points, crashWork, crashCheck)
}

func TestFailAtEveryWrite(t *testing.T) {
	for _, f := range crashtest.Faults {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			step := 2
			if testing.Short() {
				step = 11
			}
			if *sweep {
				step = 1
			}
			crashtest.Fail(t, f, step, crashWork, crashCheck)
		})
	}
}
