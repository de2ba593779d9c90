package postgrestest

import (
	"errors"
	"testing"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptsql"
)

// counter counts damage.
type counter struct{ n int }

func (c *counter) Corrupt(n int) { c.n += n }

// damagedLog is a log of four receipts, the first of which was promoted, with a
// pool of one.
func damagedLog(t *testing.T) (open func() (*receiptsql.Store, *counter), rs []receipt.Receipt, each func(table, where string, check func(*testing.T, damage))) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	db.SetMaxOpenConns(1)
	if err := receiptsql.Migrate(ctx, db); err != nil {
		t.Fatal(err)
	}
	open = func() (*receiptsql.Store, *counter) {
		n := new(counter)
		s, err := receiptsql.New(ctx, db, &receiptsql.Options{Metrics: n})
		if err != nil {
			t.Fatal(err)
		}
		return s, n
	}
	s, _ := open()
	dry := numbered(0)
	dry.DryRun = true
	rs = []receipt.Receipt{numbered(1), numbered(2), numbered(3), numbered(0)}
	for _, batch := range [][]receipt.Receipt{{dry}, rs[:3], rs[3:]} { // 1; 2, 3, 4; 5 in place of 1
		if _, err := s.Append(ctx, batch); err != nil {
			t.Fatal(err)
		}
	}
	return open, rs, func(table, where string, check func(*testing.T, damage)) { eachDamage(t, db, table, where, check) }
}

// Whatever stands in a row, it is the trouble of that receipt alone.
func TestDamagedReceipts(t *testing.T) {
	open, rs, each := damagedLog(t)
	harmless := legal{
		"dry_run": true, "issued_at_nanos = 0": true, "issued_at = '0001-01-01 00:00:00+00'": true,
		"seq = 2": true, // a number between its neighbours would be, too
	}
	each("receipts", "seq = 3", func(t *testing.T, d damage) {
		ctx := t.Context()
		s, counted := open()
		var met []receipt.Record
		for range 2 {
			met = nil
			for rec, err := range s.After(ctx, 0) {
				if err != nil {
					t.Fatal("After:", err)
				}
				met = append(met, rec)
			}
		}
		sound := []receipt.Receipt{rs[0], rs[2], rs[3]}
		if harmless.has(d) {
			sound = rs
		}
		if len(met) != len(sound) {
			t.Fatalf("After shows %d receipts, want %d", len(met), len(sound))
		}
		if want := len(rs) - len(sound); counted.n != want {
			t.Errorf("counted %d, want %d", counted.n, want)
		}
		for i := range sound {
			got, err := s.Get(ctx, sound[i].Key)
			if err != nil || got != met[i] || !got.SameContent(&sound[i]) {
				t.Errorf("receipt %d: Get: %+v, %v; After: %+v", i, got, err, met[i])
			}
		}
		statuses, err := s.Append(ctx, append([]receipt.Receipt{rs[1], numbered(9)}, sound...))
		if len(statuses) != 2+len(sound) || statuses[1] != receipt.Inserted || statuses[2] != receipt.Duplicate || statuses[4] != receipt.Duplicate {
			t.Fatalf("Append: %v, %v", statuses, err)
		}
		switch _, gerr := s.Get(ctx, rs[1].Key); {
		case harmless.has(d):
			if gerr != nil || err != nil {
				t.Errorf("Get: %v, Append: %v", gerr, err)
			}
		case d.column == "receipt_key": // nobody knows any more whose it was
			if statuses[0] != receipt.Inserted || err != nil {
				t.Errorf("Append under the lost key: %v, %v", statuses[0], err)
			}
		default:
			if statuses[0] != receipt.Corrupt || !errors.Is(err, receipt.ErrCorrupt) || !errors.Is(gerr, receipt.ErrCorrupt) {
				t.Errorf("Append: %v, %v; Get: %v", statuses[0], err, gerr)
			}
			if counted.n != 1 {
				t.Errorf("counted %d in the end", counted.n)
			}
		}
	})
}

// A row with the number that the next receipt should get does not end the log.
func TestNumberTaken(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	if err := receiptsql.Migrate(ctx, db); err != nil {
		t.Fatal(err)
	}
	s, err := receiptsql.New(ctx, db, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(ctx, []receipt.Receipt{numbered(1), numbered(2), numbered(3)}); err != nil {
		t.Fatal(err)
	}
	for i, seq := range []string{"4", "10", "9223372036854775807"} {
		run(t, db, `UPDATE receipts SET seq = `+seq+` WHERE seq = 2 OR seq > 3 AND job_id = 'job-2'`)
		if statuses, err := s.Append(ctx, []receipt.Receipt{numbered(10 * i), numbered(10*i + 11), numbered(10*i + 12)}); err != nil {
			t.Errorf("seq %s: %v, %v", seq, statuses, err)
		}
	}
}

// A log without its last number answers nothing else than that.
func TestDamagedReceiptLog(t *testing.T) {
	open, rs, each := damagedLog(t)
	each("receipt_log", "id = 1", func(t *testing.T, d damage) {
		ctx := t.Context()
		s, _ := open()
		statuses, aerr := s.Append(ctx, []receipt.Receipt{numbered(9), rs[0]})
		rec, gerr := s.Get(ctx, rs[3].Key)
		for _, err := range []error{aerr, gerr} {
			if err != nil && !errors.Is(err, receipt.ErrCorrupt) {
				t.Error(err)
			}
		}
		if gerr == nil && rec.Seq != 5 {
			t.Errorf("Get: %+v", rec)
		}
		if aerr == nil && (statuses[0] != receipt.Inserted || statuses[1] != receipt.Duplicate) {
			t.Errorf("Append: %v", statuses)
		}
		if d.value == "-1" && (aerr == nil || gerr == nil) || d.value == "9223372036854775807" && aerr == nil {
			t.Errorf("Append: %v, Get: %v", aerr, gerr)
		}
	})
}
