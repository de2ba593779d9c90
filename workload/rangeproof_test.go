package workload

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"lukechampine.com/blake3/bao"
	"pgregory.net/rapid"
)

func mustProve(t testing.TB, b []byte, off, n int64) ([]byte, Hash) {
	t.Helper()
	o, h, err := NewOutboard(t.Context(), Bytes(b))
	if err != nil {
		t.Fatal(err)
	}
	var proof bytes.Buffer
	if err := ProveRange(context.Background(), &proof, Bytes(b), o, off, n); err != nil {
		t.Fatal(err)
	}
	return proof.Bytes(), h
}

// Every bit of a proof counts, that of the length too.
func TestEveryBitOfARangeProof(t *testing.T) {
	for _, c := range []struct {
		size   int
		off, n int64
	}{
		{1, 0, 1},
		{300, 17, 40},
		{groupSize + 1, 3, 5},                // a range that the last group is no part of
		{groupSize + 1, groupSize - 1, 2},    // across groups
		{2*groupSize + 77, 2 * groupSize, 9}, // in the last group
	} {
		b := noise(c.size, 2)
		proof, h := mustProve(t, b, c.off, c.n)
		var out bytes.Buffer
		if size, err := VerifyRange(context.Background(), &out, bytes.NewReader(proof), h, c.off, c.n); err != nil || size != int64(c.size) {
			t.Fatalf("%+v: size %d, %v", c, size, err)
		}
		if !bytes.Equal(out.Bytes(), b[c.off:c.off+c.n]) {
			t.Fatalf("%+v: other bytes came out", c)
		}
		// All bits near the borders, and each byte of the long groups once.
		for bit := range 8 * len(proof) {
			if i := bit / 8; len(proof) > 1000 && i > 300 && i < len(proof)-300 && bit%8 != i%8 && !*sweep {
				continue
			}
			proof[bit/8] ^= 1 << (bit % 8)
			if _, err := VerifyRange(context.Background(), io.Discard, bytes.NewReader(proof), h, c.off, c.n); !errors.Is(err, ErrRangeProof) {
				t.Fatalf("%+v: bit %d flipped: %v, want ErrRangeProof", c, bit, err)
			}
			proof[bit/8] ^= 1 << (bit % 8)
		}
		for bit := range 8 * len(h) {
			h[bit/8] ^= 1 << (bit % 8)
			if _, err := VerifyRange(context.Background(), io.Discard, bytes.NewReader(proof), h, c.off, c.n); !errors.Is(err, ErrRangeProof) {
				t.Fatalf("%+v: bit %d of the hash flipped: %v, want ErrRangeProof", c, bit, err)
			}
			h[bit/8] ^= 1 << (bit % 8)
		}
		for n := range min(len(proof), 2000) {
			if _, err := VerifyRange(context.Background(), io.Discard, bytes.NewReader(proof[:n]), h, c.off, c.n); !errors.Is(err, ErrRangeProof) {
				t.Fatalf("%+v: proof cut to %d bytes: %v, want ErrRangeProof", c, n, err)
			}
		}
	}
}

func TestAnyRange(t *testing.T) {
	content := noise(40*groupSize, 3)
	rapid.Check(t, func(t *rapid.T) {
		edge := rapid.SampledFrom([]int{1, 2, 3, 4, 8, 32}).Draw(t, "groups") * groupSize
		size := rapid.IntRange(max(1, edge-2), edge+2*groupSize).Draw(t, "size")
		b := content[:size]
		off := rapid.IntRange(0, size-1).Draw(t, "off")
		n := rapid.IntRange(1, size-off).Draw(t, "n")

		in := ReaderAt(bytes.NewReader(b), int64(size))
		o, h, err := NewOutboard(context.Background(), in)
		if err != nil || h != Sum(b) {
			t.Fatalf("outboard of %v, %v, want %v", h, err, Sum(b))
		}
		var proof, out bytes.Buffer
		if err := ProveRange(context.Background(), &proof, in, o, int64(off), int64(n)); err != nil {
			t.Fatal(err)
		}
		proof.WriteString("what follows")
		got, err := VerifyRange(context.Background(), &out, iotest.OneByteReader(&proof), h, int64(off), int64(n))
		if err != nil || got != int64(size) || !bytes.Equal(out.Bytes(), b[off:off+n]) {
			t.Fatalf("%d bytes of size %d, %v", out.Len(), got, err)
		}
		if proof.String() != "what follows" {
			t.Fatalf("%q left behind the proof", proof.String())
		}
	})
}

// A proof is of one range: it does not pass for a longer one, nor for one in
// another group.
func TestProofOfAnotherRange(t *testing.T) {
	b := noise(5*groupSize+5, 4)
	proof, h := mustProve(t, b, groupSize, groupSize)
	for _, r := range [][2]int64{{0, 10}, {groupSize, groupSize + 1}, {groupSize - 1, groupSize}, {4 * groupSize, 3}} {
		if _, err := VerifyRange(context.Background(), io.Discard, bytes.NewReader(proof), h, r[0], r[1]); !errors.Is(err, ErrRangeProof) {
			t.Errorf("as proof of %d bytes at %d: %v, want ErrRangeProof", r[1], r[0], err)
		}
	}
}

func TestRangeErrors(t *testing.T) {
	b := noise(3*groupSize, 5)
	in := Bytes(b)
	o, h, err := NewOutboard(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	proof, _ := mustProve(t, b, 0, 1)
	for _, r := range [][2]int64{{0, 0}, {-1, 1}, {0, -1}, {0, in.size + 1}, {in.size, 1}, {math.MaxInt64, 1}, {1, math.MaxInt64}, {math.MinInt64, math.MaxInt64}} {
		if err := ProveRange(context.Background(), io.Discard, in, o, r[0], r[1]); !errors.Is(err, ErrRange) {
			t.Errorf("ProveRange(%d, %d): %v, want ErrRange", r[0], r[1], err)
		}
		if _, err := VerifyRange(context.Background(), io.Discard, bytes.NewReader(proof), h, r[0], r[1]); !errors.Is(err, ErrRange) {
			t.Errorf("VerifyRange(%d, %d): %v, want ErrRange", r[0], r[1], err)
		}
	}
	for name, bad := range map[string]Outboard{"none": nil, "short": o[:len(o)-1], "long": append(o[:len(o):len(o)], 0), "other length": append(Outboard{1}, o[1:]...)} {
		if err := ProveRange(context.Background(), io.Discard, in, bad, 0, 1); !errors.Is(err, ErrRangeProof) {
			t.Errorf("outboard %s: %v, want ErrRangeProof", name, err)
		}
	}
	stream := Reader(bytes.NewReader(b))
	if _, _, err := NewOutboard(t.Context(), stream); !errors.Is(err, ErrSlice) {
		t.Errorf("outboard of a stream: %v, want ErrSlice", err)
	}
	if err := ProveRange(context.Background(), io.Discard, stream, o, 0, 1); !errors.Is(err, ErrSlice) {
		t.Errorf("range of a stream: %v, want ErrSlice", err)
	}
	short := ReaderAt(bytes.NewReader(b[:groupSize]), in.size)
	if _, _, err := NewOutboard(t.Context(), short); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("outboard of a short file: %v, want ErrUnexpectedEOF", err)
	}
	if err := ProveRange(context.Background(), io.Discard, short, o, 0, in.size); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("range of a short file: %v, want ErrUnexpectedEOF", err)
	}
	full := errors.New("disk full")
	if _, err := VerifyRange(context.Background(), failingWriter{full}, bytes.NewReader(proof), h, 0, 1); !errors.Is(err, full) || errors.Is(err, ErrRangeProof) {
		t.Errorf("full disk: %v", err)
	}
	if err := ProveRange(context.Background(), failingWriter{full}, in, o, 0, 1); !errors.Is(err, full) {
		t.Errorf("full disk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := NewOutboard(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if o, h, err := NewOutboard(t.Context(), Bytes(nil)); err != nil || len(o) != 8 || h != Sum(nil) {
		t.Errorf("outboard of nothing: %d bytes, %v, %v", len(o), h, err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// No proof makes VerifyRange panic, and what it lets through is the content.
func FuzzVerifyRange(f *testing.F) {
	b := noise(100, 6) // short, or the fuzzer does nothing but minimize
	proof, h := mustProve(f, b, 5, 6)
	f.Add(proof, int64(5), int64(6))
	f.Add(proof[:40], int64(0), int64(1))
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 127}, int64(0), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, proof []byte, off, n int64) {
		var out bytes.Buffer
		if _, err := VerifyRange(context.Background(), &out, bytes.NewReader(proof), h, off, n); err != nil {
			return
		}
		if !bytes.Equal(out.Bytes(), b[off:off+n]) {
			t.Fatal("other bytes came out")
		}
	})
}

// Proofs made by someone who wants them to pass: bits, words and whole parts of
// real proofs changed, moved, cut, repeated and mixed with those of other content
// and other ranges. Whatever VerifyRange lets through is the content.
func TestHostileProofs(t *testing.T) {
	const seed = 84860
	tries := 8_000
	if *sweep {
		tries = 84_860
	}
	rnd := rand.New(rand.NewPCG(seed, 0))
	sizes := []int{1, 700, groupSize, groupSize + 1, 3*groupSize + 5}
	type real struct {
		content, proof []byte
		hash           Hash
		off, n         int64
	}
	var pool []real
	for i, size := range sizes {
		for j := range 4 {
			b := noise(size, uint64(10*i+j))
			off := rnd.Int64N(int64(size))
			n := 1 + rnd.Int64N(int64(size)-off)
			proof, hash := mustProve(t, b, off, n)
			pool = append(pool, real{b, proof, hash, off, n})
		}
	}
	refused := 0
	for i := range tries {
		r, other := pool[rnd.IntN(len(pool))], pool[rnd.IntN(len(pool))]
		p := bytes.Clone(r.proof)
		for range 1 + rnd.IntN(3) {
			at, to := rnd.IntN(len(p)), rnd.IntN(len(p))
			if rnd.IntN(2) == 0 { // most of the interest lies in lengths and hashes
				at = min(at, rnd.IntN(200))
			}
			switch rnd.IntN(7) {
			case 0:
				p[at] ^= 1 << rnd.IntN(8)
			case 1:
				p[at] = byte(rnd.Uint32())
			case 2:
				p = p[:max(at, 1)]
			case 3:
				copy(p[at:], p[to:min(to+64, len(p))])
			case 4:
				copy(p[at:], other.proof[min(at, len(other.proof)):])
			case 5:
				p = append(p[:at:at], p[min(at+32<<rnd.IntN(2), len(p)-1):]...)
			case 6:
				binary.LittleEndian.PutUint64(append(p[:min(at, max(len(p)-8, 0))], make([]byte, 8)...)[min(at, max(len(p)-8, 0)):], rnd.Uint64()>>rnd.IntN(64))
			}
			if len(p) == 0 {
				p = []byte{0}
			}
		}
		off, n := r.off, r.n
		if rnd.IntN(8) == 0 {
			off, n = other.off, other.n
		}
		var out bytes.Buffer
		size, err := VerifyRange(context.Background(), &out, bytes.NewReader(p), r.hash, off, n)
		if err != nil {
			if !errors.Is(err, ErrRangeProof) && !errors.Is(err, ErrRange) || size != 0 {
				t.Fatalf("seed %d, try %d: size %d, %v", seed, i, size, err)
			}
			refused++
			// What came out before the error is right as well.
			if end := min(off+int64(out.Len()), int64(len(r.content))); out.Len() > 0 && !bytes.Equal(out.Bytes(), r.content[off:end]) {
				t.Fatalf("seed %d, try %d: other bytes came out before %v", seed, i, err)
			}
			continue
		}
		if size != int64(len(r.content)) || !bytes.Equal(out.Bytes(), r.content[off:off+n]) {
			t.Fatalf("seed %d, try %d: %d bytes of size %d came out as the content", seed, i, out.Len(), size)
		}
	}
	t.Logf("%d of %d refused", refused, tries)
	if refused < tries*3/4 {
		t.Errorf("%d of %d refused: the changes are too small to tell anything", refused, tries)
	}
}

// The format is Bao's: another implementation reads the outboard and the proofs.
func TestRangeProofsAreBao(t *testing.T) {
	for _, size := range []int{1, groupSize, groupSize + 1, 2 * groupSize, 5*groupSize + 77, 40 * groupSize} {
		b := noise(size, 9)
		o, h, err := NewOutboard(t.Context(), Bytes(b))
		if err != nil {
			t.Fatal(err)
		}
		want, root := bao.EncodeBuf(b, rangeGroup, true)
		if !bytes.Equal(o, want) || h != root {
			t.Errorf("%d bytes: another outboard than Bao's", size)
		}
		off, n := int64(size/3), int64(size-size/3+1)/2
		proof, _ := mustProve(t, b, off, n)
		var slices bytes.Buffer
		for _, r := range [][2]int64{{int64(size) - 1, 1}, {off, n}} {
			start := r[0] - r[0]%groupSize
			if err := bao.ExtractSlice(&slices, bytes.NewReader(b[start:]), bytes.NewReader(o), rangeGroup, uint64(r[0]), uint64(r[1])); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(proof, slices.Bytes()) {
			t.Errorf("%d bytes: another proof than Bao's", size)
		}
	}
}

// What a proof costs grows with the range and the depth of the tree, not with the
// slice: nothing else of the content is asked for.
func TestProveRangeReadsLittle(t *testing.T) {
	const size = 1000 * groupSize
	b := make([]byte, size)
	o, _, err := NewOutboard(t.Context(), Bytes(b))
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	in := ReaderAt(atFunc(func(p []byte, off int64) (int, error) { read += len(p); return copy(p, b[off:]), nil }), size)
	var proof bytes.Buffer
	if err := ProveRange(t.Context(), &proof, in, o, 500*groupSize, 1); err != nil || read != 2*groupSize {
		t.Errorf("%d bytes read, want %d, %v", read, 2*groupSize, err)
	}
	if most := 2*groupSize + 2*(8+64*10); proof.Len() > most {
		t.Errorf("a proof of %d bytes, want at most %d", proof.Len(), most)
	}
}
