package courierpebble_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
	"github.com/computemarket/computemarket/courier/couriertest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// Whatever is done to the store, it shows what the model shows.
func TestModel(t *testing.T) {
	ctx := context.Background()
	states := []courier.State{courier.Gone, courier.Pending, courier.Acknowledged, courier.Dead}
	rapid.Check(t, func(t *rapid.T) {
		disk := vfs.NewMem()
		open := func() *courierpebble.Store {
			s, err := courierpebble.OpenOn("db", &kv.Options{FS: disk, MemTableBytes: 64 << 10, CacheBytes: 1 << 20}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		store, model := open(), new(couriertest.Model)
		defer func() { store.Close() }()
		known := map[courier.ID]courier.Receipt{} // each as it was once
		same := func(what string, a, b any) {
			if sa, sb := fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b); sa != sb {
				t.Fatalf("%s: the store says\n%s\nthe model\n%s", what, sa, sb)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				r := courier.Receipt{
					ID:      courier.ID{rapid.Byte().Draw(t, "id") % 32},
					Bundle:  courier.Hash{rapid.Byte().Draw(t, "bundle") % 4},
					Carried: rapid.Bool().Draw(t, "carried"),
					Sender:  "s", SentAt: time.Unix(5, 0).UTC(),
				}
				a, erra := store.Append(ctx, r)
				b, errb := model.Append(ctx, r)
				same("Append", a, b)
				same("Append", errors.Is(erra, courier.ErrConflict), errors.Is(errb, courier.ErrConflict))
				known[b.ID] = b
			},
			"move": func(t *rapid.T) {
				ids := slices.SortedFunc(maps.Keys(known), func(a, b courier.ID) int { return int(a[0]) - int(b[0]) })
				if len(ids) == 0 {
					return
				}
				var moves []courier.Move
				for range rapid.IntRange(1, 5).Draw(t, "n") {
					r := known[rapid.SampledFrom(ids).Draw(t, "id")]
					if rapid.Bool().Draw(t, "fresh") {
						if now, err := model.Get(ctx, r.ID); err == nil {
							r = now
						}
					}
					moves = append(moves, courier.Move{
						Receipt: r, To: rapid.SampledFrom(states).Draw(t, "to"),
						At: time.Unix(6, 0).UTC(), Cause: courier.Expired, Reason: "r",
					})
				}
				a, erra := store.Move(ctx, moves)
				b, errb := model.Move(ctx, moves)
				same("Move", a, b)
				same("Move", erra, errb)
			},
			"reopen": func(*rapid.T) {
				if err := store.Close(); err != nil {
					t.Fatal(err)
				}
				store = open()
			},
			"": func(*rapid.T) {
				a, erra := store.Count(ctx)
				b, errb := model.Count(ctx)
				same("Count", a, b)
				same("Count", erra, errb)
				for _, s := range states[1:] {
					var as, bs []courier.Receipt
					for r, err := range store.List(ctx, s, 0) {
						if err != nil {
							t.Fatal(err)
						}
						as = append(as, r)
					}
					for r := range model.List(ctx, s, 0) {
						bs = append(bs, r)
					}
					same(fmt.Sprint("List ", s), as, bs)
				}
				for h := range byte(4) {
					a, erra := store.Needs(ctx, courier.Hash{h})
					b, _ := model.Needs(ctx, courier.Hash{h})
					same("Needs", a, b)
					same("Needs", erra, nil)
				}
				for id := range byte(32) {
					a, erra := store.Get(ctx, courier.ID{id})
					b, errb := model.Get(ctx, courier.ID{id})
					same("Get", a, b)
					same("Get", errors.Is(erra, courier.ErrNotFound), errors.Is(errb, courier.ErrNotFound))
				}
			},
		})
	})
}

// Stores that share a database do not close it.
func TestShared(t *testing.T) {
	db, err := pebbledb.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := courierpebble.New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Append(t.Context(), courier.Receipt{Sender: "s"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = courierpebble.New(db, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), r.ID); err != nil || got != r {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s, err := courierpebble.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := courierpebble.Open(dir, nil); !errors.Is(err, courier.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
}

// Two open stores in one database would trust their own counts.
func TestLockedInOneDatabase(t *testing.T) {
	db, err := pebbledb.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := courierpebble.New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := courierpebble.New(db, nil); !errors.Is(err, courier.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := courierpebble.New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	s.Close() // gives back nothing that is not its own
	if _, err := courierpebble.New(db, nil); !errors.Is(err, courier.ErrLocked) {
		t.Errorf("after the first was closed once more: %v, want ErrLocked", err)
	}
}
