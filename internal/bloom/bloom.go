// Package bloom is a growing set of 32-byte keys that answers "certainly
// absent" or "perhaps present". It stands in front of a lookup that is slow
// when the key is absent.
//
// A filter is a chain of blocked Bloom filters (Putze, Sanders, Singler:
// Cache-, Hash- and Space-Efficient Bloom Filters, 2007) with 16 bits a key. A
// full chain grows by as much as it is, so a key takes two to four bytes of
// memory, of which the first 256 KiB are taken at once. Each full segment has
// about 0.1 % false positives.
package bloom

import (
	"hash/maphash"
	"math/bits"
)

const (
	firstKeys  = 1 << 17 // capacity of the first segment
	bitsPerKey = 16
	probes     = 7 // 9 bits each of a 64-bit word
)

// A block is one cache line: a lookup costs one miss for each segment.
type block [8]uint64

type segment struct {
	blocks []block
	room   int // keys that may still enter
}

// Filter is a set of keys. The zero Filter is empty and ready. It is not safe
// for concurrent use while a key is being added.
type Filter struct {
	seed     maphash.Seed // keys may be chosen by an adversary; their places may not
	segments []segment
	n        int
}

// Len returns how many times Add was called.
func (f *Filter) Len() int { return f.n }

// Add puts key into the set.
func (f *Filter) Add(key *[32]byte) {
	last := len(f.segments) - 1
	if last < 0 || f.segments[last].room == 0 {
		f.grow()
		last++
	}
	s := &f.segments[last]
	s.room--
	f.n++
	b, mask := s.place(maphash.Bytes(f.seed, key[:]))
	for i := range mask {
		b[i] |= mask[i]
	}
}

// Has reports whether key may be in the set. A false is certain.
func (f *Filter) Has(key *[32]byte) bool {
	if len(f.segments) == 0 {
		return false
	}
	h := maphash.Bytes(f.seed, key[:])
	for i := range f.segments {
		b, mask := f.segments[i].place(h)
		missing := uint64(0)
		for j := range mask {
			missing |= mask[j] &^ b[j]
		}
		if missing == 0 {
			return true
		}
	}
	return false
}

func (f *Filter) grow() {
	keys := firstKeys << max(0, len(f.segments)-1) // as much as there is: 1, 1, 2, 4 …
	if len(f.segments) == 0 {
		f.seed = maphash.MakeSeed()
	}
	f.segments = append(f.segments, segment{
		blocks: make([]block, keys*bitsPerKey/512),
		room:   keys,
	})
}

// place returns the block of a hash and the bits it sets there.
func (s *segment) place(h uint64) (*block, block) {
	i, _ := bits.Mul64(h, uint64(len(s.blocks)))
	var mask block
	h *= 0x9e3779b97f4a7c15 // the top bits chose the block; mix them out
	h ^= h >> 32
	for range probes {
		mask[h>>6&7] |= 1 << (h & 63)
		h >>= 9
	}
	return &s.blocks[i], mask
}
