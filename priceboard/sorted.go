package priceboard

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// quantiles are the published ones, in quarters, in the order of [Bands].
var quantiles = [...]int{1, 2, 3}

// rank is the index of a number of quarters among n sorted prices: floor(n·q).
func rank(n, quarters int) int { return n * quarters / 4 }

// decimalRank is the index of quantile q among n sorted prices: floor(n·q) of
// the shortest decimal that is q, and the last index at q = 1. In float64,
// 100 × 0.29 is less than 29. The caller sees to it that n > 0 and 0 <= q <= 1.
func decimalRank(n int, q float64) int {
	const enough = 40 // places after the point: beyond them, n·q is below 1
	text := strconv.FormatFloat(q, 'f', -1, 64)
	whole, fraction, _ := strings.Cut(text, ".")
	if whole == "1" {
		return n - 1
	}
	// Long division backwards: the carry out of the whole product is floor(n·q).
	fraction = fraction[:min(len(fraction), enough)]
	var carry uint64
	for i := len(fraction) - 1; i >= 0; i-- {
		carry = (uint64(n)*uint64(fraction[i]-'0') + carry) / 10
	}
	return int(carry)
}

// oneBlock is the largest window that is kept as one sorted array. Beyond it,
// moving half the array costs more than finding the right block.
// docs/design/priceboard.md has the measurement.
const oneBlock = 4000

// blockSize is the capacity of a block when there are several.
const blockSize = 256

// sorted is a multiset of prices in ascending order, cut into blocks. A small
// window is one block, so a replacement is one move of memory; a large one has
// many, so that a replacement moves at most two blocks.
//
// Two neighbours together always hold more than half a block, so n prices never
// need more than 4n/size + 1 blocks, whatever the order of prices.
type sorted struct {
	n      int        // prices in all
	size   int        // capacity of a block
	top    []uint64   // top[i] is the last price of block i; 0 while it is empty
	count  []int      // prices in block i; only a lone block is ever empty
	blocks [][]uint64 // blocks[i][:count[i]] is ascending, and not above block i+1
	spare  [][]uint64 // blocks not in use
	marks  [3]mark    // where each of the quantiles is
	values [3]uint64  // the price there, once n > 0
}

// mark is the block that holds a rank, so that reading a quantile counts nothing.
type mark struct {
	rank   int // among all n prices
	block  int
	before int // prices in the blocks before it
}

func newSorted(window int) *sorted {
	s := &sorted{size: blockSize}
	if window <= oneBlock {
		s.size = window
	}
	s.reset()
	return s
}

// reset empties s and keeps its memory.
func (s *sorted) reset() {
	s.spare = append(s.spare, s.blocks...)
	s.top, s.count, s.blocks = s.top[:0], s.count[:0], s.blocks[:0]
	s.n, s.marks, s.values = 0, [3]mark{}, [3]uint64{}
	s.open(0)
}

// add puts in one price.
func (s *sorted) add(price uint64) {
	s.n++
	for i, q := range quantiles {
		s.marks[i].rank = rank(s.n, q)
	}
	s.insert(s.find(price), price)
	s.settle()
}

// replace takes out old, which must be there, and puts in price.
func (s *sorted) replace(old, price uint64) {
	from, to := 0, 0
	if len(s.blocks) > 1 {
		from, to = lowerBounds(s.top, old, price)
		to = min(to, len(s.top)-1)
	}
	if from == to { // no rank moves to another block
		s.exchange(from, old, price)
		s.read()
		return
	}
	if s.remove(from, old) {
		to = s.find(price)
	}
	s.insert(to, price)
	s.settle()
}

// at returns the price at rank r, 0 <= r < n, by counting blocks.
func (s *sorted) at(r int) uint64 {
	i := 0
	for r >= s.count[i] {
		r -= s.count[i]
		i++
	}
	return s.blocks[i][r]
}

// settle moves each mark to the block of its rank, mostly not at all, and reads
// the prices.
func (s *sorted) settle() {
	for i := range s.marks {
		m := &s.marks[i]
		for m.rank < m.before {
			m.block--
			m.before -= s.count[m.block]
		}
		for m.rank >= m.before+s.count[m.block] {
			m.before += s.count[m.block]
			m.block++
		}
	}
	s.read()
}

// read reads the prices at the marks.
func (s *sorted) read() {
	for i := range s.marks {
		m := &s.marks[i]
		s.values[i] = s.blocks[m.block][m.rank-m.before]
	}
}

// find returns the block where price is, if anywhere, and where it belongs.
func (s *sorted) find(price uint64) int {
	return min(lowerBound(s.top, price), len(s.top)-1)
}

// exchange is remove and insert within one block, in one move.
func (s *sorted) exchange(i int, old, price uint64) {
	b := s.blocks[i][:s.count[i]]
	from, to := lowerBounds(b, old, price)
	if from < to {
		to--
		copy(b[from:to], b[from+1:to+1])
	} else {
		copy(b[to+1:from+1], b[to:from])
	}
	b[to] = price
	s.top[i] = b[len(b)-1]
}

// insert puts price into block i, splitting it first when it is full.
func (s *sorted) insert(i int, price uint64) {
	if s.count[i] == s.size {
		half := s.size / 2
		s.open(i + 1)
		s.count[i+1] = copy(s.blocks[i+1], s.blocks[i][half:])
		s.count[i] = half
		s.top[i], s.top[i+1] = s.blocks[i][half-1], s.top[i]
		if price > s.top[i] {
			i++
		}
	}
	b := s.blocks[i][:s.count[i]+1]
	k := lowerBound(b[:s.count[i]], price)
	copy(b[k+1:], b[k:])
	b[k] = price
	s.count[i]++
	s.top[i] = b[len(b)-1]
	for m := range s.marks {
		if i < s.marks[m].block {
			s.marks[m].before++
		}
	}
}

// remove takes price out of block i and joins i with a neighbour when the two
// have become small. It reports whether blocks have moved.
func (s *sorted) remove(i int, price uint64) (moved bool) {
	b := s.blocks[i][:s.count[i]]
	k := lowerBound(b, price)
	copy(b[k:], b[k+1:])
	s.count[i]--
	if s.count[i] > 0 {
		s.top[i] = b[s.count[i]-1]
	}
	for m := range s.marks {
		if i < s.marks[m].block {
			s.marks[m].before--
		}
	}
	if i+1 < len(s.blocks) && s.thin(i) {
		s.join(i)
		moved = true
	}
	if i > 0 && s.thin(i-1) {
		s.join(i - 1)
		moved = true
	}
	return moved
}

// thin reports whether blocks i and i+1 should be one.
func (s *sorted) thin(i int) bool {
	a, b := s.count[i], s.count[i+1]
	return a == 0 || b == 0 || a+b <= s.size/2
}

// join moves block i+1 to the end of block i.
func (s *sorted) join(i int) {
	for m := range s.marks {
		switch mark := &s.marks[m]; {
		case mark.block == i+1:
			mark.before -= s.count[i]
			mark.block--
		case mark.block > i+1:
			mark.block--
		}
	}
	if n := copy(s.blocks[i][s.count[i]:], s.blocks[i+1][:s.count[i+1]]); n > 0 {
		s.count[i] += n
		s.top[i] = s.top[i+1]
	}
	s.spare = append(s.spare, s.blocks[i+1])
	s.top = slices.Delete(s.top, i+1, i+2)
	s.count = slices.Delete(s.count, i+1, i+2)
	s.blocks = slices.Delete(s.blocks, i+1, i+2)
}

// open makes an empty block at place i.
func (s *sorted) open(i int) {
	var b []uint64
	if last := len(s.spare) - 1; last >= 0 {
		b, s.spare = s.spare[last], s.spare[:last]
	} else {
		b = make([]uint64, s.size)
	}
	s.top = slices.Insert(s.top, i, 0)
	s.count = slices.Insert(s.count, i, 0)
	s.blocks = slices.Insert(s.blocks, i, b)
	for m := range s.marks {
		if s.marks[m].block >= i && len(s.blocks) > 1 {
			s.marks[m].block++
		}
	}
}

// lowerBound returns the first index of a whose price is not below price. It
// adds up borrows instead of branching on prices, which a processor could only
// guess; the number of steps depends on len(a) alone.
func lowerBound(a []uint64, price uint64) int {
	var lo uint64
	for n := uint64(len(a)); n > 0; {
		half := (n + 1) >> 1
		_, below := bits.Sub64(a[lo+half-1], price, 0)
		lo += half & -below
		n -= half
	}
	return int(lo)
}

// lowerBounds is lowerBound of two prices at once: while one step waits for the
// step before, the processor has the other to do.
func lowerBounds(a []uint64, x, y uint64) (i, j int) {
	var lo, lo2 uint64
	for n := uint64(len(a)); n > 0; {
		half := (n + 1) >> 1
		_, below := bits.Sub64(a[lo+half-1], x, 0)
		_, below2 := bits.Sub64(a[lo2+half-1], y, 0)
		lo += half & -below
		lo2 += half & -below2
		n -= half
	}
	return int(lo), int(lo2)
}
