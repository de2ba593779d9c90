package receiptpebble_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// damageable is a store and the way into what it has written.
type damageable struct {
	*receiptpebble.Store
	receipttest.Counter
	db *pebbledb.DB
}

var _ receipttest.Damageable = (*damageable)(nil)

func openDamageable(disk vfs.FS, dir string, later bool) (*damageable, error) {
	d := new(damageable)
	var err error
	d.db, err = dbtest.Open(dir, &kv.Options{FS: disk, MemTableBytes: 1 << 20})
	if err != nil {
		return nil, err
	}
	d.Store, err = receiptpebble.New(d.db, &receiptpebble.Options{CheckLater: later, Metrics: &d.Counter})
	if err != nil {
		return nil, errors.Join(err, d.db.Close())
	}
	return d, nil
}

func (d *damageable) Close() error { return errors.Join(d.Store.Close(), d.db.Close()) }

func (d *damageable) Corrupt() int { return d.N() }

// damages change what is stored of a record with the number and the key so that
// nothing is left of it.
var damages = map[string]func(db *pebbledb.DB, b *pebble.Batch, seq uint64, index []byte) error{
	"a bit of the price":     flipIn(40),
	"a bit of the dry run":   flipIn(8),
	"a bit of the checksum":  flipIn(-1),
	"a bit of a name's size": flipIn(56*8 + 8),
	"cut short": func(db *pebbledb.DB, b *pebble.Batch, seq uint64, _ []byte) error {
		return change(db, b, logKey(seq), func(v []byte) []byte { return v[:len(v)-1] })
	},
	"emptied": func(_ *pebbledb.DB, b *pebble.Batch, seq uint64, _ []byte) error {
		return b.Set(logKey(seq), nil, nil)
	},
	"lost": func(_ *pebbledb.DB, b *pebble.Batch, seq uint64, _ []byte) error {
		return b.Delete(logKey(seq), nil)
	},
	"lost, and the index leads to another's": func(_ *pebbledb.DB, b *pebble.Batch, seq uint64, index []byte) error {
		return errors.Join(b.Delete(logKey(seq), nil), b.Set(index, binary.BigEndian.AppendUint64(nil, 1), nil))
	},
	"lost, and the index leads nowhere": func(_ *pebbledb.DB, b *pebble.Batch, seq uint64, index []byte) error {
		return errors.Join(b.Delete(logKey(seq), nil), b.Set(index, binary.BigEndian.AppendUint64(nil, 1<<63), nil))
	},
	"lost, and the index cut short": func(_ *pebbledb.DB, b *pebble.Batch, seq uint64, index []byte) error {
		return errors.Join(b.Delete(logKey(seq), nil), b.Set(index, []byte{1}, nil))
	},
}

func flipIn(bit int) func(*pebbledb.DB, *pebble.Batch, uint64, []byte) error {
	return func(db *pebbledb.DB, b *pebble.Batch, seq uint64, _ []byte) error {
		return change(db, b, logKey(seq), func(v []byte) []byte {
			at := (bit + 8*len(v)) % (8 * len(v))
			v[at/8] ^= 1 << (at % 8)
			return v
		})
	}
}

func change(db *pebbledb.DB, b *pebble.Batch, key []byte, to func([]byte) []byte) error {
	found, err := dbtest.Inside(db).Get(key, func(v []byte) error { return b.Set(key, to(slices.Clone(v)), nil) })
	if !found {
		return fmt.Errorf("no key %q: %w", key, err)
	}
	return err
}

func (d *damageable) Damages() []string { return slices.Sorted(maps.Keys(damages)) }

func (d *damageable) Damage(ctx context.Context, key receipt.Key, way string) error {
	rec, err := d.Get(ctx, key)
	if err != nil {
		return err
	}
	b := dbtest.Inside(d.db).Batch()
	if err := damages[way](d.db, b, rec.Seq, append([]byte("rk"), key[:]...)); err != nil {
		return err
	}
	return dbtest.Inside(d.db).Commit(b)
}

// Damage that comes while the store is open is met by whoever reads it, and is
// counted once.
func TestDamageInUse(t *testing.T) {
	ctx := t.Context()
	rs := batch(1, 1)
	bad := rs[2]
	meets := map[string]func(*damageable) error{
		"Get": func(d *damageable) error { _, err := d.Get(ctx, bad.Key); return err },
		"Append": func(d *damageable) error {
			st, err := d.Append(ctx, []receipt.Receipt{bad})
			if len(st) != 1 || st[0] != receipt.Corrupt {
				t.Errorf("Append: %v", st)
			}
			return err
		},
	}
	for way := range damages {
		for first := range meets {
			d, err := openDamageable(vfs.NewMem(), "db", false)
			if err == nil {
				_, err = d.Append(ctx, rs)
			}
			if err == nil {
				err = d.Damage(ctx, bad.Key, way)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := meets[first](d); !errors.Is(err, receipt.ErrCorrupt) {
				t.Errorf("%s, %s: %v, want ErrCorrupt", way, first, err)
			}
			if d.N() != 1 {
				t.Errorf("%s, %s: %d damaged counted, want 1", way, first, d.N())
			}
			for what, meet := range meets {
				if err := meet(d); !errors.Is(err, receipt.ErrCorrupt) {
					t.Errorf("%s, then %s: %v, want ErrCorrupt", way, what, err)
				}
			}
			n := 0
			for _, err := range d.After(ctx, 0) {
				if n++; err != nil {
					t.Errorf("%s: After: %v", way, err)
				}
			}
			if err := d.Check(ctx); err != nil {
				t.Errorf("%s: Check: %v", way, err)
			}
			if n != 2 || d.N() != 1 {
				t.Errorf("%s, %s first: %d receipts are left, %d damaged counted", way, first, n, d.N())
			}
			d.Close()
		}
	}
}

// What is lost is found on opening, before anybody asks for it.
func TestLostReceiptIsFoundOnOpening(t *testing.T) {
	ctx := t.Context()
	for way := range damages {
		disk := vfs.NewMem()
		d, err := openDamageable(disk, "db", false)
		if err == nil {
			_, err = d.Append(ctx, batch(1, 1))
		}
		if err == nil {
			err = errors.Join(d.Damage(ctx, batch(1, 1)[1].Key, way), d.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		if d, err = openDamageable(disk, "db", false); err != nil {
			t.Fatal(err)
		}
		if d.N() != 1 {
			t.Errorf("%s: %d damaged counted on opening, want 1", way, d.N())
		}
		d.Close()
	}
}

// A receipt that the index has lost is appended once more before the check: in
// the end it is in the log once, and for real if it ever was.
func TestTwoRecordsOfOneReceipt(t *testing.T) {
	ctx := t.Context()
	real := batch(1, 0)[0]
	dry := real
	dry.DryRun = true
	for _, c := range []struct {
		first, second receipt.Receipt
		left          uint64 // the number of the one that stays
	}{
		{real, real, 3}, {real, dry, 1}, {dry, real, 3}, {dry, dry, 3},
	} {
		disk := vfs.NewMem()
		d, err := openDamageable(disk, "db", true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Append(ctx, []receipt.Receipt{c.first, batch(2, 0)[0]}); err != nil {
			t.Fatal(err)
		}
		b := dbtest.Inside(d.db).Batch()
		b.Delete(append([]byte("rk"), real.Key[:]...), nil)
		if err := errors.Join(dbtest.Inside(d.db).Commit(b), d.Close()); err != nil {
			t.Fatal(err)
		}
		if d, err = openDamageable(disk, "db", true); err != nil {
			t.Fatal(err)
		}
		if st, err := d.Append(ctx, []receipt.Receipt{c.second}); err != nil || st[0] != receipt.Inserted {
			t.Fatalf("%v, %v", st, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if d, err = openDamageable(disk, "db", false); err != nil {
				t.Fatal(err)
			}
			if err := d.Check(ctx); err != nil {
				t.Fatal(err)
			}
			var numbers []uint64
			for rec, err := range d.After(ctx, 0) {
				if err != nil {
					t.Fatal(err)
				}
				numbers = append(numbers, rec.Seq)
			}
			want := []uint64{2, c.left}
			slices.Sort(want)
			rec, err := d.Get(ctx, real.Key)
			if err != nil || rec.Seq != c.left || !slices.Equal(numbers, want) {
				t.Errorf("dry runs %v, %v: %+v, %v, and the log has %v", c.first.DryRun, c.second.DryRun, rec, err, numbers)
			}
			if d.N() < 1 || d.N() > 2 {
				t.Errorf("counted %d times", d.N())
			}
			aside := 0
			for a, err := range d.Damaged(ctx) {
				if aside++; err != nil || a.Err != nil || a.Seq != 4-c.left {
					t.Errorf("aside: %+v, %v", a, err)
				}
			}
			if aside != 1 {
				t.Errorf("%d are aside, want 1", aside)
			}
			d.Close()
		}
	}
}

// A damaged mark is told of, and the next append writes it anew.
func TestDamagedMark(t *testing.T) {
	ctx, disk := t.Context(), vfs.NewMem()
	d, err := openDamageable(disk, "db", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Append(ctx, batch(1, 0)); err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * 12 {
		b := dbtest.Inside(d.db).Batch()
		err := change(d.db, b, []byte("rn"), func(v []byte) []byte {
			v[bit/8] ^= 1 << (bit % 8)
			return v
		})
		if err := errors.Join(err, dbtest.Inside(d.db).Commit(b), d.Close()); err != nil {
			t.Fatal(err)
		}
		for open := range 2 {
			if d, err = openDamageable(disk, "db", false); err != nil {
				t.Fatal(err)
			}
			if d.N() != 1-open {
				t.Fatalf("bit %d, opened %d times: %d counted", bit, open+1, d.N())
			}
			r := batch(3, 2*bit+open)[:1]
			if _, err := d.Append(ctx, r); err != nil {
				t.Fatal(err)
			}
			if rec, err := d.Get(ctx, r[0].Key); err != nil || rec.Seq != uint64(3+2*bit+open) {
				t.Fatalf("bit %d: the next number is %d, %v", bit, rec.Seq, err)
			}
			if open == 0 {
				d.Close()
			}
		}
	}
	d.Close()
}

// calling is a receipt.Metrics that calls the store.
type calling struct{ call func() }

func (c calling) Corrupt(int) { c.call() }

// Nothing is locked while Metrics run.
func TestMetricsMayCallTheStore(t *testing.T) {
	ctx := t.Context()
	db, err := dbtest.Open("db", &kv.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var s *receiptpebble.Store
	called := 0
	s, err = receiptpebble.New(db, &receiptpebble.Options{Metrics: calling{func() {
		called++
		_, err := s.Append(ctx, batch(2, called))
		for _, aerr := range s.After(ctx, 0) {
			err = errors.Join(err, aerr)
		}
		if err = errors.Join(err, s.Check(ctx)); err != nil {
			t.Error(err)
		}
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(ctx, batch(1, 1)); err != nil {
		t.Fatal(err)
	}
	b := dbtest.Inside(db).Batch()
	b.Set(logKey(1), []byte("damaged"), nil)
	b.Delete(append([]byte("rk"), batch(1, 1)[1].Key[:]...), nil)
	if err := dbtest.Inside(db).Commit(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := s
	if s, err = receiptpebble.New(db, &receiptpebble.Options{CheckLater: true, Metrics: calling{func() {
		called++
		if _, err := s.Append(ctx, batch(2, called)); err != nil {
			t.Error(err)
		}
		if _, err := s.Get(ctx, batch(1, 1)[0].Key); !errors.Is(err, receipt.ErrCorrupt) {
			t.Error(err)
		}
	}}}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Check(ctx); err != nil || called != 2 {
		t.Errorf("%v, %d calls, want one for each damage", err, called)
	}
	old.Close()
}

// A key that is no number stops nothing.
func TestMalformedKeys(t *testing.T) {
	ctx := t.Context()
	d, err := openDamageable(vfs.NewMem(), "db", false)
	if err != nil {
		t.Fatal(err)
	}
	r := receipt.New("a", "b", "c", 1, issued)
	if _, err := d.Append(ctx, []receipt.Receipt{r}); err != nil {
		t.Fatal(err)
	}
	b := dbtest.Inside(d.db).Batch()
	for _, key := range []string{"rl\x01", "rl\xff\xff\xff\xff\xff\xff\xff\xff\xff", "rq", "rq\xff", "rk1"} {
		b.Set([]byte(key), []byte("x"), nil)
	}
	if err := dbtest.Inside(d.db).Commit(b); err != nil {
		t.Fatal(err)
	}
	if err := d.Store.Close(); err != nil {
		t.Fatal(err)
	}
	d.Store, err = receiptpebble.New(d.db, &receiptpebble.Options{Metrics: &d.Counter})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	n := 0
	for rec, err := range d.After(ctx, 0) {
		if n++; err != nil || rec.Key != r.Key {
			t.Errorf("%+v, %v", rec, err)
		}
	}
	for _, err := range d.Damaged(ctx) {
		if err != nil {
			t.Error(err)
		}
	}
	if statuses, err := d.Append(ctx, []receipt.Receipt{r}); err != nil || statuses[0] != receipt.Duplicate || n != 1 {
		t.Errorf("%v, %v, %d records", statuses, err, n)
	}
}
