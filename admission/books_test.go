package admission

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestBooksConserve lets many ask and release while time runs under them. What is
// admitted and not given back is at most capacity times time plus burst, and in
// the end nothing is held.
func TestBooksConserve(t *testing.T) {
	const capacity, burst = 1000, 100 * time.Millisecond
	rounds := 200_000
	if testing.Short() {
		rounds = 20_000
	}
	c := open(t, capacity, Options{CapacityAge: MaxDuration, Burst: burst})
	var clock, work, admitted, given atomic.Int64
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(w)))
			<-begin
			for range rounds {
				at := clock.Add(1000)
				now := start.Add(time.Duration(at))
				r := ask(fmt.Sprint("b", rng.IntN(9)), fmt.Sprint("p", rng.IntN(3)),
					1+rng.Uint64N(50), time.Duration(1+rng.Int64N(int64(20*time.Millisecond))))
				d := c.DecideAt(r, now)
				if d.Code != Admitted {
					continue
				}
				admitted.Add(1)
				work.Add(int64(r.Shards) * int64(r.Duration))
				if rng.IntN(3) == 0 && c.ReleaseAt(d.Lease, now) {
					given.Add(1)
					work.Add(-int64(r.Shards) * int64(r.Duration))
				}
			}
		})
	}
	close(begin)
	wg.Wait()
	elapsed := time.Duration(clock.Load())
	most := capacity * int64(elapsed+burst)
	t.Logf("%d admitted, %d given back, %.0f %% of capacity times time plus burst", admitted.Load(), given.Load(), 100*float64(work.Load())/float64(most))
	if work.Load() > most || work.Load() < most/4 || given.Load() == 0 {
		t.Errorf("%d of %d admitted", work.Load(), most)
	}
	if s := c.StatusAt(start.Add(elapsed + time.Second)); s.Leased != 0 || s.IndustrialAdmitted != uint64(admitted.Load()) {
		t.Errorf("%+v, %d were admitted", s, admitted.Load())
	}
}

// TestRefusalLeavesNothing compares the books before and after each refusal that
// looks into them.
func TestRefusalLeavesNothing(t *testing.T) {
	c := open(t, 100, Options{CapacityAge: MaxDuration, Burst: 10 * time.Second, Tenants: 64})
	seen := map[Code]bool{}
	rng := rand.New(rand.NewPCG(8, 9))
	for i := range 10_000 {
		now := start.Add(time.Duration(i) * 2 * time.Millisecond)
		r := ask(fmt.Sprint("b", rng.IntN(4)), fmt.Sprint("p", rng.IntN(3)), 1+rng.Uint64N(30), time.Duration(1+rng.Int64N(int64(2*time.Second))))
		b := &c.books
		c.StatusAt(now) // time passes before, not in the decision
		total, held, active := b.total, b.wheel.held, b.buyers.active
		debts := func() (sum int64) {
			for i := range b.buyers.records {
				sum += b.buyers.records[i].tat + b.providers.records[i].tat
			}
			return sum
		}
		before := debts()
		d := c.DecideAt(r, now)
		if d.Code == Admitted {
			if rng.IntN(2) == 0 {
				spend(c, d.Lease)
			}
			continue
		}
		seen[d.Code] = true
		if b.total != total || b.wheel.held != held || b.buyers.active != active || d.Lease != (Lease{}) || debts() != before {
			t.Fatalf("%v left something behind", d.Code)
		}
	}
	for _, code := range []Code{Capacity, BuyerShare, ProviderShare} {
		if !seen[code] {
			t.Errorf("never met %v: %v", code, seen)
		}
	}
}

// TestLateIntoTheBooks enters a job whose clock was read before, but which comes
// after, the books have gone on: its end must lie in a cell yet to be swept.
func TestLateIntoTheBooks(t *testing.T) {
	var b books
	o, _ := (&Options{}).withDefaults()
	b.init(o)
	now := int64(origin)
	b.enter(now + int64(time.Second))
	_, _, _ = b.consumer(&job{shards: 5, length: int64(time.Millisecond), cost: 1}, now)
	b.enter(now + int64(time.Second+10*time.Millisecond))
	if b.held() != 0 {
		t.Errorf("%d shards still held", b.held())
	}
}

// TestHash shows that short, long and similar ids differ, and that another
// controller hashes in another way.
func TestHash(t *testing.T) {
	h, other := newHasher(), newHasher()
	seen := map[uint64]string{}
	add := func(id string) {
		if old, ok := seen[h.sum(id)]; ok {
			t.Fatalf("%q and %q collide", old, id)
		}
		seen[h.sum(id)] = id
		if h.sum(id) == other.sum(id) {
			t.Fatalf("%q hashes alike under two keys", id)
		}
	}
	long := make([]byte, 40)
	for n := 1; n <= len(long); n++ {
		add(string(long[:n]))
		for i := range n {
			for bit := range 8 {
				long[i] ^= 1 << bit
				add(string(long[:n]))
				long[i] ^= 1 << bit
			}
		}
	}
	sets := make([]int, 1024)
	for i := range 1 << 18 {
		id := fmt.Sprintf("tenant-%07d", i)
		add(id)
		sets[h.sum(id)%1024]++
	}
	for i, n := range sets { // 256 each, 16 is one standard deviation
		if n < 256-112 || n > 256+112 {
			t.Errorf("%d of %d ids in set %d", n, 1<<18, i)
		}
	}
}
