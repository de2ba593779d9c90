package admission

import (
	"hash/maphash"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// Invariant: a tenant that owes is never forgotten. A record is given to another
// tenant only when its debt is worked off and it waits for no turn, so that it
// equals a fresh one. Tenants that find no record share their set's last one, and
// whoever moves out of it takes its debt along.

// tenants is a fixed table of buyers or of providers, each with a bucket that
// runs at the tenant's share of capacity. A tenant is known by a keyed 64-bit
// hash of its id; the id is not kept.
//
// A share is 1/n of capacity while n tenants are active, and at most the cap.
// So the shares of all sum to at most the capacity, and what lies within a share
// can be kept free for it.
type tenants struct {
	seed   maphash.Seed
	sets   []set
	floor  float64 // 1/cap
	burst  int64   // how far ahead of its share a tenant may run
	debt   int64   // no single job costs a tenant more
	period int64   // of turns
	active atomic.Int64

	// Counting of active tenants, by epochs of one burst. active is the larger
	// of what the last epoch saw and what this one has seen.
	current atomic.Int64
	epoch   atomic.Uint32
}

const ways = 4

// set is two cache lines.
type set struct {
	own    [ways]record
	shared record // key 0
	mu     sync.Mutex
}

type record struct {
	key  atomic.Uint64
	tat  atomic.Int64
	seen atomic.Uint32 // epoch in which it was last charged
	turn atomic.Uint32 // period in which it may trickle, 0 for none
}

// moving stands in tat while a record changes hands.
const moving = math.MinInt64

// claim is what a tenant was charged for one job.
type claim struct {
	r    *record
	key  uint64 // of r at that time
	cost int64
}

func (t *tenants) init(o *Options) {
	n := 1
	for n*ways < o.Tenants {
		n *= 2
	}
	t.seed = maphash.MakeSeed()
	t.sets = make([]set, n)
	t.floor = 1 / o.TenantShare
	t.burst = int64(o.Burst) / 2
	t.debt = int64(o.Burst) * 100
	t.period = int64(o.TricklePeriod)
	t.active.Store(1)
}

// pass is called once per tick, by one goroutine at a time.
func (t *tenants) pass(now int64) {
	e := uint32(now / t.burst)
	old := t.epoch.Load()
	if e == old {
		return
	}
	n := t.current.Swap(0)
	if e != old+1 {
		n = 0 // nobody came for a whole epoch
	}
	t.active.Store(max(n, 1))
	t.epoch.Store(e)
}

// key hashes an id. 0 is kept for the shared records.
func (t *tenants) key(id string) uint64 {
	return max(maphash.String(t.seed, id), 1)
}

// find returns the record of key at now.
func (t *tenants) find(key uint64, now int64) *record {
	s := &t.sets[key&uint64(len(t.sets)-1)]
	for i := range s.own {
		if s.own[i].key.Load() == key {
			return &s.own[i]
		}
	}
	return s.admit(key, now, uint32(now/t.period))
}

// admit finds a record for a tenant that has none; period is the present one.
func (s *set) admit(key uint64, now int64, period uint32) *record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var free *record
	var lowest int64
	for i := range s.own {
		r := &s.own[i]
		k, t := r.key.Load(), r.tat.Load()
		if k == key {
			return r
		}
		if (k == 0 || t < now && r.turn.Load() < period) && (free == nil || t < lowest) {
			free, lowest = r, t
		}
	}
	if free == nil || !free.tat.CompareAndSwap(lowest, moving) {
		return &s.shared // full, or charged this very moment
	}
	free.key.Store(key)
	free.turn.Store(0)
	free.seen.Store(0)
	// Never the old value: who still holds it must fail its compare-and-swap.
	free.tat.Store(max(lowest+1, s.shared.tat.Load()))
	return free
}

// scale turns a cost on the whole capacity into one on a tenant's share of it.
func (t *tenants) scale(cost int64) int64 {
	return int64(min(float64(cost)*max(t.floor, float64(t.active.Load())), float64(t.debt)))
}

// take charges cost to the tenant with the given key if that lies within its
// share: at most a burst ahead, or one job of any size when it owes nothing.
// Otherwise the claim costs nothing, and wait is how long until it would lie
// within.
func (t *tenants) take(key uint64, now, cost int64) (c claim, wait int64) {
	for {
		r := t.find(key, now)
		// The key is read after tat: then the swap below succeeds only if the
		// record was not given away in between.
		tat := r.tat.Load()
		if tat == moving {
			runtime.Gosched()
			continue
		}
		k := r.key.Load()
		if k != key && k != 0 {
			continue
		}
		ahead := max(tat-now, 0)
		if ahead > 0 && ahead+cost > t.burst {
			if cost <= t.burst {
				ahead += cost - t.burst
			}
			return claim{r, k, 0}, ahead
		}
		if !r.tat.CompareAndSwap(tat, now+ahead+cost) {
			continue
		}
		return claim{r, k, cost}, 0
	}
}

// give returns cost of what c was charged.
func (c *claim) give(cost int64) {
	for cost > 0 {
		tat := c.r.tat.Load()
		if tat == moving || c.r.key.Load() != c.key {
			return // it owed nothing, or it would still be there
		}
		if c.r.tat.CompareAndSwap(tat, tat-cost) {
			return
		}
	}
}

// idle reports whether the tenant behind c was not admitted in this epoch or the
// last.
func (t *tenants) idle(c *claim) bool { return t.epoch.Load()-c.r.seen.Load() > 1 }

// count notes that the tenant behind c was admitted: only who gets work is
// active, so that no flood of refused ids makes the shares small.
func (t *tenants) count(c *claim) {
	e := t.epoch.Load()
	if c.r.seen.Load() == e || c.r.seen.Swap(e) == e {
		return
	}
	n := min(t.current.Add(1), int64(len(t.sets)*ways))
	for {
		a := t.active.Load()
		if n <= a || t.active.CompareAndSwap(a, n) {
			return
		}
	}
}
