package admission

import (
	"math"
	"math/bits"
)

// Invariant: held is the sum of all cells, and at least the shards of all leases
// neither released nor past their deadline. A lost lease is counted up to 1/32 of
// its length too long, never too short; its shards and its place come free at one
// moment. A cell's bit is set while the cell holds something; it stays when that is
// given back, until the cell is due.

// wheel keeps the leases by their deadlines and frees them when these have come: a
// timing wheel without cascading (as in Linux), with levels of growing width.
type wheel struct {
	held [len(Lanes)]int64 // shards

	// What freeAt found last: for more than over and at most upTo missing shards.
	// As long as nothing is added, removed or freed it is so.
	known struct{ over, upTo, at int64 }

	swept [levels]int64  // the turn up to which a level is empty
	full  [levels]bitmap // which cells hold something, or did
	count [levels]int    // how many
	cells [levels][cellsPerLevel]cell
}

// cell is what ends within one stretch of time.
type cell [len(Lanes)]struct {
	shards int64
	leases list
}

const (
	cellBits      = 9
	cellsPerLevel = 1 << cellBits
	levelBits     = 4 // a level's cells are 16 times as wide as those below
	levels        = 7 // 512 cells of 2^44 ns: 104 days
)

// place is a cell at one of its turns.
type place struct {
	level uint8
	turn  int64 // deadline in units of the level's cells, rounded up
}

// placeOf chooses the narrowest cell that reaches from now to end.
func placeOf(now, end int64) place {
	ticks := uint64(end-now) >> tickBits
	ticks += ticks>>7 + 3 // the rounding up must still be within one turn
	level := max(bits.Len64(ticks)-cellBits+levelBits-1, 0) / levelBits
	return place{uint8(level), end>>(tickBits+level*levelBits) + 1}
}

// add holds shards until the end of p, which lies after the last sweep, and
// returns the list for their lease. If that is empty, begin comes next.
func (w *wheel) add(p place, lane uint, shards int64) *list {
	c := &w.cells[p.level][p.turn&(cellsPerLevel-1)][lane]
	w.held[lane] += shards
	c.shards += shards
	w.known.upTo = 0
	return &c.leases
}

// begin notes that a lane comes to have something in p.
func (w *wheel) begin(p place) {
	at := int(p.turn & (cellsPerLevel - 1))
	if full := &w.full[p.level]; !full.has(at) {
		full.set(at)
		w.count[p.level]++
	}
}

// sweep frees what ended by now: the places of leases in one go, however many.
func (w *wheel) sweep(now int64, tables *[len(Lanes)]leases) {
	for level := range levels {
		to := now >> (tickBits + level*levelBits)
		from := w.swept[level]
		if from == to {
			return // the wider ones have not moved either
		}
		w.swept[level] = to
		for turn := max(from+1, to-cellsPerLevel+1); turn <= to; turn++ {
			at := int(turn & (cellsPerLevel - 1))
			if !w.full[level].has(at) {
				continue
			}
			w.full[level].clear(at)
			w.count[level]--
			w.known.upTo = 0
			c := &w.cells[level][at]
			for lane := range c {
				w.held[lane] -= c[lane].shards
				tables[lane].join(&c[lane].leases)
			}
			*c = cell{}
		}
	}
}

// freeAt returns when missing shards, at least 1, will have come free if none are
// given back: never, if more are missing than are held. It takes a step for each
// cell on the way that has its bit, but none if it is asked the same again.
func (w *wheel) freeAt(missing, now int64) int64 {
	if missing > w.known.upTo || missing <= w.known.over {
		w.walk(missing, now)
	}
	return w.known.at
}

// walk makes known when so many shards will have come free.
func (w *wheel) walk(missing, now int64) {
	u := w.upcoming(now)
	for freed := int64(0); ; {
		c, end := u.next()
		if c == nil {
			w.known.over, w.known.upTo, w.known.at = freed, math.MaxInt64, never
			return
		}
		over := freed
		if freed += c[0].shards + c[1].shards; freed >= missing {
			w.known.over, w.known.upTo, w.known.at = over, freed, end
			return
		}
	}
}

// placeAt returns when a lane's next lease ends by itself, or never.
func (w *wheel) placeAt(lane int, now int64) int64 {
	u := w.upcoming(now)
	for {
		c, end := u.next()
		if c == nil || c[lane].leases.first != 0 {
			return end
		}
	}
}

// upcoming walks the cells that have their bit, by their ends.
type upcoming struct {
	w    *wheel
	now  int64
	ends [levels]int64 // of the next one on each level, never for none
}

// upcoming begins a walk with the first cell that ends after now. The last sweep
// was at now.
func (w *wheel) upcoming(now int64) upcoming {
	u := upcoming{w: w, now: now}
	for level := range levels {
		u.seek(level, now>>(tickBits+level*levelBits))
	}
	return u
}

// seek finds the next cell of a level after a turn.
func (u *upcoming) seek(level int, turn int64) {
	u.ends[level] = never
	if u.w.count[level] == 0 {
		return
	}
	width := tickBits + level*levelBits
	left := u.now>>width + cellsPerLevel - turn // cells of this turn of the wheel
	if ahead := u.w.full[level].next(int((turn + 1) & (cellsPerLevel - 1))); int64(ahead) < left {
		u.ends[level] = (turn + 1 + int64(ahead)) << width
	}
}

// next returns the next cell and its end, or nil and never. The cell may be empty.
func (u *upcoming) next() (*cell, int64) {
	level, end := 0, u.ends[0]
	for l := 1; l < levels; l++ {
		if u.ends[l] < end {
			level, end = l, u.ends[l]
		}
	}
	if end == never {
		return nil, never
	}
	turn := end >> (tickBits + level*levelBits)
	u.seek(level, turn)
	return &u.w.cells[level][turn&(cellsPerLevel-1)], end
}

// bitmap has a bit for each cell of a level.
type bitmap [cellsPerLevel / 64]uint64

func (b *bitmap) has(i int) bool { return b[uint(i)/64]>>(uint(i)%64)&1 != 0 }
func (b *bitmap) set(i int)      { b[uint(i)/64] |= 1 << (uint(i) % 64) }
func (b *bitmap) clear(i int)    { b[uint(i)/64] &^= 1 << (uint(i) % 64) }

// next returns how many cells after i, going round, the first set bit lies, or
// cellsPerLevel if no bit is set.
func (b *bitmap) next(i int) int {
	word := uint(i) / 64
	if bits := b[word] >> (uint(i) % 64); bits != 0 {
		return trailing(bits)
	}
	ahead := 64 - i%64
	for range len(b) {
		word = (word + 1) % uint(len(b))
		if b[word] != 0 {
			return min(ahead+trailing(b[word]), cellsPerLevel)
		}
		ahead += 64
	}
	return cellsPerLevel
}

func trailing(x uint64) int { return bits.TrailingZeros64(x) }
