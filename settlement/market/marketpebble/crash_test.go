package marketpebble_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/internal/crashtest"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/market"
	"github.com/computemarket/computemarket/settlement/market/marketmem"
	"github.com/computemarket/computemarket/settlement/market/markettest"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

var crashPoints = flag.Int("crashpoints", 3000, "points at which TestCrash crashes")

const steps = 20

// batchAt is the batch of step i: a new order of two slices, the outcome of a
// slice of the one before with its receipt, an assignment in and one out.
func batchAt(seed uint64, i int) *market.Batch {
	rng := rand.New(rand.NewPCG(seed, uint64(i)))
	at := time.Unix(int64(i), 0).UTC()
	data := bytes.Repeat([]byte{byte(i)}, 1+rng.IntN(3000))
	slice := market.Slice{Content: workload.Sum(data), Size: int64(len(data)), Inline: true}
	b := &market.Batch{
		Orders: []market.NewOrder{{
			Order: market.Order{
				Seq: uint64(i) + 1, ID: fmt.Sprintf("job-%d-%d", seed, i), Account: fmt.Sprint("buyer", i%3),
				Side: match.Bid, Class: "c", Lane: admission.Consumer, Units: 2, Price: 1, Kind: "k",
				Slices: []market.Slice{slice, slice}, At: at, Progress: market.Progress{State: market.Open},
			},
			Inline: [][]byte{data, data},
		}},
		Assign:   []market.Assignment{{ID: match.MatchID{1, byte(i)}, Bid: uint64(i) + 1, Ask: 1, Units: 1}},
		Unassign: []match.MatchID{{1, byte(i - 3)}},
	}
	if i > 0 {
		r := receipt.New(fmt.Sprintf("job-%d-%d/0|a|0+1", seed, i-1), "buyer", "provider", 1, at)
		b.Receipts = []receipt.Receipt{r}
		b.Updates = append(b.Updates, market.Update{Seq: uint64(i), Progress: market.Progress{
			State: market.Open, Filled: 1, Outcomes: []market.Outcome{{Slice: 0, State: market.Done, Receipt: r.Key}},
		}})
	}
	if i > 1 {
		b.Updates = append(b.Updates, market.Update{Seq: uint64(i) - 1, Progress: market.Progress{
			State: market.Failed, Filled: 1, Reason: "r", Ended: at, Outcomes: []market.Outcome{{Slice: 1, State: market.Failed, Reason: "r"}},
		}})
	}
	return b
}

// look tells all that a place shows.
func look(ctx context.Context, p markettest.Place) (string, error) {
	var b bytes.Buffer
	for o, err := range p.Store.Orders(ctx, market.Filter{}) {
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%+v\n", o)
		for i := range o.Slices {
			data, err := p.Store.Content(ctx, o.Seq, i)
			fmt.Fprintln(&b, workload.Sum(data), err)
		}
	}
	for _, f := range []market.Filter{{State: market.Open}, {Account: "buyer1"}} {
		for o, err := range p.Store.Orders(ctx, f) {
			fmt.Fprintln(&b, o.Seq, err)
		}
	}
	var list []string
	for a, err := range p.Store.Assignments(ctx) {
		list = append(list, fmt.Sprintf("%+v %v", a, err))
	}
	slices.Sort(list)
	fmt.Fprintln(&b, list)
	for rec, err := range p.Log.After(ctx, 0) {
		fmt.Fprintln(&b, rec.JobID, err)
	}
	return b.String(), nil
}

func write(ctx context.Context, p markettest.Place, seed uint64, first int, ack func()) error {
	lease, err := p.Store.Acquire(ctx)
	if err != nil {
		return err
	}
	for i := first; i < steps; i++ {
		w, err := p.Store.Write(ctx, lease, batchAt(seed, i))
		if err != nil {
			return err
		}
		if w.Existing != nil {
			return fmt.Errorf("step %d: its order is there", i)
		}
		ack()
	}
	return nil
}

func work(disk vfs.FS, seed uint64, ack func()) error {
	p, err := openOn(disk, "db")
	if err != nil {
		return err
	}
	return errors.Join(write(context.Background(), p, seed, 0, ack), p.Close())
}

// models has what a place shows after 0, 1, … steps.
func models(seed uint64) (shown []string, err error) {
	ctx := context.Background()
	log := new(receipttest.Mem)
	s, err := marketmem.New(log)
	if err != nil {
		return nil, err
	}
	p := markettest.Place{Store: s, Log: log}
	note := func() {
		text, lerr := look(ctx, p)
		shown, err = append(shown, text), errors.Join(err, lerr)
	}
	note()
	return shown, errors.Join(write(ctx, p, seed, 0, note), err)
}

func check(disk vfs.FS, seed uint64, acked int) error {
	ctx := context.Background()
	shown, err := models(seed)
	if err != nil {
		return err
	}
	p, err := openOn(disk, "db")
	if err != nil {
		return err
	}
	defer p.Close()
	got, err := look(ctx, p)
	if err != nil {
		return err
	}
	n := slices.Index(shown, got)
	if n < acked {
		return fmt.Errorf("it shows the state after %d steps, %d were acknowledged:\n%s", n, acked, got)
	}
	// The step that may or may not have happened comes again, and all after it.
	if err := write(ctx, p, seed, max(0, n-1), func() {}); err != nil {
		return err
	}
	if got, err := look(ctx, p); err != nil || got != shown[steps] {
		return fmt.Errorf("going on, it shows %s, %w, want %s", got, err, shown[steps])
	}
	return nil
}

func TestCrash(t *testing.T) { crashtest.Crash(t, *crashPoints, work, check) }

func TestFail(t *testing.T) {
	for _, f := range crashtest.Faults {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			crashtest.Fail(t, f, 17, work, check)
		})
	}
}

// The crash test sees a store that writes the receipts apart.
func TestCrashCatches(t *testing.T) {
	apart := func(disk vfs.FS, seed uint64, ack func()) error {
		p, err := openOn(disk, "db")
		if err != nil {
			return err
		}
		p.Store = writesApart{p.Store, p.Log}
		return errors.Join(write(context.Background(), p, seed, 0, ack), p.Close())
	}
	if n, err := crashtest.FindCrash(2000, apart, check); err == nil {
		t.Errorf("not found in %d crashes", n)
	}
	unsynced := func(disk vfs.FS, seed uint64, ack func()) error { return work(crashtest.NoSync(disk), seed, ack) }
	if n, err := crashtest.FindCrash(2000, unsynced, check); err == nil {
		t.Errorf("a disk without fsync was not found in %d crashes", n)
	}
}

type writesApart struct {
	market.Store
	log receipt.Store
}

func (s writesApart) Write(ctx context.Context, lease settlement.Lease, b *market.Batch) (market.Written, error) {
	receipts := b.Receipts
	rest := *b
	rest.Receipts = nil
	if len(receipts) > 0 {
		if _, err := s.log.Append(ctx, receipts); err != nil {
			return market.Written{}, err
		}
	}
	return s.Store.Write(ctx, lease, &rest)
}
