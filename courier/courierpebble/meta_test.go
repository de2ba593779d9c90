package courierpebble

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// The format of version 1, in schema 2.
func TestMetaGolden(t *testing.T) {
	m := meta{last: 1, counts: courier.Counts{Pending: 2, Acknowledged: 3, Dead: 4, Aside: 5}}
	const want = "01" + "0000000000000001" + "0000000000000002" + "0000000000000003" +
		"0000000000000004" + "0000000000000005" + "476f90d5"
	if got := hex.EncodeToString(m.encode()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var back meta
	if err := back.decode(m.encode()); err != nil || back != m {
		t.Errorf("%+v comes back as %+v, %v", m, back, err)
	}
	for n := range metaBytes {
		if err := back.decode(m.encode()[:n]); !errors.Is(err, courier.ErrCorrupt) {
			t.Errorf("%d bytes: %v, want ErrCorrupt", n, err)
		}
	}
}

// openSample has four receipts in a new database: pending, acknowledged, dead,
// and kept aside. A fifth, the last, is gone.
func openSample(t *testing.T) (*pebbledb.DB, *Store) {
	t.Helper()
	db, err := dbtest.Open("db", &kv.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	var rs []courier.Receipt
	for i := range 5 {
		r, err := s.Append(t.Context(), courier.Receipt{ID: courier.ID{byte(i + 1)}, Sender: "s", SentAt: time.Unix(1, 0)})
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	at := time.Unix(2, 0)
	_, err = s.Move(t.Context(), []courier.Move{
		{Receipt: rs[1], To: courier.Acknowledged, At: at},
		{Receipt: rs[2], To: courier.Dead, At: at, Cause: courier.Rejected},
		{Receipt: rs[4], To: courier.Gone, At: at},
	})
	b := dbtest.Inside(db).Batch()
	b.Set(place{courier.Pending, rs[3].Seq}.key(), []byte("damaged"), nil)
	if err := errors.Join(err, dbtest.Inside(db).Commit(b)); err != nil {
		t.Fatal(err)
	}
	for _, err := range s.List(t.Context(), courier.Pending, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	return db, s
}

// A head record that is damaged, whichever bit, or lost is ErrCorrupt, and is
// made anew for who asks.
func TestDamagedHead(t *testing.T) {
	ctx := t.Context()
	db, s := openSample(t)
	want := courier.Counts{Pending: 1, Acknowledged: 1, Dead: 1, Aside: 1}
	if c, err := s.Count(ctx); c != want || err != nil {
		t.Fatalf("%+v, %v, want %+v", c, err, want)
	}
	s.Close()
	var good []byte
	dbtest.Inside(db).Get(metaKey, func(v []byte) error { good = bytes.Clone(v); return nil })
	put := func(v []byte) {
		b := dbtest.Inside(db).Batch()
		if v == nil {
			b.Delete(metaKey, nil)
		} else {
			b.Set(metaKey, v, nil)
		}
		if err := dbtest.Inside(db).Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	bad := [][]byte{nil, {}, good[:len(good)-1], good[1 : 1+metaNumbers]}
	for bit := range 8 * len(good) {
		v := bytes.Clone(good)
		v[bit/8] ^= 1 << (bit % 8)
		bad = append(bad, v)
	}
	for i, v := range bad {
		put(v)
		for range 2 { // a refused opening holds nothing, and mends nothing
			if _, err := New(db, nil); !errors.Is(err, courier.ErrCorrupt) {
				t.Fatalf("damage %d: %v, want ErrCorrupt", i, err)
			}
		}
		var log strings.Builder
		s, err := New(db, &Options{Recount: true, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatalf("damage %d: %v", i, err)
		}
		if c, err := s.Count(ctx); c != want || err != nil || strings.Count(log.String(), "\n") != 1 {
			t.Fatalf("damage %d: %+v, %v, want %+v; logged %s", i, c, err, want, &log)
		}
		s.Close()
	}
	log := new(strings.Builder)
	s, err := New(db, &Options{Recount: true, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil || log.Len() > 0 {
		t.Fatalf("a sound store: %v, %s", err, log)
	}
	defer s.Close()
	r, err := s.Append(ctx, courier.Receipt{ID: courier.ID{9}, Sender: "s", SentAt: time.Unix(1, 0)})
	if err != nil || r.Seq <= 5 {
		t.Errorf("the next number is %d, %v; 5 was given before", r.Seq, err)
	}
}

// Of a head record without a checksum only what agrees with the lists is
// believed.
func TestUpgradeOfTheHead(t *testing.T) {
	ctx := t.Context()
	db, s := openSample(t)
	s.Close()
	old := func(m meta) []byte { return m.encode()[1 : 1+metaNumbers] }
	for name, c := range map[string]struct {
		head meta
		next uint64
	}{
		"sound":              {meta{5, courier.Counts{Pending: 1, Acknowledged: 1, Dead: 1, Aside: 1}}, 6},
		"of another count":   {meta{5, courier.Counts{Pending: 9}}, 6},
		"of a lower number":  {meta{1, courier.Counts{}}, 5},
		"of a higher number": {meta{1 << 40, courier.Counts{}}, 1<<40 + 1},
	} {
		b := dbtest.Inside(db).Batch()
		b.Set(metaKey, old(c.head), nil)
		b.Set([]byte{namespace, 0}, []byte{0, 1}, nil)
		if err := dbtest.Inside(db).Commit(b); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s, err := New(db, nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := courier.Counts{Pending: 1, Acknowledged: 1, Dead: 1, Aside: 1}
			if got, err := s.Count(ctx); got != want || err != nil || s.meta.last != c.next-1 {
				t.Errorf("%s: %+v, %v, last %d", name, got, err, s.meta.last)
			}
			s.Close()
		}
	}
}

// What a long call needed is not kept.
func TestScratchIsBounded(t *testing.T) {
	_, s := openSample(t)
	long := make([]courier.Move, 2*maxScratchMoves)
	for i := range long {
		long[i] = courier.Move{Receipt: courier.Receipt{ID: courier.ID{byte(i), byte(i >> 8)}, State: courier.Pending, Seq: uint64(i)}, To: courier.Acknowledged}
	}
	if _, err := s.Move(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	if n := cap(s.scratch.order); n > maxScratchMoves {
		t.Errorf("room for %d moves is kept", n)
	}
}

func TestCloseWithinList(t *testing.T) {
	for what, closing := range map[string]func(*pebbledb.DB, *Store) error{
		"database": func(db *pebbledb.DB, _ *Store) error { return db.Close() },
		"store":    func(_ *pebbledb.DB, s *Store) error { return s.Close() },
	} {
		db, s := openSample(t)
		if _, err := s.Append(t.Context(), courier.Receipt{ID: courier.ID{9}, Sender: "s", SentAt: time.Unix(1, 0)}); err != nil {
			t.Fatal(err)
		}
		var errs []error
		for _, err := range s.List(t.Context(), courier.Pending, 0) {
			if errs = append(errs, err); err == nil {
				if err := closing(db, s); err != nil {
					t.Errorf("%s: Close: %v", what, err)
				}
			}
		}
		if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], courier.ErrClosed) {
			t.Errorf("%s: the loop saw %v, want nil, ErrClosed", what, errs)
		}
	}
}

func TestWithoutWhatIsNeeded(t *testing.T) {
	ctx := context.Background()
	for _, db := range []*pebbledb.DB{nil, new(pebbledb.DB)} {
		if _, err := New(db, nil); !errors.Is(err, courier.ErrOptions) {
			t.Errorf("New: %v, want ErrOptions", err)
		}
	}
	if _, err := dbtest.Open(t.TempDir(), &kv.Options{CacheBytes: -1}); !errors.Is(err, courier.ErrOptions) {
		t.Errorf("OpenDB: %v, want ErrOptions", err)
	}
	var s Store
	_, aerr := s.Append(ctx, courier.Receipt{Sender: "s"})
	_, merr := s.Move(ctx, nil)
	_, gerr := s.Get(ctx, courier.ID{})
	_, cerr := s.Count(ctx)
	_, nerr := s.Needs(ctx, courier.Hash{})
	errs := []error{aerr, merr, gerr, cerr, nerr}
	for _, err := range s.List(ctx, courier.Pending, 0) {
		errs = append(errs, err)
	}
	for _, err := range s.Damaged(ctx) {
		errs = append(errs, err)
	}
	for i, err := range errs {
		if !errors.Is(err, courier.ErrInvalid) {
			t.Errorf("call %d of a zero Store: %v, want ErrInvalid", i, err)
		}
	}
	if err := s.Close(); err != nil || len(errs) != 7 {
		t.Errorf("Close: %v; %d errors", err, len(errs))
	}
}
