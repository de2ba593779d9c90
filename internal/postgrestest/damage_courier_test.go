package postgrestest

import (
	"errors"
	"testing"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriersql"
)

// Whatever stands in a row, it is the trouble of that receipt alone.
func TestDamagedBundles(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	db.SetMaxOpenConns(1)
	if err := couriersql.Migrate(ctx, db); err != nil {
		t.Fatal(err)
	}
	s, err := couriersql.New(ctx, db, nil)
	if err != nil {
		t.Fatal(err)
	}
	send := func(i int) (courier.Receipt, error) {
		r := courier.Receipt{ID: courier.ID{byte(i)}, Bundle: courier.Hash{byte(i)}, Size: 3, Sender: "a", SentAt: issued}
		return s.Append(ctx, r)
	}
	var all []courier.Receipt
	for i := range 4 {
		r, err := send(i)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if _, err := s.Move(ctx, []courier.Move{{Receipt: all[3], To: courier.Dead, At: issued, Cause: courier.Expired, Reason: "late"}}); err != nil {
		t.Fatal(err)
	}
	harmless := legal{
		"carried": true, "size = 0": true, "size = 2": true, "size = 9223372036854775807": true,
		"seq = 9223372036854775807": true, "seq = 2": true,
		"id = decode(repeat('ab', 16), 'hex')": true, "bundle = decode(repeat('ab', 32), 'hex')": true,
		"sender = 'other'": true, "sender = 'dead'": true, "sender = 'acknowledged'": true, "sender = 'armed'": true,
		"since = '4713-01-01 00:00:00+00 BC'": true, "since = '0001-01-01 00:00:00+00'": true, "since = '294276-12-31 23:59:59+00'": true,
		"sent_at = '4713-01-01 00:00:00+00 BC'": true, "sent_at = '0001-01-01 00:00:00+00'": true, "sent_at = '294276-12-31 23:59:59+00'": true,
		"state = 'acknowledged'": true, "cause = ''": true, "reason = ''": true,
	}
	eachDamage(t, db, "courier_receipts", "seq = 2", func(t *testing.T, d damage) {
		met := map[courier.ID]bool{}
		for range 2 { // the second time it has been kept aside
			for _, state := range []courier.State{courier.Pending, courier.Acknowledged, courier.Dead} {
				for r, err := range s.List(ctx, state, 0) {
					if err != nil {
						t.Fatal("List:", err)
					}
					met[r.ID] = true
				}
			}
		}
		for _, i := range []int{0, 2, 3} {
			if got, err := s.Get(ctx, all[i].ID); err != nil || !got.Same(all[i]) || !met[all[i].ID] {
				t.Errorf("Get of receipt %d: %+v, %v; listed: %v", i, got, err, met[all[i].ID])
			}
			if _, err := send(i); err != nil {
				t.Errorf("receipt %d sent again: %v", i, err)
			}
		}
		if _, err := send(9); err != nil {
			t.Errorf("a new receipt: %v", err)
		}
		listed := d.column != "state" || d.value == "'dead'"
		want, wantMet := courier.Counts{Pending: 4, Dead: 1}, 4
		if !harmless.has(d) {
			if wantMet = 3; listed {
				want.Aside = 1
				want.Pending--
			}
			if d.value == "'dead'" && listed && d.column == "state" { // dead without a cause
				want.Pending, want.Dead = 4, 0
			}
			_, gerr := s.Get(ctx, all[1].ID)
			lost := d.column == "id" && errors.Is(gerr, courier.ErrNotFound) // nobody knows any more whose it was
			if !lost && !errors.Is(gerr, courier.ErrCorrupt) {
				t.Errorf("Get: %v", gerr)
			}
			if _, err := send(1); !lost && !errors.Is(err, courier.ErrCorrupt) {
				t.Errorf("sent again: %v", err)
			}
			if lost {
				want.Pending++
			}
		}
		if len(met) != wantMet {
			t.Errorf("%d receipts listed, want %d", len(met), wantMet)
		}
		if got, err := s.Count(ctx); err != nil || got != want {
			t.Errorf("Count: %+v, %v, want %+v", got, err, want)
		}
		moves := []courier.Move{{Receipt: all[0], To: courier.Acknowledged}, {Receipt: all[1], To: courier.Acknowledged}, {Receipt: all[2], To: courier.Gone}}
		moved := 2
		if harmless.has(d) && d.column != "id" && d.column != "state" && d != (damage{"seq", "9223372036854775807"}) {
			moved = 3
		}
		if n, err := s.Move(ctx, moves); n != moved || err != nil {
			t.Errorf("Move: %d, %v, want %d", n, err, moved)
		}
	})
	eachDamage(t, db, "courier_log", "id = 1", func(t *testing.T, d damage) {
		n := 0
		for _, err := range s.List(ctx, courier.Pending, 0) {
			if n++; err != nil {
				t.Error("List:", err)
			}
		}
		_, gerr := s.Get(ctx, all[0].ID)
		if n != 3 || gerr != nil {
			t.Errorf("%d listed, Get: %v", n, gerr)
		}
		_, serr := send(9)
		_, cerr := s.Count(ctx)
		for _, err := range []error{serr, cerr} {
			if err != nil && !errors.Is(err, courier.ErrCorrupt) {
				t.Error(err)
			}
		}
		if last := d.column == "last_seq"; last == (cerr != nil) && d.value == "-9223372036854775808" || last && d.value == "-1" && serr == nil {
			t.Errorf("Append: %v, Count: %v", serr, cerr)
		}
	})
}
