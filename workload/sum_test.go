package workload

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"lukechampine.com/blake3"
	"pgregory.net/rapid"
)

// pattern is the input of the published vectors.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// noise returns n bytes that seed determines.
func noise(n int, seed uint64) []byte {
	var key [32]byte
	key[0], key[1], key[2], key[3] = byte(seed), byte(seed>>8), byte(seed>>16), byte(seed>>24)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// forms are the ways to give the same content.
var forms = map[string]func(b []byte) Input{
	"bytes":  Bytes,
	"stream": func(b []byte) Input { return Reader(bytes.NewReader(b)) },
	"pieces": func(b []byte) Input { return Reader(iotest.HalfReader(bytes.NewReader(b))) },
	"eof":    func(b []byte) Input { return Reader(iotest.DataErrReader(bytes.NewReader(b))) },
	"at":     func(b []byte) Input { return ReaderAt(bytes.NewReader(b), int64(len(b))) },
	"at+more": func(b []byte) Input {
		return ReaderAt(bytes.NewReader(append(b[:len(b):len(b)], "more"...)), int64(len(b)))
	},
}

func TestVectors(t *testing.T) {
	f, err := os.Open("testdata/blake3.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := map[int]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := lines.Text(); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var n int
		var hex string
		if _, err := fmt.Sscan(lines.Text(), &n, &hex); err != nil {
			t.Fatal(err)
		}
		want, err := ParseHash(hex)
		if err != nil {
			t.Fatal(err)
		}
		seen[n] = true
		b := pattern(n)
		if got := Sum(b); got != want {
			t.Errorf("Sum of %d bytes is %v, want %v", n, got, want)
		}
		for name, input := range forms {
			if got, err := SumInput(t.Context(), input(b)); got != want || err != nil {
				t.Errorf("SumInput of %d bytes as %s is %v, %v, want %v", n, name, got, err, want)
			}
		}
	}
	for _, n := range []int{0, 1, 1023, 1024, 1025, 2048, batchSize - 1, batchSize, batchSize + 1,
		segmentSize - 1, segmentSize, segmentSize + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		if !seen[n] {
			t.Errorf("no vector of %d bytes", n)
		}
	}
}

// Any length in any form hashes as the library does it serially.
func TestParallelEqualsSerial(t *testing.T) {
	content := noise(6<<20, 1)
	rapid.Check(t, func(t *rapid.T) {
		edge := rapid.SampledFrom([]int{0, 1024, batchSize, segmentSize, parallelSize, 2 * parallelSize}).Draw(t, "edge")
		n := rapid.IntRange(max(0, edge-1100), edge+2*segmentSize).Draw(t, "n")
		off := rapid.IntRange(0, 1024).Draw(t, "off")
		b := content[off : off+n]
		h := blake3.New(32, nil)
		for p := b; len(p) > 0; { // chunk by chunk: no tree code of the library's is shared
			k := min(len(p), 1000)
			h.Write(p[:k])
			p = p[k:]
		}
		want := Hash(h.Sum(nil))
		if got := Sum(b); got != want {
			t.Fatalf("Sum of %d bytes is %v, want %v", n, got, want)
		}
		for name, input := range forms {
			if got, err := SumInput(context.Background(), input(b)); got != want || err != nil {
				t.Fatalf("%s of %d bytes is %v, %v, want %v", name, n, got, err, want)
			}
		}
	})
}

// flawedAt fails at the byte at, in the way of fail.
type flawedAt struct {
	b    []byte
	at   int64
	fail func() (int, error)
}

func (f *flawedAt) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.at && f.at < off+int64(len(p)) {
		return f.fail()
	}
	return bytes.NewReader(f.b).ReadAt(p, off)
}

func TestReaderErrors(t *testing.T) {
	const size = 8 << 20
	content := make([]byte, size)
	broken := errors.New("disk on fire")
	ways := map[string]struct {
		fail func() (int, error)
		want error
	}{
		"error":   {func() (int, error) { return 0, broken }, broken},
		"EOF":     {func() (int, error) { return 7, io.EOF }, io.ErrUnexpectedEOF},
		"nothing": {func() (int, error) { return 0, nil }, io.ErrUnexpectedEOF},
		"panic":   {func() (int, error) { panic(broken) }, broken},
	}
	for name, way := range ways {
		for _, at := range []int64{0, 3 * segmentSize, size / 2, size - 1} {
			in := ReaderAt(&flawedAt{content, at, way.fail}, size)
			if h, err := SumInput(t.Context(), in); !errors.Is(err, way.want) || !h.IsZero() {
				t.Errorf("%s at %d: %v, %v, want %v", name, at, h, err, way.want)
			}
		}
	}
	streams := map[string]struct {
		r    io.Reader
		want error
	}{
		"error": {io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)), broken},
		"idle":  {readerFunc(func([]byte) (int, error) { return 0, nil }), io.ErrNoProgress},
		"panic": {readerFunc(func([]byte) (int, error) { panic(broken) }), broken},
	}
	for name, s := range streams {
		if h, err := SumInput(t.Context(), Reader(s.r)); !errors.Is(err, s.want) || !h.IsZero() {
			t.Errorf("stream %s: %v, %v, want %v", name, h, err, s.want)
		}
	}
	long := readerFunc(func(p []byte) (int, error) { return len(p) + 1, nil })
	if h, err := SumInput(t.Context(), Reader(long)); err == nil || !h.IsZero() {
		t.Errorf("impossible count: %v, %v", h, err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// An endless input stops when its context does, in every form.
func TestCancelSum(t *testing.T) {
	for _, form := range []string{"stream", "at"} {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		read := readerFunc(func(p []byte) (int, error) {
			if n++; n == 20 {
				cancel()
			}
			return len(p), nil
		})
		in := Reader(read)
		if form == "at" {
			in = ReaderAt(cancelAt{cancel}, 1<<50)
		}
		if h, err := SumInput(ctx, in); !errors.Is(err, context.Canceled) || !h.IsZero() {
			t.Errorf("%s: %v, %v", form, h, err)
		}
	}
}

type cancelAt struct{ cancel func() }

func (c cancelAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= 20*segmentSize {
		c.cancel()
	}
	return len(p), nil
}

func TestInvalidInput(t *testing.T) {
	for name, in := range map[string]Input{
		"zero": {}, "nil reader": Reader(nil), "nil at": ReaderAt(nil, 1), "negative": ReaderAt(bytes.NewReader(nil), -1),
	} {
		if _, err := SumInput(t.Context(), in); !errors.Is(err, ErrSlice) {
			t.Errorf("%s: %v, want ErrSlice", name, err)
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []int{0, 1, 3 << 20} {
		path := fmt.Sprintf("%s/%d", dir, n)
		if err := os.WriteFile(path, pattern(n), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		in, err := File(f)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := SumInput(t.Context(), in); err != nil || got != Sum(pattern(n)) {
			t.Errorf("file of %d bytes: %v, %v", n, got, err)
		}
		if n == 0 {
			continue
		}
		if err := os.Truncate(path, int64(n-1)); err != nil {
			t.Fatal(err)
		}
		if _, err := SumInput(t.Context(), in); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("file that shrank: %v, want ErrUnexpectedEOF", err)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := File(d); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: %v", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() { w.Write(pattern(100_000)); w.Close() }()
	in, err := File(r)
	if err != nil || in.Size() != -1 {
		t.Fatalf("pipe: size %d, %v", in.Size(), err)
	}
	if got, err := SumInput(t.Context(), in); err != nil || got != Sum(pattern(100_000)) {
		t.Errorf("pipe: %v, %v", got, err)
	}
}
