package admission

import "math/bits"

// Invariant: held is the sum of all cells, and at least the shards of all leases
// neither released nor past their deadline. A lost lease is counted up to 1/32 of
// its length too long, never too short. Memory does not depend on the number of
// leases.

// wheel counts the shards that are held and frees them at their deadlines. It
// keeps no leases, only how many shards end in which cell: a timing wheel
// without cascading (as in Linux), with levels of growing width.
type wheel struct {
	held  int64
	swept [levels]int64 // the turn up to which a level is empty
	cells [levels][cellsPerLevel]int64

	soonest int64 // a cell's end, as of scanned
	scanned int64 // tick of the scan
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

func (w *wheel) cell(p place) *int64 {
	return &w.cells[p.level][p.turn&(cellsPerLevel-1)]
}

// add holds shards until the end of p, which lies after the last sweep.
func (w *wheel) add(p place, shards int64) {
	w.held += shards
	*w.cell(p) += shards
}

// remove frees shards that were added to p, before the end of p.
func (w *wheel) remove(p place, shards int64) {
	w.held -= shards
	*w.cell(p) -= shards
}

// sweep frees what ended by now.
func (w *wheel) sweep(now int64) {
	for level := range levels {
		to := now >> (tickBits + level*levelBits)
		from := w.swept[level]
		if from == to {
			return // the wider ones have not moved either
		}
		w.swept[level] = to
		for turn := max(from+1, to-cellsPerLevel+1); turn <= to; turn++ {
			cell := w.cell(place{uint8(level), turn})
			w.held -= *cell
			*cell = 0
		}
	}
}

// next returns when the next cell that holds shards ends, or the next tick if
// none does. It looks at most once a tick and remembers, so that being asked often
// costs nothing.
func (w *wheel) next(now int64) int64 {
	tick := now >> tickBits
	if w.scanned == tick && w.soonest > now {
		return w.soonest
	}
	w.scanned, w.soonest = tick, never
	for level := range levels {
		width := tickBits + level*levelBits
		for turn := now>>width + 1; turn <= now>>width+cellsPerLevel; turn++ {
			if *w.cell(place{uint8(level), turn}) > 0 {
				w.soonest = min(w.soonest, turn<<width)
				break
			}
		}
	}
	if w.soonest == never {
		w.soonest = (tick + 1) << tickBits
	}
	return w.soonest
}
