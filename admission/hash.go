package admission

import (
	"hash/maphash"
	"math/bits"
)

// Invariant: equal ids have equal hashes, and whoever does not know the key
// cannot choose ids whose hashes collide more often than by chance.

// hasher hashes ids of tenants to 64 bits under a key drawn at random. Short ids
// are folded by two wide multiplications, as in wyhash and in the hash that Go's
// maps use where there is no AES; that takes half the time of maphash.String,
// which does the long ones.
type hasher struct {
	seed       maphash.Seed
	k0, k1, k2 uint64
}

func newHasher() hasher {
	h := hasher{seed: maphash.MakeSeed()}
	h.k0 = maphash.String(h.seed, "0")
	h.k1 = maphash.String(h.seed, "1")
	h.k2 = maphash.String(h.seed, "2")
	return h
}

// sum hashes an id that is not empty, never to 0.
func (h *hasher) sum(id string) uint64 {
	var a, b uint64 // together all bytes, some of them twice
	switch n := len(id); {
	case n > 16:
		return max(maphash.String(h.seed, id), 1)
	case n >= 8:
		a, b = word(id), word(id[n-8:])
	case n >= 4:
		a, b = half(id), half(id[n-4:])
	default:
		a = uint64(id[0])<<16 | uint64(id[n/2])<<8 | uint64(id[n-1])
	}
	hi, lo := bits.Mul64(a^h.k0, b^h.k1)
	hi, lo = bits.Mul64(hi^lo^uint64(len(id)), h.k2)
	return max(hi^lo, 1)
}

func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func half(s string) uint64 {
	_ = s[3]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24
}
