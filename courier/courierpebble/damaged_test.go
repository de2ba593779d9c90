package courierpebble_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

func recordKey(r courier.Receipt) []byte {
	return binary.BigEndian.AppendUint64([]byte{'c', 2, byte(r.State)}, r.Seq)
}

// damage rewrites what is stored under key.
func damage(t *testing.T, db *pebbledb.DB, key []byte, change func([]byte) []byte) {
	t.Helper()
	b := dbtest.Inside(db).Batch()
	found, err := dbtest.Inside(db).Get(key, func(v []byte) error {
		return b.Set(key, change(append([]byte(nil), v...)), nil)
	})
	if !found {
		t.Fatalf("no key %x: %v", key, err)
	}
	if err := errors.Join(err, dbtest.Inside(db).Commit(b)); err != nil {
		t.Fatal(err)
	}
}

func flip(bit int) func([]byte) []byte {
	return func(v []byte) []byte {
		v[bit/8] ^= 1 << (bit % 8)
		return v
	}
}

// lines counts what is logged.
type lines struct{ strings.Builder }

func (l *lines) n() int { return strings.Count(l.String(), "\n") }

type shop struct {
	db    *pebbledb.DB
	store *courierpebble.Store
	log   lines
	*courier.Courier
}

// open returns a courier with n receipts sent, under the IDs {1} to {n}.
func openShop(t *testing.T, n int) (*shop, []courier.Receipt) {
	t.Helper()
	s := new(shop)
	var err error
	if s.db, err = pebbledb.Open(t.TempDir(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	if s.store, err = courierpebble.New(s.db, &courierpebble.Options{
		Logger: slog.New(slog.NewTextHandler(&s.log, nil)),
	}); err != nil {
		t.Fatal(err)
	}
	if s.Courier, err = courier.New(s.store, &courier.Options{Bundles: courier.DirBundles(t.TempDir())}); err != nil {
		t.Fatal(err)
	}
	var sent []courier.Receipt
	for i := range n {
		r, err := s.again(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, r)
	}
	return s, sent
}

func (s *shop) again(ctx context.Context, i int) (courier.Receipt, error) {
	return s.SendAs(ctx, courier.ID{byte(i + 1)}, strings.NewReader(fmt.Sprint("bundle ", i)), "sender")
}

// peer takes everything, once.
type peer struct {
	mu  sync.Mutex
	got map[courier.ID]int
}

func (p *peer) Forward(_ context.Context, r courier.Receipt, b io.Reader) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.got == nil {
		p.got = map[courier.ID]int{}
	}
	p.got[r.ID]++
	_, err := io.Copy(io.Discard, b)
	return err
}

// Whatever bit of a pending receipt flips, the others are forwarded, and it is
// kept aside: its ID is neither free nor forwarded, its bundle stays.
func TestDamagedPending(t *testing.T) {
	const n = 5
	sum := 8 * (77 + len("sender"))
	for _, bit := range []int{0, 8, 8*17 + 3, 8 * 50, 8 * 60, 8 * 70, 8 * 73, 8 * 74, 8 * 75, 8*76 + 7, 8*77 + 1, sum, sum + 31} {
		s, sent := openShop(t, n)
		bad := sent[bit%n]
		damage(t, s.db, recordKey(bad), flip(bit))
		var p peer
		for range 2 { // found once
			r, err := s.Flush(t.Context(), &p)
			if err != nil || r.Remaining != 0 {
				t.Fatalf("bit %d: Flush: %+v, %v", bit, r, err)
			}
			if s.log.n() != 1 {
				t.Errorf("bit %d: logged %d times, want 1: %s", bit, s.log.n(), &s.log)
			}
		}
		for i, r := range sent {
			want := 1
			var wantErr error
			if r.ID == bad.ID {
				want, wantErr = 0, courier.ErrCorrupt
			}
			if p.got[r.ID] != want {
				t.Errorf("bit %d: receipt %d was forwarded %d times, want %d", bit, i, p.got[r.ID], want)
			}
			if _, err := s.Get(t.Context(), r.ID); !errors.Is(err, wantErr) {
				t.Errorf("bit %d: Get of receipt %d: %v, want %v", bit, i, err, wantErr)
			}
			if _, err := s.again(t.Context(), i); !errors.Is(err, wantErr) {
				t.Errorf("bit %d: receipt %d sent again: %v, want %v", bit, i, err, wantErr)
			}
		}
		want := courier.Counts{Acknowledged: n - 1, Aside: 1}
		if c, err := s.Count(t.Context()); c != want || err != nil {
			t.Errorf("bit %d: Count: %+v, %v, want %+v", bit, c, err, want)
		}
		if needed, err := s.store.Needs(t.Context(), bad.Bundle); !needed || err != nil {
			t.Errorf("bit %d: its bundle is given up: %v", bit, err)
		}
		aside := 0
		for d, err := range s.store.Damaged(t.Context()) {
			if aside++; err != nil || d.State != courier.Pending || d.Seq != bad.Seq || d.Err == nil || len(d.Raw) != sum/8+4 {
				t.Errorf("bit %d: kept aside: %+v, %v", bit, d, err)
			}
		}
		if aside != 1 {
			t.Errorf("bit %d: %d kept aside, want 1", bit, aside)
		}
		// It outlives the store.
		s.store.Close()
		again, err := courierpebble.New(s.db, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := again.Count(t.Context()); c != want || err != nil {
			t.Errorf("bit %d: Count after reopening: %+v, %v, want %+v", bit, c, err, want)
		}
	}
}

// Damage in the other lists stops Prune and List as little.
func TestDamagedAcknowledged(t *testing.T) {
	s, _ := openShop(t, 5)
	if r, err := s.Flush(t.Context(), new(peer)); err != nil || r.Forwarded != 5 {
		t.Fatal(r, err)
	}
	bad, err := s.Get(t.Context(), courier.ID{3})
	if err != nil {
		t.Fatal(err)
	}
	damage(t, s.db, recordKey(bad), func(v []byte) []byte { return v[:20] })
	if n, err := s.Prune(t.Context(), -1); n != 4 || err != nil {
		t.Errorf("Prune: %d, %v, want 4", n, err)
	}
	if c, err := s.Count(t.Context()); c != (courier.Counts{Aside: 1}) || err != nil {
		t.Errorf("Count: %+v, %v", c, err)
	}
}

// A receipt that is damaged between its reading and its acknowledgement is not
// acknowledged, and keeps no other from being so.
func TestDamagedInMidFlush(t *testing.T) {
	s, sent := openShop(t, 5)
	damage(t, s.db, recordKey(sent[2]), flip(99))
	var moves []courier.Move
	for _, r := range sent {
		moves = append(moves, courier.Move{Receipt: r, To: courier.Acknowledged, At: r.SentAt})
	}
	if n, err := s.store.Move(t.Context(), moves); n != 4 || err != nil {
		t.Errorf("Move: %d, %v, want 4", n, err)
	}
	if c, err := s.Count(t.Context()); c != (courier.Counts{Pending: 1, Acknowledged: 4}) || err != nil {
		t.Errorf("Count: %+v, %v", c, err)
	}
	if r, err := s.Flush(t.Context(), new(peer)); r != (courier.Report{}) || err != nil {
		t.Errorf("Flush: %+v, %v", r, err)
	}
	if c, err := s.Count(t.Context()); c != (courier.Counts{Acknowledged: 4, Aside: 1}) || err != nil {
		t.Errorf("Count: %+v, %v", c, err)
	}
}

// Readers that meet the same damage at once set it aside once.
func TestDamagedReadAtOnce(t *testing.T) {
	s, sent := openShop(t, 5)
	for _, r := range sent[1:4] {
		damage(t, s.db, recordKey(r), flip(64))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			n := 0
			for _, err := range s.List(t.Context(), courier.Pending) {
				if n++; err != nil {
					t.Error(err)
				}
			}
			if n != 2 {
				t.Errorf("%d receipts, want 2", n)
			}
		})
	}
	wg.Wait()
	if c, err := s.Count(t.Context()); c != (courier.Counts{Pending: 2, Aside: 3}) || err != nil {
		t.Errorf("Count: %+v, %v", c, err)
	}
	if s.log.n() != 3 {
		t.Errorf("logged %d times, want 3", s.log.n())
	}
}

// An ID that the index leads to another's record, or to none, is not that one's.
func TestDamagedIndex(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"to none": flip(63), // far beyond the last
		"to another's": func(v []byte) []byte {
			v[7] = 3
			return v
		},
		"short": func(v []byte) []byte { return v[:7] },
	} {
		s, sent := openShop(t, 3)
		id := sent[0].ID
		damage(t, s.db, append([]byte{'c', 3}, id[:]...), change)
		if r, err := s.Get(t.Context(), id); !errors.Is(err, courier.ErrCorrupt) {
			t.Errorf("%s: Get: %+v, %v, want ErrCorrupt", name, r, err)
		}
		if r, err := s.again(t.Context(), 0); !errors.Is(err, courier.ErrCorrupt) {
			t.Errorf("%s: sent again: %+v, %v, want ErrCorrupt", name, r, err)
		}
	}
}
