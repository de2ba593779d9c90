package admission

import (
	"math/bits"
	"sync/atomic"
)

// Invariant: as long as there are no more of them than Options.Tenants, each
// tenant has a record, and one of its own. Beyond that, a record goes to another
// tenant only when it is in no use: nothing is owed, no turn is waited for, and
// nothing was admitted in this epoch or the last, so that it equals a fresh one
// and nobody is counted twice.

// tenants is a table of buyers or of providers, each with a bucket that runs at
// the tenant's share of capacity. A tenant is known by a keyed 64-bit hash of its
// id; the id is not kept.
//
// A share is 1/n of capacity while n tenants are active, and at most the cap.
// So the shares of all sum to at most the capacity, and what lies within a share
// can be kept free for it.
type tenants struct {
	// factor is 1/share with factorBits after the point. It alone is read without
	// the lock.
	factor atomic.Uint64

	records []record // a hash table with linear probing, and then the stranger's
	mask    uint32   // of a key, gives where its record is looked for first
	n       int      // tenants that have a record
	limit   int      // how many may, at most half the table
	hand    uint32   // where forget goes on
	waiting int64    // turns before this one are over

	debt  uint64  // no single job costs a tenant more
	burst int64   // how far ahead of its share a tenant may run
	floor float64 // 1/cap

	// Counting of active tenants, by epochs of a burst. active is the larger of
	// what the last epoch saw and what this one has seen.
	active  int64
	current int64
	epoch   int64
	length  int64 // of an epoch, in whole ticks, so that it begins with one
	ends    int64 // when this one does
}

const (
	factorBits = 32
	looks      = 16      // at so many records, for one that is in no use
	beyond     = 1 << 62 // further ahead than any time: a stranger has no share
)

// record is half a cache line.
type record struct {
	key  uint64 // 0 for nobody
	tat  int64  // when all work charged to the tenant would be done, on its share
	seen int64  // epoch in which the tenant was last admitted
	turn int64  // its place in the queue of turns
}

func (t *tenants) init(o *Options) {
	size := 2
	for size < 2*o.Tenants {
		size *= 2
	}
	t.records = make([]record, size+1)
	t.records[size].tat = beyond
	t.mask, t.limit = uint32(size-1), o.Tenants
	t.floor = min(1/o.TenantShare, 1<<(63-factorBits))
	t.burst = int64(o.Burst) / 2
	t.debt = uint64(o.Burst) * 100
	t.length = max(t.burst>>tickBits, 1) << tickBits
	t.setActive(1)
}

// pass is called once per tick.
func (t *tenants) pass(now int64) {
	if now < t.ends {
		return
	}
	n := t.activeAt(now)
	t.current, t.epoch = 0, now/t.length
	t.ends = (t.epoch + 1) * t.length
	t.setActive(n)
	t.records[len(t.records)-1].seen = t.epoch // strangers are not counted
}

// activeAt returns how many tenants will be active if nobody is admitted until
// then.
func (t *tenants) activeAt(now int64) int64 {
	switch {
	case now < t.ends:
		return t.active
	case now < t.ends+t.length:
		return max(t.current, 1)
	}
	return 1
}

// factorAt returns the factor of that time.
func (t *tenants) factorAt(now int64) uint64 {
	if now < t.ends {
		return t.factor.Load()
	}
	return t.factorOf(t.activeAt(now))
}

func (t *tenants) setActive(n int64) {
	t.active = n
	t.factor.Store(t.factorOf(n))
}

func (t *tenants) factorOf(n int64) uint64 {
	return uint64(max(t.floor, float64(n)) * (1 << factorBits))
}

// home returns the record that is most likely the tenant's.
func (t *tenants) home(key uint64) *record { return &t.records[uint32(key)&t.mask] }

// lookup returns where the record of a tenant stands, or where it would.
func (t *tenants) lookup(key uint64) (at uint32, ok bool) {
	at = uint32(key) & t.mask
	for t.records[at].key != key {
		if t.records[at].key == 0 {
			return at, false
		}
		at = (at + 1) & t.mask
	}
	return at, true
}

// find returns the record of a tenant. One that has none gets one, or the
// stranger's if there is none to be had.
func (t *tenants) find(key uint64, now int64) *record {
	at, ok := t.lookup(key)
	if ok {
		return &t.records[at]
	}
	if t.n >= t.limit {
		if !t.forget(now) {
			return &t.records[len(t.records)-1]
		}
		at, _ = t.lookup(key) // others have moved up
	}
	t.records[at] = record{key: key}
	t.n++
	return &t.records[at]
}

// forget takes away a record that is in no use, and reports whether it found one.
// It looks on from where it last stopped, so that of all records each is looked
// at in turn.
func (t *tenants) forget(now int64) bool {
	for range looks {
		at := t.hand & t.mask
		t.hand++
		if r := &t.records[at]; r.key != 0 && !t.inUse(r, now) {
			t.remove(at)
			return true
		}
	}
	return false
}

func (t *tenants) inUse(r *record, now int64) bool {
	return r.tat > now || r.turn >= t.waiting && r.turn > 0 || t.epoch-r.seen <= 1
}

// remove takes a record away and moves up those that it kept from their places.
func (t *tenants) remove(at uint32) {
	for next := (at + 1) & t.mask; t.records[next].key != 0; next = (next + 1) & t.mask {
		if home := uint32(t.records[next].key) & t.mask; (next-home)&t.mask >= (next-at)&t.mask {
			t.records[at] = t.records[next]
			at = next
		}
	}
	t.records[at] = record{}
	t.n--
}

// scale turns a cost on the whole capacity into one on a tenant's share of it.
func (t *tenants) scale(cost int64) int64 { return t.scaleBy(cost, t.factor.Load()) }

func (t *tenants) scaleBy(cost int64, factor uint64) int64 {
	hi, lo := bits.Mul64(uint64(cost), factor)
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

// withinAt returns from when on cost lies within the share of r's tenant.
func (t *tenants) withinAt(r *record, cost int64) int64 { return r.tat + min(cost-t.burst, 0) }

// charge takes cost, and returns the claim to be given back.
func (r *record) charge(now, cost int64) claim {
	r.tat = max(r.tat, now) + cost
	return claim{cost, r.key}
}

// claim is what a tenant was charged for one job.
type claim struct {
	cost int64
	key  uint64
}

// give returns the unused part of what c was charged.
func (t *tenants) give(c claim, unused float64) {
	cost := int64(float64(c.cost) * unused)
	if r := t.home(c.key); r.key == c.key {
		r.tat -= cost
	} else {
		t.giveAway(c.key, cost)
	}
}

// giveAway is give to a tenant whose record does not stand where most do. Who has
// none any more owed nothing when it lost it, and nothing comes back.
//
//go:noinline
func (t *tenants) giveAway(key uint64, cost int64) {
	if at, ok := t.lookup(key); ok {
		t.records[at].tat -= cost
	}
}

// idle reports whether the tenant was not admitted in this epoch or the last.
func (t *tenants) idle(r *record) bool { return t.epoch-r.seen > 1 }

// count notes that the tenant was admitted: only who gets work is active, so that
// no flood of refused ids makes the shares small.
func (t *tenants) count(r *record) {
	if r.seen != t.epoch {
		t.countNew(r)
	}
}

func (t *tenants) countNew(r *record) {
	r.seen = t.epoch
	t.current++
	if t.current > t.active {
		t.setActive(t.current)
	}
}
