package workload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func mustProve(t testing.TB, b []byte, off, n int64) ([]byte, Hash) {
	t.Helper()
	o, h, err := NewOutboard(t.Context(), Bytes(b))
	if err != nil {
		t.Fatal(err)
	}
	var proof bytes.Buffer
	if err := ProveRange(&proof, Bytes(b), o, off, n); err != nil {
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
		if size, err := VerifyRange(&out, bytes.NewReader(proof), h, c.off, c.n); err != nil || size != int64(c.size) {
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
			if _, err := VerifyRange(io.Discard, bytes.NewReader(proof), h, c.off, c.n); !errors.Is(err, ErrRangeProof) {
				t.Fatalf("%+v: bit %d flipped: %v, want ErrRangeProof", c, bit, err)
			}
			proof[bit/8] ^= 1 << (bit % 8)
		}
		for bit := range 8 * len(h) {
			h[bit/8] ^= 1 << (bit % 8)
			if _, err := VerifyRange(io.Discard, bytes.NewReader(proof), h, c.off, c.n); !errors.Is(err, ErrRangeProof) {
				t.Fatalf("%+v: bit %d of the hash flipped: %v, want ErrRangeProof", c, bit, err)
			}
			h[bit/8] ^= 1 << (bit % 8)
		}
		for n := range min(len(proof), 2000) {
			if _, err := VerifyRange(io.Discard, bytes.NewReader(proof[:n]), h, c.off, c.n); !errors.Is(err, ErrRangeProof) {
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
		if err := ProveRange(&proof, in, o, int64(off), int64(n)); err != nil {
			t.Fatal(err)
		}
		proof.WriteString("what follows")
		got, err := VerifyRange(&out, iotest.OneByteReader(&proof), h, int64(off), int64(n))
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
		if _, err := VerifyRange(io.Discard, bytes.NewReader(proof), h, r[0], r[1]); !errors.Is(err, ErrRangeProof) {
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
		if err := ProveRange(io.Discard, in, o, r[0], r[1]); !errors.Is(err, ErrRange) {
			t.Errorf("ProveRange(%d, %d): %v, want ErrRange", r[0], r[1], err)
		}
		if _, err := VerifyRange(io.Discard, bytes.NewReader(proof), h, r[0], r[1]); !errors.Is(err, ErrRange) {
			t.Errorf("VerifyRange(%d, %d): %v, want ErrRange", r[0], r[1], err)
		}
	}
	for name, bad := range map[string]Outboard{"none": nil, "short": o[:len(o)-1], "long": append(o[:len(o):len(o)], 0), "other length": append(Outboard{1}, o[1:]...)} {
		if err := ProveRange(io.Discard, in, bad, 0, 1); !errors.Is(err, ErrRangeProof) {
			t.Errorf("outboard %s: %v, want ErrRangeProof", name, err)
		}
	}
	stream := Reader(bytes.NewReader(b))
	if _, _, err := NewOutboard(t.Context(), stream); !errors.Is(err, ErrSlice) {
		t.Errorf("outboard of a stream: %v, want ErrSlice", err)
	}
	if err := ProveRange(io.Discard, stream, o, 0, 1); !errors.Is(err, ErrSlice) {
		t.Errorf("range of a stream: %v, want ErrSlice", err)
	}
	short := ReaderAt(bytes.NewReader(b[:groupSize]), in.size)
	if _, _, err := NewOutboard(t.Context(), short); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("outboard of a short file: %v, want ErrUnexpectedEOF", err)
	}
	if err := ProveRange(io.Discard, short, o, 0, in.size); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("range of a short file: %v, want ErrUnexpectedEOF", err)
	}
	full := errors.New("disk full")
	if _, err := VerifyRange(failingWriter{full}, bytes.NewReader(proof), h, 0, 1); !errors.Is(err, full) || errors.Is(err, ErrRangeProof) {
		t.Errorf("full disk: %v", err)
	}
	if err := ProveRange(failingWriter{full}, in, o, 0, 1); !errors.Is(err, full) {
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
		if _, err := VerifyRange(&out, bytes.NewReader(proof), h, off, n); err != nil {
			return
		}
		if !bytes.Equal(out.Bytes(), b[off:off+n]) {
			t.Fatal("other bytes came out")
		}
	})
}
