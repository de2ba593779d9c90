package workload

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"

	"lukechampine.com/blake3/guts"
)

// rangeGroup is the base-2 logarithm of the chunks in a group, the least piece
// that a proof carries: 16 KiB. Groups of one chunk would cost an outboard of 6 %
// of the content and one vector lane in sixteen.
const (
	rangeGroup = 4
	groupSize  = guts.ChunkSize << rangeGroup
)

// An Outboard holds the inner hashes of one slice's BLAKE3 tree, 64 bytes for
// each 16 KiB of content after the first. It is a Bao outboard encoding
// (https://github.com/oconnor663/bao/blob/master/docs/spec.md) over groups of 16
// chunks, and may be stored and sent as it is. Who gets one from a stranger need
// not trust it: a proof cut with a false outboard does not verify.
type Outboard []byte

// NewOutboard reads in once and returns its outboard and its hash, which is the
// proof that [HashJob] gives. The length must be known beforehand, for it gives
// the tree its shape: a stream is [ErrSlice]. Memory is taken for what was read,
// not for what in says of its length.
//
// Possible errors are [ErrSlice], ctx's, those of in, and [PanicError].
func NewOutboard(ctx context.Context, in Input) (Outboard, Hash, error) {
	if err := in.validate(); err != nil {
		return nil, Hash{}, err
	}
	if in.size < 0 {
		return nil, Hash{}, fmt.Errorf("%w: an outboard needs an input of known size", ErrSlice)
	}
	e := encoder{ctx: ctx, in: &in, w: newWorker(in.form == formBytes)}
	defer e.w.free()
	e.out = make(Outboard, 8, min(outboardSize(in.size), 1<<20))
	binary.LittleEndian.PutUint64(e.out, uint64(in.size))
	var root guts.Node
	err := contained("ReaderAt.ReadAt", func() (err error) {
		root, err = e.subtree(8, 0, in.size)
		return err
	})
	if err != nil {
		return nil, Hash{}, fmt.Errorf("workload: outboard: %w", err)
	}
	return e.out, rootHash(root), nil
}

// An encoder makes an outboard: the length, then each inner node's two hashes,
// before those of its left and then those of its right subtree.
type encoder struct {
	ctx context.Context // of one NewOutboard
	in  *Input
	w   *worker
	out Outboard
}

// subtree reads the size bytes at pos, whose hashes begin at at in the outboard.
func (e *encoder) subtree(at, pos, size int64) (guts.Node, error) {
	if err := e.ctx.Err(); err != nil {
		return guts.Node{}, err
	}
	if size <= groupSize {
		b, err := e.in.piece(e.w, pos, size)
		if err != nil {
			return guts.Node{}, err
		}
		return e.w.subtree(b, uint64(pos/guts.ChunkSize)), nil
	}
	mid := leftSize(size)
	left, err := e.subtree(at+64, pos, mid)
	if err != nil {
		return guts.Node{}, err
	}
	right, err := e.subtree(at+64+hashesSize(mid), pos+mid, size-mid)
	if err != nil {
		return guts.Node{}, err
	}
	l, r := guts.ChainingValue(left), guts.ChainingValue(right)
	if end := int(at) + 64; end > len(e.out) {
		e.out = slices.Grow(e.out, end-len(e.out))[:end]
	}
	putHash(e.out[at:], l)
	putHash(e.out[at+32:], r)
	return guts.ParentNode(l, r, &guts.IV, 0), nil
}

// ProveRange writes to dst the proof of the n bytes at off of in, which o was
// made from. A proof holds the bytes themselves, whole groups of them, the last
// group of the slice, which proves the slice's length, and a path of hashes to
// each. Nothing else of in or o is read.
//
// Possible errors are [ErrRange], [ErrRangeProof] if o is not an outboard of
// in's length, [ErrSlice] for a stream, [ErrOptions] without dst, ctx's, those of
// in and dst, and [PanicError]. Whether o and in belong together is for
// [VerifyRange] to see.
func ProveRange(ctx context.Context, dst io.Writer, in Input, o Outboard, off, n int64) error {
	if dst == nil {
		return fmt.Errorf("%w: nowhere to write to", ErrOptions)
	}
	if err := in.validate(); err != nil {
		return err
	}
	if in.size < 0 {
		return fmt.Errorf("%w: a range needs an input that is read at offsets", ErrSlice)
	}
	if err := checkRange(off, n, in.size); err != nil {
		return err
	}
	if int64(len(o)) != outboardSize(in.size) || binary.LittleEndian.Uint64(o) != uint64(in.size) {
		return fmt.Errorf("%w: not an outboard of %d bytes of content", ErrRangeProof, in.size)
	}
	p := prover{ctx: ctx, dst: dst, in: &in, o: o, w: newWorker(in.form == formBytes)}
	defer p.w.free()
	err := contained("ReaderAt.ReadAt or Writer.Write", func() error {
		if err := p.prove(in.size-1, 1); err != nil {
			return err
		}
		return p.prove(off, n)
	})
	if err != nil {
		return fmt.Errorf("workload: range proof: %w", err)
	}
	return nil
}

// A prover walks from the root to a range, past whatever has no part in it.
type prover struct {
	ctx    context.Context // of one ProveRange
	dst    io.Writer
	in     *Input
	o      Outboard
	w      *worker
	off, n int64 // the range
}

// prove writes one Bao slice.
func (p *prover) prove(off, n int64) error {
	p.off, p.n = off, n
	if err := write(p.dst, p.o[:8]); err != nil {
		return err
	}
	return p.subtree(8, 0, p.in.size)
}

func (p *prover) subtree(at, pos, size int64) error {
	if pos >= p.off+p.n || pos+size <= p.off {
		return nil
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if size <= groupSize {
		b, err := p.in.piece(p.w, pos, size)
		if err != nil {
			return err
		}
		return write(p.dst, b)
	}
	if err := write(p.dst, p.o[at:at+64]); err != nil {
		return err
	}
	mid := leftSize(size)
	if err := p.subtree(at+64, pos, mid); err != nil {
		return err
	}
	return p.subtree(at+64+hashesSize(mid), pos+mid, size-mid)
}

// VerifyRange reads a proof that [ProveRange] wrote for the same off and n, and
// writes the n bytes to dst. It returns the length of the whole slice. Nothing is
// trusted but the slice's hash: each group of bytes is checked before it is
// written, so what reached dst before an error is right too. Of proof it reads
// what belongs to it and no byte more.
//
// Possible errors are [ErrRange], [ErrRangeProof], [ErrOptions] without dst or
// proof, ctx's, those of dst, and [PanicError]. An error of the proof's reader is
// wrapped in ErrRangeProof.
func VerifyRange(ctx context.Context, dst io.Writer, proof io.Reader, hash Hash, off, n int64) (size int64, err error) {
	if dst == nil || proof == nil {
		return 0, fmt.Errorf("%w: no proof to read, or nowhere to write to", ErrOptions)
	}
	if err := checkRange(off, n, math.MaxInt64); err != nil {
		return 0, err
	}
	v := verifier{proof: source{ctx: ctx, r: proof}, w: newWorker(false)}
	defer v.w.free()
	err = contained("Reader.Read or Writer.Write", func() (err error) {
		// The last group first: only a path to it proves the length, and with it the
		// shape of the tree.
		if size, err = v.length(); err != nil {
			return err
		}
		root := parseHash(hash[:])
		if err := v.verify(io.Discard, root, size, size-1, 1); err != nil {
			return err
		}
		if err := checkRange(off, n, size); err != nil {
			return err
		}
		again, err := v.length()
		if err != nil {
			return err
		}
		if again != size {
			return fmt.Errorf("%w: two lengths, %d and %d", ErrRangeProof, size, again)
		}
		return v.verify(dst, root, size, off, n)
	})
	if err != nil {
		return 0, err
	}
	return size, nil
}

// A verifier walks as a prover does, over what a stranger wrote.
type verifier struct {
	proof  source
	w      *worker
	dst    io.Writer
	off, n int64 // the range
}

// verify checks one Bao slice of size bytes, whose length was read before, and
// writes the range.
func (v *verifier) verify(dst io.Writer, root cv, size, off, n int64) error {
	v.dst, v.off, v.n = dst, off, n
	return v.subtree(root, 0, size, guts.FlagRoot)
}

// subtree checks the size bytes at pos against want.
func (v *verifier) subtree(want cv, pos, size int64, flags uint32) error {
	if pos >= v.off+v.n || pos+size <= v.off {
		return nil
	}
	b := v.w.buffer()[:64] // two hashes, or a group
	if size <= groupSize {
		b = v.w.buffer()[:size]
	}
	if err := v.read(b); err != nil {
		return err
	}
	var node guts.Node
	var l, r cv
	if size <= groupSize {
		node = v.w.subtree(b, uint64(pos/guts.ChunkSize))
	} else {
		l, r = parseHash(b), parseHash(b[32:])
		node = guts.ParentNode(l, r, &guts.IV, 0)
	}
	if node.Flags |= flags; guts.ChainingValue(node) != want {
		return fmt.Errorf("%w: not of this hash", ErrRangeProof)
	}
	if size <= groupSize {
		if err := write(v.dst, b[max(v.off-pos, 0):min(v.off+v.n-pos, size)]); err != nil {
			return fmt.Errorf("workload: range: %w", err)
		}
		return nil
	}
	mid := leftSize(size)
	if err := v.subtree(l, pos, mid, 0); err != nil {
		return err
	}
	return v.subtree(r, pos+mid, size-mid, 0)
}

func (v *verifier) length() (int64, error) {
	var b [8]byte
	if err := v.read(b[:]); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(b[:])
	if n == 0 || n > math.MaxInt64 {
		return 0, fmt.Errorf("%w: length %d", ErrRangeProof, n)
	}
	return int64(n), nil
}

func (v *verifier) read(p []byte) error {
	n, err := v.proof.fill(p)
	if n == len(p) && (err == nil || err == io.EOF) {
		return nil
	}
	if err := v.proof.ctx.Err(); err != nil {
		return fmt.Errorf("workload: range: %w", err)
	}
	if p, ok := err.(*PanicError); ok {
		return fmt.Errorf("workload: range: %w", p)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrRangeProof, err)
}

func checkRange(off, n, size int64) error {
	if off < 0 || n <= 0 || off > size-n {
		return fmt.Errorf("%w: %d bytes at %d of %d", ErrRange, n, off, size)
	}
	return nil
}

// leftSize is the length of the left subtree of size bytes, two or more groups.
func leftSize(size int64) int64 { return 1 << (bits.Len64(uint64(size-1)) - 1) }

// hashesSize is what the inner nodes of size bytes take in an outboard.
func hashesSize(size int64) int64 { return 64 * ((max(size, 1) - 1) / groupSize) }

func outboardSize(size int64) int64 { return 8 + hashesSize(size) }

// cv is a chaining value: the hash of a subtree, as words.
type cv = [8]uint32

func putHash(b []byte, h cv) {
	for i, word := range h {
		binary.LittleEndian.PutUint32(b[4*i:], word)
	}
}

func parseHash(b []byte) (h cv) {
	for i := range h {
		h[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return h
}
