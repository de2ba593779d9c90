package kv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
)

// sight is all that the stores of a database show, a line for each answer, and
// how often they complained beside: in the log or in an error. An answer that is
// an error is a line that ends with "damaged".
type sight struct {
	lines []string
	found int
}

func (s *sight) add(what string, v any, err error) {
	if err == nil {
		s.lines = append(s.lines, fmt.Sprintf("%s: %v", what, v))
		return
	}
	s.found++
	s.lines = append(s.lines, what+": damaged")
}

// A kept is a store that keeps records in a database: put fills it, look says
// what it shows. An error of look is that of opening it.
type kept struct {
	name string
	put  func(context.Context, *kv.DB) error
	look func(context.Context, *kv.DB, *slog.Logger, *sight) error
}

var issued = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func numberedReceipt(i int, dry bool) receipt.Receipt {
	r := receipt.New(fmt.Sprintf("job-%d", i), "alice", "bob", uint64(i), issued)
	r.DryRun = dry
	return r
}

var keepers = []kept{
	{"receipts", putReceipts, lookAtReceipts},
	{"ledger", putTransfers, lookAtLedger},
	{"state", putState, lookAtState},
	{"courier", putBundles, lookAtBundles},
}

func putReceipts(ctx context.Context, db *kv.DB) error {
	s, err := receiptpebble.New((*pebbledb.DB)(db), nil)
	if err != nil {
		return err
	}
	_, err = s.Append(ctx, []receipt.Receipt{numberedReceipt(1, false), numberedReceipt(2, true), numberedReceipt(3, true)})
	_, perr := s.Append(ctx, []receipt.Receipt{numberedReceipt(2, false)})
	return errors.Join(err, perr, s.Close())
}

func lookAtReceipts(ctx context.Context, db *kv.DB, log *slog.Logger, see *sight) error {
	var found receipttest.Counter
	s, err := receiptpebble.New((*pebbledb.DB)(db), &receiptpebble.Options{Logger: log, Metrics: &found})
	if err != nil {
		return err
	}
	defer s.Close()
	for rec, err := range s.After(ctx, 0) {
		see.add(fmt.Sprint("After ", rec.Seq), rec, err)
	}
	for i := range 8 {
		rec, err := s.Get(ctx, numberedReceipt(i, false).Key)
		if !errors.Is(err, receipt.ErrNotFound) {
			see.add(fmt.Sprint("Get ", i), rec, err)
		}
	}
	see.found += found.N()
	return nil
}

func putTransfers(ctx context.Context, db *kv.DB) error {
	l, err := settlementpebble.NewLedger((*pebbledb.DB)(db), nil)
	if err != nil {
		return err
	}
	_, err = l.Post(ctx, settlement.Lease{}, []settlement.Transfer{
		{ID: settlement.ID{1}, From: "issuer", To: "alice", Amount: 8, Tag: "welcome"},
		{ID: settlement.ID{2}, From: "alice", To: "bob", Amount: 1, Tag: "settle:" + settlement.ID{2}.String()},
	})

	return errors.Join(err, l.Close())
}

func lookAtLedger(ctx context.Context, db *kv.DB, log *slog.Logger, see *sight) error {
	l, err := settlementpebble.NewLedger((*pebbledb.DB)(db), &settlementpebble.LedgerOptions{Logger: log})
	if err != nil {
		return err
	}
	defer l.Close()
	for _, name := range []string{"issuer", "alice", "bob"} {
		b, err := l.Balance(ctx, name)
		see.add("balance of "+name, b, err)
	}
	ids := []settlement.ID{{1}, {2}}
	for i := range 8 {
		ids = append(ids, settlement.ID(numberedReceipt(i, false).Key))
	}
	for _, id := range ids {
		t, ok, err := l.Transfer(ctx, id)
		if ok || err != nil {
			see.add("transfer "+id.String(), t, err)
		}
	}
	for a, err := range l.Accounts(ctx) {
		if err != nil {
			see.found++ // an iteration may end there
			break
		}
		see.add("Accounts", a, nil)
	}
	return nil
}

func lookAtBundles(ctx context.Context, db *kv.DB, log *slog.Logger, see *sight) error {
	s, err := courierpebble.New((*pebbledb.DB)(db), &courierpebble.Options{Logger: log})
	if err != nil {
		return err
	}
	defer s.Close()
	for _, state := range []courier.State{courier.Pending, courier.Acknowledged, courier.Dead} {
		for r, err := range s.List(ctx, state, 0) {
			see.add(fmt.Sprint("List ", r.Seq), r, err)
		}
	}
	for i := range byte(6) {
		r, err := s.Get(ctx, courier.ID{i})
		if !errors.Is(err, courier.ErrNotFound) {
			see.add(fmt.Sprint("Get ", i), r, err)
		}
	}
	for i := range byte(3) {
		needed, err := s.Needs(ctx, courier.Hash{i})
		see.add(fmt.Sprint("Needs ", i), needed, err)
	}
	c, err := s.Count(ctx)
	see.add("Count", c.Pending+c.Acknowledged+c.Dead+c.Aside, err)
	see.found += int(c.Aside)
	return nil
}

func putBundles(ctx context.Context, db *kv.DB) error {
	s, err := courierpebble.New((*pebbledb.DB)(db), nil)
	if err != nil {
		return err
	}
	var moves []courier.Move
	for i, to := range []courier.State{courier.Pending, courier.Acknowledged, courier.Dead} {
		r, err := s.Append(ctx, courier.Receipt{
			ID: courier.ID{byte(i + 1)}, Bundle: courier.Hash{byte(i)}, Size: 5, Sender: "carol",
			SentAt: time.UnixMicro(1_000_000).UTC(), Carried: true,
		})
		if err != nil {
			return err
		}
		if to != courier.Pending {
			moves = append(moves, courier.Move{Receipt: r, To: to, At: issued, Cause: courier.Rejected, Reason: "no room"})
		}
	}
	_, err = s.Move(ctx, moves)
	return errors.Join(err, s.Close())
}

// Whichever bit of whatever record is flipped, somebody notices, and no answer
// is another one than before: it is the same, or says that it is damaged, or is
// missing from an iteration.
func TestEveryFlippedBitIsFound(t *testing.T) {
	ctx := t.Context()
	for _, k := range keepers {
		t.Run(k.name, func(t *testing.T) {
			db, err := kv.Open("db", &kv.Options{FS: vfs.NewMem(), MemTableBytes: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := k.put(ctx, db); err != nil {
				t.Fatal(err)
			}
			records := all(t, db)
			sound, err := lookWithLog(ctx, k, db)
			if err != nil || sound.found > 0 || len(sound.lines) == 0 {
				t.Fatalf("before any damage: %+v, %v", sound, err)
			}
			flips := 0
			for _, r := range records {
				for bit := range 8 * len(r.Value) {
					restore(t, db, records, r.Key, bit)
					see, err := lookWithLog(ctx, k, db)
					flips++
					if err != nil {
						continue // refused at opening
					}
					if see.found == 0 {
						t.Errorf("record %q, bit %d: nobody notices", r.Key, bit)
					}
					for _, line := range see.lines {
						if !slices.Contains(sound.lines, line) && !strings.HasSuffix(line, ": damaged") {
							t.Errorf("record %q, bit %d: %s", r.Key, bit, line)
						}
					}
				}
			}
			t.Logf("%d bits of %d records", flips, len(records))
		})
	}
}

func lookWithLog(ctx context.Context, k kept, db *kv.DB) (*sight, error) {
	var log strings.Builder
	see := new(sight)
	err := k.look(ctx, db, slog.New(slog.NewTextHandler(&log, nil)), see)
	see.found += strings.Count(log.String(), "\n")
	return see, err
}

// all returns what is in the database.
func all(t *testing.T, db *kv.DB) (records []kv.Pair) {
	t.Helper()
	for p, err := range db.Scan([]byte{0}, []byte{0xff}) {
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, kv.Pair{Key: bytes.Clone(p.Key), Value: bytes.Clone(p.Value)})
	}
	return records
}

// restore makes the database hold the records, with a bit flipped in the value
// of one.
func restore(t *testing.T, db *kv.DB, records []kv.Pair, key []byte, bit int) {
	t.Helper()
	b := db.Batch()
	for p, err := range db.Scan([]byte{0}, []byte{0xff}) {
		if err != nil {
			t.Fatal(err)
		}
		b.Delete(p.Key, nil)
	}
	for _, r := range records {
		v := r.Value
		if bytes.Equal(r.Key, key) {
			v = bytes.Clone(v)
			v[bit/8] ^= 1 << (bit % 8)
		}
		b.Set(r.Key, v, nil)
	}
	if err := db.Commit(b); err != nil {
		t.Fatal(err)
	}
}

// What the first release wrote opens, and says what it said.
func TestOldData(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/schema1")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"After 1: {1 {1 job-1 alice bob 1 ", "After 3: ", "After 4: ", "After 5: ", "After 6: ",
		"Get 1: ", "Get 2: {5 ", "Get 3: {3 ", "Get 4: ", "Get 5: ", "Get 6: damaged",
		"balance of issuer: 7", "balance of alice: 0", "balance of bob: 7",
		"Accounts: {alice 0", "Accounts: {bob 7",
		"state: dry_run 7 3 2", "failure 6: insufficient_funds", "failure 7: insufficient_funds",
		"List 3: ", "List 1: ", "List 2: ", "Get 1: ", "Get 2: ", "Get 3: ", "Get 4: damaged",
		"Needs 0: true", "Needs 1: false", "Count: 4",
	}
	for open := range 2 {
		db, err := kv.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, k := range keepers {
			see, err := lookWithLog(ctx, k, db)
			if err != nil {
				t.Fatalf("opened %d times, %s: %v", open+1, k.name, err)
			}
			lines = append(lines, see.lines...)
		}
		for _, w := range want {
			if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, w) }) {
				t.Errorf("opened %d times: %q is missing from\n%s", open+1, w, strings.Join(lines, "\n"))
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
