package admission

import "sync/atomic"

// Invariant: of all releases of one lease, however many at once, at most one
// finds it. A lease past its deadline is found by none.

// Lease is what an admitted job holds: its shards until now+duration, and its
// claims on the shares it was charged to. It is a value; copies are the same
// lease. The zero Lease holds nothing.
type Lease struct {
	lane     Lane
	slot     uint32
	word     uint64 // what stands in the slot; 0 for no lease
	start    int64
	end      int64
	shards   int64
	total    int64 // charged to all together
	buyer    claim
	provider claim
}

// slots is the fixed table that makes a lease good once. A word is the deadline's
// tick and a generation; a word whose deadline has passed is free, so that lost
// leases need no sweeping.
type slots []atomic.Uint64

const (
	generationBits = 22
	generationMask = 1<<generationBits - 1
	probes         = 16
)

func newSlots(n int) slots {
	size := probes
	for size < n {
		size *= 2
	}
	return make(slots, size)
}

// claim finds a place for a lease, looking from one that seed chooses; seeds of
// leases that live at the same time should differ. ok is false if all places it
// looked at are taken.
func (s slots) claim(now, end int64, seed uint64) (slot uint32, word uint64, ok bool) {
	tick, until := uint64(now>>tickBits), uint64(end>>tickBits+1)<<generationBits
	at := seed * 0x9e3779b97f4a7c15 >> 32
	for i := range uint64(probes) {
		place := &s[(at+i)&uint64(len(s)-1)]
		old := place.Load()
		if old>>generationBits > tick {
			continue
		}
		word := until | (old+1)&generationMask
		if place.CompareAndSwap(old, word) {
			return uint32((at + i) & uint64(len(s)-1)), word, true
		}
	}
	return 0, 0, false
}

// release takes l out, and reports whether it was there.
func (s slots) release(l *Lease) bool {
	return l.word != 0 && uint64(l.slot) < uint64(len(s)) &&
		s[l.slot].CompareAndSwap(l.word, l.word&generationMask)
}
