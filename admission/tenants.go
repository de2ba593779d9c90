package admission

import (
	"math/bits"
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
	// factor is 1/share with factorBits after the point. It alone is read without
	// the lock.
	factor atomic.Uint64

	records []record // sets of ways+1, the last of each shared
	mask    uint32   // of a key, gives where its set begins
	debt    uint64   // no single job costs a tenant more
	burst   int64    // how far ahead of its share a tenant may run
	floor   float64  // 1/cap
	period  int64    // of turns

	// Counting of active tenants, by epochs of one burst. active is the larger
	// of what the last epoch saw and what this one has seen.
	active  int64
	current int64
	epoch   uint32
}

const (
	ways       = 3
	factorBits = 32
)

// record is half a cache line; a set is two lines. The key of a shared record is 0.
type record struct {
	key  uint64
	tat  int64
	seen uint32 // epoch in which it was last charged
	turn uint32 // period in which it may trickle, 0 for none
	_    [8]byte
}

func (t *tenants) init(o *Options) {
	n := 1
	for n*ways < o.Tenants {
		n *= 2
	}
	t.records = make([]record, n*(ways+1))
	t.mask = uint32(len(t.records) - (ways + 1))
	t.floor = min(1/o.TenantShare, 1<<(63-factorBits))
	t.burst = int64(o.Burst) / 2
	t.debt = uint64(o.Burst) * 100
	t.period = int64(o.TricklePeriod)
	t.setActive(1)
}

// pass is called once per tick.
func (t *tenants) pass(now int64) {
	e := uint32(now / t.burst)
	if e == t.epoch {
		return
	}
	n := t.current
	if e != t.epoch+1 {
		n = 0 // nobody came for a whole epoch
	}
	t.setActive(max(n, 1))
	t.current, t.epoch = 0, e
}

func (t *tenants) setActive(n int64) {
	t.active = n
	t.factor.Store(uint64(max(t.floor, float64(n)) * (1 << factorBits)))
}

// find returns where the record of a tenant stands. No tenant's key is 0.
func (t *tenants) find(key uint64, now int64) uint32 {
	set := uint32(key) & t.mask
	for i := set; i < set+ways; i++ {
		if t.records[i].key == key {
			return i
		}
	}
	return t.admit(set, key, now)
}

// home returns the most likely place of find, and whether it is the one.
func (t *tenants) home(key uint64) (at uint32, ok bool) {
	at = uint32(key) & t.mask
	return at, t.records[at].key == key
}

// admit finds a record in the set for a tenant that has none.
func (t *tenants) admit(set uint32, key uint64, now int64) uint32 {
	period := uint32(now / t.period)
	shared := set + ways
	free := shared
	for i := set; i < shared; i++ {
		r := &t.records[i]
		if (r.key == 0 || r.tat < now && r.turn < period) && (free == shared || r.tat < t.records[free].tat) {
			free = i
		}
	}
	if free != shared {
		t.records[free] = record{key: key, tat: t.records[shared].tat}
	}
	return free
}

// scale turns a cost on the whole capacity into one on a tenant's share of it.
func (t *tenants) scale(cost int64) int64 {
	hi, lo := bits.Mul64(uint64(cost), t.factor.Load())
	if hi >= 1<<(factorBits-1) {
		return int64(t.debt)
	}
	return int64(min(hi<<(64-factorBits)|lo>>factorBits, t.debt))
}

// within reports whether cost lies within the share of r's tenant: at most a burst
// ahead, or one job of any size when it owes nothing.
func (t *tenants) within(r *record, now, cost int64) bool {
	return r.tat <= now || r.tat-now+cost <= t.burst
}

// wait returns how long until a cost that is not within the share would be.
func (t *tenants) wait(r *record, now, cost int64) int64 {
	return r.tat - now + min(cost-t.burst, 0)
}

// charge takes cost, and returns the claim to be given back.
func (t *tenants) charge(at uint32, now, cost int64) claim {
	r := &t.records[at]
	r.tat = max(r.tat, now) + cost
	return claim{cost, at, uint32(r.key >> 32)}
}

// claim is what a tenant was charged for one job.
type claim struct {
	cost int64
	at   uint32 // its record
	key  uint32 // upper half of the record's key at that time
}

// give returns cost of what c was charged. If c's record is no longer its
// tenant's, the tenant owed nothing when it left, and so nothing comes back.
func (t *tenants) give(c claim, cost int64) {
	if r := &t.records[c.at]; uint32(r.key>>32) == c.key {
		r.tat -= cost
	}
}

// idle reports whether the tenant was not admitted in this epoch or the last.
func (t *tenants) idle(r *record) bool { return t.epoch-r.seen > 1 }

// count notes that the tenant was admitted: only who gets work is active, so that
// no flood of refused ids makes the shares small.
func (t *tenants) count(at uint32) {
	if r := &t.records[at]; r.seen != t.epoch {
		t.countNew(r)
	}
}

func (t *tenants) countNew(r *record) {
	r.seen = t.epoch
	t.current = min(t.current+1, int64(len(t.records)))
	if t.current > t.active {
		t.setActive(t.current)
	}
}
