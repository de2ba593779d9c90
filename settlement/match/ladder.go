package match

import (
	"math"
	"math/bits"
	"slices"
)

// blockLen is the number of price levels in a block. Inserting moves half a
// block on average: at 128 that is 768 bytes, still cheaper than the cache
// misses of a tree.
const blockLen = 128

// A ladder holds the price levels of one side of one lane, sorted, in blocks.
// The best price is the last entry of the last block, because that is where
// most orders come and go and nothing has to move there.
type ladder struct {
	lows   []uint64 // lows[i] is the lowest key of blocks[i]; searched first
	blocks []*block
	spare  []*block
}

type block struct {
	n      int
	keys   [blockLen]uint64 // ascending; all ones beyond n, which is below no key
	levels [blockLen]uint32 // slots in Book.levels
}

// spot is where a key is in the ladder, or where it would have to be.
type spot struct{ block, i int }

// best returns the key of the best price.
func (l *ladder) best() (key uint64, ok bool) {
	if len(l.blocks) == 0 {
		return 0, false
	}
	b := l.blocks[len(l.blocks)-1]
	return b.keys[b.n-1], true
}

func (l *ladder) find(key uint64) (s spot, level uint32, ok bool) {
	if len(l.blocks) == 0 {
		return spot{}, 0, false
	}
	// Both searches decide by arithmetic on the borrow of a subtraction: a
	// branch on prices would be mispredicted every other time.
	s.block = len(l.lows) - 1
	if key < l.lows[s.block] {
		s.block = 0
		for n := len(l.lows); n > 1; {
			half := n / 2
			_, greater := bits.Sub64(key, l.lows[s.block+half], 0)
			s.block += half & (int(greater) - 1)
			n -= half
		}
	}
	b := l.blocks[s.block]
	// How many of the last keys of each group are less, then how many in the
	// group: the loads do not wait for each other.
	const group = 16
	var less, sum uint64
	for i := group - 1; i < blockLen-group; i += group {
		_, less = bits.Sub64(b.keys[i], key, 0)
		sum += less
	}
	at := sum * group % blockLen
	for _, k := range b.keys[at : at+group] {
		_, less = bits.Sub64(k, key, 0)
		at += less
	}
	s.i = int(at)
	if s.i < b.n && b.keys[s.i] == key {
		return s, b.levels[s.i], true
	}
	return s, 0, false
}

// insert puts a new level where find said it belongs.
func (l *ladder) insert(s spot, key uint64, level uint32) {
	if len(l.blocks) == 0 {
		l.add(0, l.block())
	}
	b := l.blocks[s.block]
	if b.n == blockLen {
		const half = blockLen / 2
		next := l.block()
		next.n = copy(next.keys[:], b.keys[half:])
		copy(next.levels[:], b.levels[half:])
		b.cut(half)
		l.add(s.block+1, next)
		if s.i > half {
			s.block, s.i, b = s.block+1, s.i-half, next
		}
	}
	copy(b.keys[s.i+1:b.n+1], b.keys[s.i:b.n])
	copy(b.levels[s.i+1:b.n+1], b.levels[s.i:b.n])
	b.keys[s.i], b.levels[s.i] = key, level
	b.n++
	l.lows[s.block] = b.keys[0]
}

func (l *ladder) remove(s spot) {
	b := l.blocks[s.block]
	copy(b.keys[s.i:b.n-1], b.keys[s.i+1:b.n])
	copy(b.levels[s.i:b.n-1], b.levels[s.i+1:b.n])
	b.cut(b.n - 1)
	l.lows[s.block] = b.keys[0]
	if b.n == 0 {
		l.drop(s.block)
	} else if b.n < blockLen/4 && !l.join(s.block) {
		// Thin neighbours are joined, so that the number of blocks follows the
		// number of levels whatever order they leave in.
		l.join(s.block - 1)
	}
}

// join moves blocks[i+1] into blocks[i] if there is plenty of room.
func (l *ladder) join(i int) bool {
	if i < 0 || i+1 >= len(l.blocks) {
		return false
	}
	b, next := l.blocks[i], l.blocks[i+1]
	if b.n+next.n > blockLen*3/4 {
		return false
	}
	copy(b.keys[b.n:], next.keys[:next.n])
	copy(b.levels[b.n:], next.levels[:next.n])
	b.n += next.n
	l.drop(i + 1)
	return true
}

// cut shortens a block to n levels.
func (b *block) cut(n int) {
	for i := n; i < b.n; i++ {
		b.keys[i] = math.MaxUint64
	}
	b.n = n
}

func (l *ladder) block() *block {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	b := &block{n: blockLen}
	b.cut(0)
	return b
}

func (l *ladder) add(i int, b *block) {
	l.blocks = slices.Insert(l.blocks, i, b)
	l.lows = slices.Insert(l.lows, i, b.keys[0])
}

func (l *ladder) drop(i int) {
	l.blocks[i].cut(0)
	l.spare = append(l.spare, l.blocks[i])
	l.blocks = slices.Delete(l.blocks, i, i+1)
	l.lows = slices.Delete(l.lows, i, i+1)
}

// count returns the number of levels.
func (l *ladder) count() (n int) {
	for _, b := range l.blocks {
		n += b.n
	}
	return n
}

// A walk goes from level to level, best first. It is good for as long as no
// level comes or goes.
type walk struct {
	ladder *ladder
	spot
}

func (l *ladder) walk() walk {
	w := walk{ladder: l, spot: spot{block: len(l.blocks)}}
	w.next()
	return w
}

func (w *walk) next() {
	if w.i--; w.i < 0 {
		if w.block--; w.block >= 0 {
			w.i = w.ladder.blocks[w.block].n - 1
		}
	}
}

func (w *walk) ok() bool { return w.block >= 0 }

// key is 0, the worst there is, past the end.
func (w *walk) key() uint64 {
	if !w.ok() {
		return 0
	}
	return w.ladder.blocks[w.block].keys[w.i]
}

func (w *walk) level() uint32 { return w.ladder.blocks[w.block].levels[w.i] }
