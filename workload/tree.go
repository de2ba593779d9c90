package workload

import (
	"math/bits"
	"slices"
	"sync"

	"lukechampine.com/blake3/guts"
)

// The BLAKE3 tree, cut twice. A batch is what one vector instruction stream
// compresses at once. A segment is what one goroutine reads and compresses
// between two looks at what the others do: long enough that handing out work
// costs nothing, short enough that buffer and hash stay in a core's own cache.
const (
	batchSize     = guts.MaxSIMD * guts.ChunkSize // 16 KiB
	segmentSize   = 16 * batchSize                // 256 KiB, a power of two
	segmentChunks = segmentSize / guts.ChunkSize
)

// subtree returns the uncompressed root of p, whose first chunk is number chunk
// of the input. It takes an input of any length, in this goroutine alone.
func (w *worker) subtree(p []byte, chunk uint64) guts.Node {
	switch {
	case len(p) == batchSize:
		if w.cold {
			w.warmed += warm(p)
		}
		return guts.CompressBuffer((*[batchSize]byte)(p), batchSize, &guts.IV, chunk, 0)
	case len(p) <= guts.ChunkSize:
		return guts.CompressChunk(p, &guts.IV, chunk, 0)
	case len(p) < batchSize:
		// The vector code loads a whole batch, whatever of it counts.
		copy(w.batch[:], p)
		return guts.CompressBuffer(&w.batch, len(p), &guts.IV, chunk, 0)
	}
	mid := half(len(p))
	l := guts.ChainingValue(w.subtree(p[:mid], chunk))
	r := guts.ChainingValue(w.subtree(p[mid:], chunk+uint64(mid/guts.ChunkSize)))
	return guts.ParentNode(l, r, &guts.IV, 0)
}

// warm reads a byte of every cache line of p, in order. The vector code loads
// from sixteen chunks by turns, a pattern that no prefetcher follows; over memory
// that is not in the cache yet this one pass before it makes hashing twice as fast.
func warm(p []byte) (sum byte) {
	for i := 0; i < len(p); i += 64 {
		sum += p[i]
	}
	return sum
}

// half is the length of a node's left subtree: the greatest power of two below n.
func half(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// rootHash finishes the tree whose top is n.
func rootHash(n guts.Node) Hash {
	n.Flags |= guts.FlagRoot
	b := guts.WordsToBytes(guts.CompressNode(n))
	return Hash(b[:len(Hash{})])
}

// A tree joins segments that are finished in any order. It holds few nodes
// however long the input is, because whatever has its sibling is joined at once.
type tree struct {
	hash bool    // compute the BLAKE3 tree
	tags *tagger // compute the tag tree, if not nil

	mu      sync.Mutex // guards all below
	pending []node     // full subtrees without their sibling
	tail    node       // the last segment, if it is short
	short   bool       // tail is set
	size    int64      // bytes added
}

// node is the root of 1<<level full segments, or of one short one.
type node struct {
	level uint8
	index uint64    // how many subtrees of this level stand before it
	top   guts.Node // uncompressed: only the topmost takes the root flag
	tag   tag
}

// add takes segment number index, of which only the last may be short.
func (t *tree) add(w *worker, p []byte, index uint64) {
	n := node{index: index}
	if t.hash {
		n.top = w.subtree(p, index*segmentChunks)
	}
	if t.tags != nil {
		n.tag = t.tags.sum(w, p)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size += int64(len(p))
	if len(p) < segmentSize {
		t.tail, t.short = n, true
		return
	}
	for {
		i := slices.IndexFunc(t.pending, func(o node) bool { return o.level == n.level && o.index == n.index^1 })
		if i < 0 {
			break
		}
		o := t.pending[i]
		t.pending = slices.Delete(t.pending, i, i+1)
		if n.index&1 == 1 {
			o, n = n, o // n is the left one
		}
		n = t.join(w, &n, &o)
	}
	t.pending = append(t.pending, n)
}

// join returns the parent of two siblings.
func (t *tree) join(w *worker, l, r *node) node {
	n := node{level: l.level + 1, index: l.index / 2}
	if t.hash {
		n.top = guts.ParentNode(guts.ChainingValue(l.top), guts.ChainingValue(r.top), &guts.IV, 0)
	}
	if t.tags != nil {
		n.tag = t.tags.join(w, l.tag, r.tag)
	}
	return n
}

// digest finishes the tree after every segment was added. What is left are
// full subtrees, each smaller than the one before, and the tail.
func (t *tree) digest(w *worker) digest {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortFunc(t.pending, func(a, b node) int { return int(b.level) - int(a.level) })
	if t.short {
		t.pending = append(t.pending, t.tail)
	}
	last := len(t.pending) - 1
	n := t.pending[last]
	for i := last - 1; i >= 0; i-- {
		n = t.join(w, &t.pending[i], &n)
	}
	d := digest{size: t.size, tag: n.tag}
	if t.hash {
		d.hash = rootHash(n.top)
	}
	return d
}

// digest is what one pass over an input computes; what was not asked for is
// zero.
type digest struct {
	hash Hash
	tag  tag
	size int64
}

// A worker is the scratch memory of one goroutine that hashes.
type worker struct {
	batch  [batchSize]byte
	pair   [2 * len(tag{})]byte
	out    tag
	buf    []byte // segmentSize, for inputs that are read
	cold   bool   // what is hashed was not just read, and may be far from the core
	warmed byte   // keeps the compiler from dropping warm
}

var workers = sync.Pool{New: func() any { return new(worker) }}

func newWorker(cold bool) *worker {
	w := workers.Get().(*worker)
	w.cold = cold
	return w
}

func (w *worker) free() { workers.Put(w) }

func (w *worker) buffer() []byte {
	if w.buf == nil {
		w.buf = make([]byte, segmentSize)
	}
	return w.buf
}
