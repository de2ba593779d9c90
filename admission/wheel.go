package admission

import (
	"math/bits"
	"sync/atomic"
)

// Invariant: held is at least the shards of all leases neither released nor past
// their deadline. A lost lease is counted up to 1/32 of its length too long,
// never too short. Memory does not depend on the number of leases.

// wheel counts the shards that are held and frees them at their deadlines. It
// keeps no leases, only how many shards end in which cell: a timing wheel
// without cascading (as in Linux), with levels of growing width.
type wheel struct {
	held  atomic.Int64
	swept [levels]int64 // guarded by the timeline's mutex
	cells [levels][cellsPerLevel]atomic.Uint64

	soonest atomic.Int64 // a cell's end, as of scanned
	scanned atomic.Int64 // tick of the scan
}

const (
	cellBits      = 9
	cellsPerLevel = 1 << cellBits
	levelBits     = 4 // a level's cells are 16 times as wide as those below
	levels        = 7 // 512 cells of 2^44 ns: 104 days
	countBits     = 48
	countMask     = 1<<countBits - 1
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

func (w *wheel) cell(p place) *atomic.Uint64 {
	return &w.cells[p.level][p.turn&(cellsPerLevel-1)]
}

// tag tells the turns of one cell apart.
func (p place) tag() uint64 { return uint64(p.turn>>cellBits) << countBits }

// later is the tag of the cell's turn after p, the only one that can be in use
// before p has ended.
func (p place) later() uint64 { return p.tag() + 1<<countBits }

// take holds shards if then at most limit are held. It returns how many are
// missing.
func (w *wheel) take(shards, limit int64) (missing int64) {
	for {
		h := w.held.Load()
		if h+shards > limit {
			return h + shards - limit
		}
		if w.held.CompareAndSwap(h, h+shards) {
			return 0
		}
	}
}

// give frees shards that are in no cell.
func (w *wheel) give(shards int64) { w.held.Add(-shards) }

// add puts taken shards into the cell in which they end.
func (w *wheel) add(p place, shards int64) {
	cell, tag := w.cell(p), p.tag()
	for {
		old := cell.Load()
		switch left := old & countMask; {
		case old-left == tag:
			if cell.CompareAndSwap(old, old+uint64(shards)) {
				return
			}
		case left > 0 && old-left == p.later():
			w.give(shards) // the caller is so late that its lease has ended
			return
		default: // what is left of an earlier turn has ended, too
			if cell.CompareAndSwap(old, tag|uint64(shards)) {
				w.give(int64(left))
				return
			}
		}
	}
}

// remove frees shards before their deadline. It does nothing if the cell has
// been swept meanwhile, which freed them already.
func (w *wheel) remove(p place, shards int64) {
	cell, tag := w.cell(p), p.tag()
	for {
		old := cell.Load()
		if old&^countMask != tag || old&countMask < uint64(shards) {
			return
		}
		if cell.CompareAndSwap(old, old-uint64(shards)) {
			w.give(shards)
			return
		}
	}
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
			w.end(place{uint8(level), turn})
		}
	}
}

func (w *wheel) end(p place) {
	cell := w.cell(p)
	for {
		old := cell.Load()
		left := old & countMask
		if left == 0 || old-left == p.later() {
			return
		}
		if cell.CompareAndSwap(old, old-left) {
			w.give(int64(left))
			return
		}
	}
}

// next returns when the next cell that holds shards ends, or the next tick if
// none does. It looks at most once a tick and remembers, so that being asked often
// costs nothing.
func (w *wheel) next(now int64) int64 {
	tick := now >> tickBits
	if w.scanned.Load() == tick {
		if s := w.soonest.Load(); s > now {
			return s
		}
	}
	soonest := int64(never)
	for level := range levels {
		width := tickBits + level*levelBits
		for turn := now>>width + 1; turn <= now>>width+cellsPerLevel; turn++ {
			p := place{uint8(level), turn}
			if old := w.cell(p).Load(); old&countMask > 0 && old&^countMask == p.tag() {
				soonest = min(soonest, turn<<width)
				break
			}
		}
	}
	if soonest == never {
		soonest = (tick + 1) << tickBits // who holds them is just coming or going
	}
	w.soonest.Store(soonest)
	w.scanned.Store(tick)
	return soonest
}
