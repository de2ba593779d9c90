package match

import (
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
)

// An index finds an order's slot by its id: open addressing with linear
// probing. A cell carries 32 bits of the hash, so that a probe touches an order
// only when it is almost certainly the right one, and so that deletion knows
// every cell's home. The seed is random: nobody can choose ids that collide.
type index struct {
	seed  maphash.Seed
	keys  [4]uint64 // random
	cells []cell    // a power of two, at most half full
	n     int
}

type cell struct{ tag, slot uint32 } // slot 0 is an empty cell

// A name is what an order keeps of its id, to be compared without a cache miss:
// all of a short one, as words, its length in the highest byte of c. A longer
// id is in coldOrder only.
type name struct {
	a, b uint64
	c    uint32
	tag  uint32 // hash of the id
}

const (
	shortID = 19
	long    = 0xff << 24 // as the length in c
)

func newIndex() index {
	x := index{seed: maphash.MakeSeed(), cells: make([]cell, 4096)}
	for i := range x.keys {
		x.keys[i] = rand.Uint64()
	}
	return x
}

// nameOf packs an id, without its hash. plain reports that it is short ASCII
// without a separator; where it is false the id must be looked at more closely.
func nameOf(id string) (n name, plain bool) {
	switch k := uint(len(id)); {
	case k > shortID:
		return name{c: long}, false
	case k >= 16:
		n.a, n.b = word(id, 0), word(id, 8)
		for i := uint(16); i < k; i++ {
			n.c |= uint32(id[i]) << (8 * (i - 16))
		}
	case k >= 8:
		n.a, n.b = word(id, 0), word(id, int(k-8))>>(8*(16-k))
	default:
		for i := range k {
			n.a |= uint64(id[i]) << (8 * i)
		}
	}
	// A byte is a separator where the difference is zero; subtracting one
	// borrows from the high bit there, and from no lower one.
	const ones, high = 0x0101010101010101, 0x8080808080808080
	const seps = ones * separator
	a, b, c := n.a^seps, n.b^seps, uint64(n.c)^seps
	bad := n.a | n.b | uint64(n.c) | (a-ones)&^a | (b-ones)&^b | (c-ones)&^c
	n.c |= uint32(len(id)) << 24
	return n, bad&high == 0
}

// word loads eight bytes of s.
func word(s string, i int) uint64 {
	s = s[i : i+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// tag hashes an id. Short ones are folded by multiplication with secret keys,
// as Go's own maps do without AES instructions, but without a call.
func (x *index) tag(n name, id string) uint32 {
	if n.c == long {
		return uint32(maphash.String(x.seed, id))
	}
	hi, lo := bits.Mul64(n.a^x.keys[0], n.b^x.keys[1])
	hi, lo = bits.Mul64(hi^lo^x.keys[2], uint64(n.c)^x.keys[3])
	return uint32(hi ^ lo)
}

func (b *Book) name(id string) name {
	n, _ := nameOf(id)
	if len(id) <= MaxID { // no longer one is in the book, and hashing it would take its time
		n.tag = b.index.tag(n, id)
	}
	return n
}

// find returns the cell of id, or the empty cell where it belongs.
func (b *Book) find(n name, id string) (pos uint32, ok bool) {
	cells := b.index.cells
	mask := uint32(len(cells) - 1)
	for pos = n.tag & mask; ; pos = (pos + 1) & mask {
		c := cells[pos]
		if c.slot == 0 {
			return pos, false
		}
		if c.tag == n.tag && b.orders[c.slot].name == n && (n.c != long || b.cold[c.slot].id == id) {
			return pos, true
		}
	}
}

// cell returns the cell of an order that is in the index.
func (b *Book) cell(slot uint32) (pos uint32) {
	mask := uint32(len(b.index.cells) - 1)
	pos = b.orders[slot].name.tag & mask
	for b.index.cells[pos].slot != slot {
		pos = (pos + 1) & mask
	}
	return pos
}

// put fills the empty cell that find gave.
func (x *index) put(pos, tag, slot uint32) {
	x.cells[pos] = cell{tag, slot}
	x.n++
	if x.n*2 <= len(x.cells) {
		return
	}
	old := x.cells
	x.cells = make([]cell, 2*len(old))
	mask := uint32(len(x.cells) - 1)
	for _, c := range old {
		if c.slot == 0 {
			continue
		}
		pos := c.tag & mask
		for x.cells[pos].slot != 0 {
			pos = (pos + 1) & mask
		}
		x.cells[pos] = c
	}
}

// remove empties a cell and moves later ones back, so that no tombstone is
// ever left: a book that lives for years probes as one that just started.
func (x *index) remove(pos uint32) {
	mask := uint32(len(x.cells) - 1)
	for next := (pos + 1) & mask; x.cells[next].slot != 0; next = (next + 1) & mask {
		home := x.cells[next].tag & mask
		if (next-home)&mask >= (next-pos)&mask {
			x.cells[pos] = x.cells[next]
			pos = next
		}
	}
	x.cells[pos] = cell{}
	x.n--
}
