package workload

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"lukechampine.com/blake3/bao"
)

// rangeGroup is the base-2 logarithm of the chunks in a group, the least piece
// that a proof carries: 16 KiB. Groups of one chunk would cost an outboard of 6 %
// of the content and one vector lane in sixteen.
const (
	rangeGroup = 4
	groupSize  = 1024 << rangeGroup
)

// An Outboard holds the inner hashes of one slice's BLAKE3 tree, 64 bytes for
// each 16 KiB of content after the first. It is a Bao outboard encoding
// (https://github.com/oconnor663/bao/blob/master/docs/spec.md) over groups of 16
// chunks, and may be stored and sent as it is. Who gets one from a stranger need
// not trust it: a proof cut with a false outboard does not verify.
type Outboard []byte

// NewOutboard reads in once and returns its outboard and its hash, which is the
// proof that [HashJob] gives. The length must be known beforehand, for it decides
// how much memory is taken: a stream is [ErrSlice].
func NewOutboard(ctx context.Context, in Input) (Outboard, Hash, error) {
	if err := in.validate(); err != nil {
		return nil, Hash{}, err
	}
	if in.size < 0 {
		return nil, Hash{}, fmt.Errorf("%w: an outboard needs an input of known size", ErrSlice)
	}
	o := make(Outboard, outboardSize(in.size))
	h, err := bao.Encode(sliceWriter(o), ctxReader{ctx, in.reader()}, in.size, rangeGroup, true)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, Hash{}, fmt.Errorf("workload: outboard: %w", err)
	}
	return o, h, nil
}

// ProveRange writes to dst the proof of the n bytes at off of in, which o was
// made from. A proof holds the bytes themselves, whole groups of them, the last
// group of the slice, which proves the slice's length, and a path of hashes to
// each. Nothing else of in is read.
//
// Possible errors are [ErrRange], [ErrRangeProof] if o is not an outboard of
// in's length, [ErrSlice] for a stream, and those of in and dst. Whether o and
// in belong together is for [VerifyRange] to see.
func ProveRange(dst io.Writer, in Input, o Outboard, off, n int64) error {
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
	at := in.at
	if in.form == formBytes {
		at = bytes.NewReader(in.b)
	}
	extract := func(off, n int64) error {
		// ExtractSlice wants the groups of the slice and nothing before them.
		start := off - off%groupSize
		data := io.NewSectionReader(at, start, in.size-start)
		err := bao.ExtractSlice(dst, data, bytes.NewReader(o), rangeGroup, uint64(off), uint64(n))
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	err := extract(in.size-1, 1)
	if err == nil {
		err = extract(off, n)
	}
	if err != nil {
		return fmt.Errorf("workload: range proof: %w", err)
	}
	return nil
}

// VerifyRange reads a proof that [ProveRange] wrote for the same off and n, and
// writes the n bytes to dst. It returns the length of the whole slice. Nothing is
// trusted but the slice's hash: each group of bytes is checked before it is
// written, so what reached dst before an error is right too. Of proof it reads
// what belongs to it and no byte more.
//
// Possible errors are [ErrRange], [ErrRangeProof] and those of dst. An error of
// the reader is wrapped in ErrRangeProof.
func VerifyRange(dst io.Writer, proof io.Reader, hash Hash, off, n int64) (size int64, err error) {
	if err := checkRange(off, n, math.MaxInt64); err != nil {
		return 0, err
	}
	// The last group first: only a path to it proves the length, and with it the
	// shape of the tree.
	length, err := readLength(proof)
	if err != nil {
		return 0, err
	}
	if length == 0 || length > math.MaxInt64 {
		return 0, fmt.Errorf("%w: length %d", ErrRangeProof, length)
	}
	if err := verify(io.Discard, proof, hash, length, length-1, 1); err != nil {
		return 0, err
	}
	if err := checkRange(off, n, int64(length)); err != nil {
		return 0, err
	}
	again, err := readLength(proof)
	if err != nil {
		return 0, err
	}
	if again != length {
		return 0, fmt.Errorf("%w: two lengths, %d and %d", ErrRangeProof, length, again)
	}
	if err := verify(dst, proof, hash, length, uint64(off), uint64(n)); err != nil {
		return 0, err
	}
	return int64(length), nil
}

// verify checks one Bao slice, whose length was read before.
func verify(dst io.Writer, proof io.Reader, hash Hash, length, off, n uint64) error {
	out := &errWriter{w: dst}
	head := binary.LittleEndian.AppendUint64(nil, length)
	ok, err := bao.DecodeSlice(out, io.MultiReader(bytes.NewReader(head), proof), rangeGroup, off, n, hash)
	switch {
	case out.err != nil:
		return fmt.Errorf("workload: range: %w", out.err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrRangeProof, err)
	case !ok:
		return fmt.Errorf("%w: not of this hash", ErrRangeProof)
	}
	return nil
}

func readLength(proof io.Reader) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(proof, b[:]); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrRangeProof, err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

func checkRange(off, n, size int64) error {
	if off < 0 || n <= 0 || off > size-n {
		return fmt.Errorf("%w: %d bytes at %d of %d", ErrRange, n, off, size)
	}
	return nil
}

func outboardSize(size int64) int64 { return 8 + 64*((max(size, 1)-1)/groupSize) }

// sliceWriter is an io.WriterAt within a slice.
type sliceWriter []byte

func (s sliceWriter) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(s)) {
		return 0, errors.New("workload: write outside the outboard")
	}
	return copy(s[off:], p), nil
}

type ctxReader struct {
	ctx context.Context // of one call, which the reader does not outlive
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// errWriter tells an error of the destination from one of the proof.
type errWriter struct {
	w   io.Writer
	err error
}

func (e *errWriter) Write(p []byte) (int, error) {
	n, err := e.w.Write(p)
	if err != nil {
		e.err = err
	}
	return n, err
}
