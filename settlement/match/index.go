package match

import "hash/maphash"

// An index finds an order's slot by its id: open addressing with linear
// probing. A cell carries 32 bits of the hash, so that a probe touches an order
// only when it is almost certainly the right one, and so that deletion knows
// every cell's home. The seed is random: nobody can choose ids that collide.
type index struct {
	seed  maphash.Seed
	cells []cell // a power of two, at most half full
	n     int
}

type cell struct{ tag, slot uint32 } // slot 0 is an empty cell

func newIndex() index {
	return index{seed: maphash.MakeSeed(), cells: make([]cell, 4096)}
}

func (x *index) tag(id string) uint32 { return uint32(maphash.String(x.seed, id)) }

// find returns the cell of id, or the empty cell where it belongs.
func (b *Book) find(id string, tag uint32) (pos uint32, ok bool) {
	mask := uint32(len(b.index.cells) - 1)
	for pos = tag & mask; ; pos = (pos + 1) & mask {
		c := b.index.cells[pos]
		if c.slot == 0 {
			return pos, false
		}
		if c.tag == tag && b.is(c.slot, id) {
			return pos, true
		}
	}
}

// cell returns the cell of an order that is in the index.
func (b *Book) cell(slot uint32) (pos uint32) {
	mask := uint32(len(b.index.cells) - 1)
	pos = b.orders[slot].tag & mask
	for b.index.cells[pos].slot != slot {
		pos = (pos + 1) & mask
	}
	return pos
}

// is reports whether the order in a slot has that id.
func (b *Book) is(slot uint32, id string) bool {
	n := &b.orders[slot].name
	if len(id) > shortID {
		return n[shortID] == long && b.cold[slot].id == id
	}
	return int(n[shortID]) == len(id) && string(n[:len(id)]) == id
}

// A name is an id that lies in the order itself, its length in the last byte:
// comparing it costs no cache miss. A longer id is in coldOrder only.
type name [shortID + 1]byte

const (
	shortID = 19
	long    = 0xff // as a length
)

func nameOf(id string) (n name) {
	if len(id) > shortID {
		n[shortID] = long
		return n
	}
	copy(n[:], id)
	n[shortID] = byte(len(id))
	return n
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
