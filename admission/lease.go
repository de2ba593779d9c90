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
	end      int64
	duration int64
	shards   int64
	place    place
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

// claim enters l, looking from a place that seed chooses; seeds of leases that
// live at the same time should differ. It reports false if all places it looked
// at are taken.
func (s slots) claim(l *Lease, now int64, seed uint64) bool {
	tick, end := uint64(now>>tickBits), uint64(l.end>>tickBits+1)<<generationBits
	at := seed * 0x9e3779b97f4a7c15 >> 32
	for i := range uint64(probes) {
		slot := (at + i) & uint64(len(s)-1)
		old := s[slot].Load()
		if old>>generationBits > tick {
			continue
		}
		word := end | (old+1)&generationMask
		if s[slot].CompareAndSwap(old, word) {
			l.slot, l.word = uint32(slot), word
			return true
		}
	}
	return false
}

// release takes l out, and reports whether it was there.
func (s slots) release(l *Lease) bool {
	return l.word != 0 && uint64(l.slot) < uint64(len(s)) &&
		s[l.slot].CompareAndSwap(l.word, l.word&generationMask)
}
