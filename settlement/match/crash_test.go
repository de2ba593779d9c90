package match

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

// crashingLog dies at its n-th append, before or after writing. From then on
// nothing of the process that used it reaches the disk; disk is what a restart
// finds.
type crashingLog struct {
	disk  *receipttest.Mem
	mu    sync.Mutex
	left  int  // appends until the crash
	write bool // the last one is written
	dead  chan struct{}
}

var errDead = errors.New("the process is dead")

func (l *crashingLog) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.left--; {
	case l.left > 0:
		return l.disk.Append(ctx, rs)
	case l.left == 0:
		if l.write {
			l.disk.Append(ctx, rs)
		}
		close(l.dead)
	}
	return nil, errDead
}

// TestCrash kills the process at append 1, 2, 3, … of the log, before and after
// writing, several times in a row, and starts again from the log and the orders
// that the callers kept, sent in any order. However it went: every unit is paid
// at most once, and in the end all that can match is paid.
func TestCrash(t *testing.T) {
	tapes := 20 * *sweep
	if testing.Short() {
		tapes = 3
	}
	points := 0
	for seed := range tapes {
		for every := 1; ; every++ {
			fired := false
			for _, write := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					fired = crash(t, uint64(seed), every, write) || fired
				})
				points++
				if t.Failed() {
					t.Fatalf("seed %d, append %d, written %v", seed, every, write)
				}
			}
			if !fired {
				break
			}
		}
	}
	t.Logf("%d crash points", points)
}

// crash runs a market with a crash at every so many appends, the first three
// times. It reports whether there was a crash.
func crash(t *testing.T, seed uint64, every int, write bool) (fired bool) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var orders []Order
	units := make(map[string]uint64)
	var sum [2]uint64
	for i := range 30 {
		o := Order{
			ID: fmt.Sprint("o", i), Lane: admission.Lanes[0], Side: Side(1 + i%2),
			Account: fmt.Sprint([2]string{"buyer", "provider"}[i%2], rng.IntN(4)), Units: 1 + rng.Uint64N(9),
		}
		o.Price = [2]uint64{20, 10}[i%2] + rng.Uint64N(5) // all cross
		orders = append(orders, o)
		units[o.ID] = o.Units
		sum[i%2] += o.Units
	}
	var disk receipttest.Mem
	for restart := 0; ; restart++ {
		// Callers come back in an order of their own, so whom an order would
		// meet this time is anybody's guess.
		rng.Shuffle(len(orders), func(i, j int) { orders[i], orders[j] = orders[j], orders[i] })
		left, err := Resume(t.Context(), &disk, 0, orders)
		if err != nil {
			t.Fatal(err)
		}
		b := newBook(t, nil)
		log := &crashingLog{disk: &disk, left: every, write: write, dead: make(chan struct{})}
		if restart == 3 {
			log.left = 1 << 30
		}
		failures := rng.Uint64()
		var mu sync.Mutex
		l, err := NewLoop(b, log, &LoopOptions{
			Batch: 3, Parallel: 4,
			Finalize: func(_ context.Context, m Match) error {
				mu.Lock()
				fail := failures&1 == 1
				failures >>= 1
				mu.Unlock()
				time.Sleep(time.Duration(m.Units) * time.Millisecond) // ends out of order
				if fail {
					return errors.New("no")
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		for _, o := range left {
			put(t, b, o)
		}
		crashed := false
		select {
		case <-log.dead:
			crashed, fired = true, true
		case <-time.After(time.Hour): // all that can be done is done
		}
		cancel() // what the dead process still does in memory is lost
		<-done
		if !crashed {
			break
		}
	}

	paid := make(map[string]uint64)
	next := make(map[string]uint64)
	var total uint64
	for r, err := range disk.After(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		j, ok := ParseJob(r.JobID)
		if !ok {
			t.Fatalf("job id %q", r.JobID)
		}
		if j.From != next[j.Bid] {
			t.Errorf("%q: the units of the bid before it end at %d", r.JobID, next[j.Bid])
		}
		next[j.Bid] = j.From + j.Units
		paid[j.Bid] += j.Units
		paid[j.Ask] += j.Units
		total += j.Units
	}
	for id, n := range paid {
		if n > units[id] {
			t.Errorf("order %q: %d units paid of %d", id, n, units[id])
		}
	}
	if want := min(sum[0], sum[1]); total != want {
		t.Errorf("%d units paid, want %d", total, want)
	}
	return fired
}

func TestResume(t *testing.T) {
	var log receipttest.Mem
	add := func(bid, ask string, from, units uint64, dry bool) {
		t.Helper()
		r := receipt.New(Job{bid, ask, from, units}.String(), "buyer", "provider", units, epoch)
		r.DryRun = dry
		if _, err := log.Append(t.Context(), []receipt.Receipt{r}); err != nil {
			t.Fatal(err)
		}
	}
	add("b1", "a1", 0, 3, true)
	add("b1", "a2", 3, 2, false)
	add("b1", "a1", 0, 3, false) // promoted: at a second place in the log, counted once
	add("b2", "a1", 0, 4, false)
	if _, err := log.Append(t.Context(), []receipt.Receipt{receipt.New("elsewhere", "x", "y", 1, epoch)}); err != nil {
		t.Fatal(err)
	}
	orders := []Order{
		{ID: "b1", Side: Bid, Units: 9}, {ID: "b2", Side: Bid, Units: 4}, {ID: "new", Side: Bid, Units: 1},
		{ID: "a1", Side: Ask, Units: 8}, {ID: "a2", Side: Ask, Units: 3}, {ID: "a1b", Side: Ask, Units: 1},
	}
	got, err := Resume(t.Context(), &log, 0, orders)
	if err != nil {
		t.Fatal(err)
	}
	var s string
	for _, o := range got {
		s += fmt.Sprintf("%s %d+%d, ", o.ID, o.Filled, o.Units)
	}
	if s != "b1 5+4, new 0+1, a1 7+1, a2 2+1, a1b 0+1, " {
		t.Error(s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Resume(ctx, &log, 0, orders); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestConcurrent lets everything happen at once, and then counts.
func TestConcurrent(t *testing.T) {
	b := newBook(t, nil)
	var log faultyLog
	var n int
	log.before = func(int) error {
		if n++; n%5 == 0 {
			return errDisk
		}
		return nil
	}
	log.after = func(int) error {
		if n%7 == 0 {
			return errDisk
		}
		return nil
	}
	var flips sync.Map
	l, err := NewLoop(b, &log, &LoopOptions{
		Parallel: 8, Batch: 16, ReturnAfter: time.Microsecond, RetryMin: time.Microsecond, RetryMax: time.Microsecond,
		Finalize: func(_ context.Context, m Match) error {
			if _, again := flips.LoadOrStore(m.Bid, true); !again {
				return errors.New("the first time always fails")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var loop, senders sync.WaitGroup
	loop.Go(func() { l.Run(ctx) })
	var mu sync.Mutex
	units := make(map[string]uint64)
	cancelled := make(map[string]bool)
	for g := range 4 {
		senders.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 5))
			for i := range 500 {
				o := Order{
					ID: fmt.Sprint(g, "-", i), Account: fmt.Sprint(rng.IntN(5)), Lane: admission.Lanes[rng.IntN(2)],
					Side: Side(1 + rng.IntN(2)), Units: 1 + rng.Uint64N(5), Price: 10 + rng.Uint64N(4),
				}
				if _, err := b.Submit(o, time.Now()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				units[o.ID] = o.Units
				mu.Unlock()
				if i%4 == 0 {
					id := fmt.Sprint(g, "-", rng.IntN(i+1))
					if _, err := b.Cancel(id); err == nil {
						mu.Lock()
						cancelled[id] = true
						mu.Unlock()
					}
				}
				b.Depth(nil, o.Lane, o.Side, 3)
				l.Stats(o.Lane)
			}
		})
	}
	senders.Wait()
	cancel()
	loop.Wait()
	// The log works again; what was left unknown is appended first.
	log.before, log.after = nil, nil
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	l.Run(ctx)
	b.verify(t)

	paid := make(map[string]uint64)
	for _, id := range jobs(t, &log) {
		j, ok := ParseJob(id)
		if !ok {
			t.Fatalf("job id %q", id)
		}
		paid[j.Bid] += j.Units
		paid[j.Ask] += j.Units
	}
	left := make(map[string]uint64)
	for _, r := range b.Snapshot() {
		if r.InFlight != 0 {
			t.Errorf("%q: %d in flight at the end", r.ID, r.InFlight)
		}
		left[r.ID] = r.Units
	}
	for id, n := range units {
		if got := paid[id] + left[id]; got > n || got < n && !cancelled[id] {
			t.Errorf("order %q of %d units: %d paid, %d left, cancelled %v", id, n, paid[id], left[id], cancelled[id])
		}
	}
}
