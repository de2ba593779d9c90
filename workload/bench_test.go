package workload

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/bao"
)

// report gives the floor's time over our own: 1 is as fast, 2 twice as fast.
func report(b *testing.B, own, floor time.Duration) {
	b.ReportMetric(float64(floor)/float64(own), "xfloor")
}

// 1 GiB in memory on all cores. Floor: blake3.Sum256, parallel too. Target: 1.30.
func BenchmarkHashLarge(b *testing.B) {
	content := noise(1<<30, 1)
	b.SetBytes(int64(len(content)))
	var own, floor time.Duration
	for b.Loop() {
		t0 := time.Now()
		h := Sum(content)
		own += time.Since(t0)
		b.StopTimer()
		t0 = time.Now()
		f := blake3.Sum256(content)
		floor += time.Since(t0)
		b.StartTimer()
		if h != f {
			b.Fatalf("%v, want %v", h, Hash(f))
		}
	}
	report(b, own, floor)
}

// 10,000 slices of 4 KiB, none seen before. Floor: a bare loop of blake3.Sum256 on
// as many goroutines. Target: 0.9.
func BenchmarkRunManySmall(b *testing.B) {
	const n, size = 10_000, 4096
	content := noise(n*size, 1)
	slices := make([]Slice, n)
	for i := range slices {
		slices[i] = Slice{fmt.Sprint("slice-", i), Transcode, Bytes(content[i*size : (i+1)*size])}
	}
	b.SetBytes(n * size)
	hashes := make([]Hash, n)
	var own, floor time.Duration
	for b.Loop() {
		r := newRunner(b, nil)
		t0 := time.Now()
		got, err := r.RunAll(b.Context(), slices)
		own += time.Since(t0)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		t0 = time.Now()
		var next atomic.Int64
		var wg sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
					hashes[i] = blake3.Sum256(content[i*size : (i+1)*size])
				}
			})
		}
		wg.Wait()
		floor += time.Since(t0)
		b.StartTimer()
		if got[n-1] != hashes[n-1] {
			b.Fatal("wrong hash")
		}
	}
	report(b, own, floor)
}

// A slice that was run before: its content is recognised, not hashed. Floor: the
// same run without a cache. Target: no allocation.
func BenchmarkRunCached(b *testing.B) {
	for _, size := range []int{4 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) { runCached(b, size) })
	}
}

// The same of 64 MiB, on all cores. It allocates for the goroutines that help.
func BenchmarkRunCachedLarge(b *testing.B) { runCached(b, 64<<20) }

func runCached(b *testing.B, size int) {
	s := Slice{"id", Transcode, Bytes(noise(size, 1))}
	cached, bare := newRunner(b, nil), newRunner(b, &Options{CacheEntries: -1})
	run := func(r *Runner) {
		if _, err := r.Run(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
	run(cached) // the proof
	run(cached) // the tag
	b.SetBytes(int64(size))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		run(cached)
		n++
	}
	own := b.Elapsed()
	t0 := time.Now()
	for range n {
		run(bare)
	}
	report(b, own, time.Since(t0))
}

// 1 GiB as a stream. Floor: blake3.Hasher fed by io.Copy with a buffer of the same
// length.
func BenchmarkHashStream(b *testing.B) {
	const size = 1 << 30
	b.SetBytes(size)
	var own, floor time.Duration
	for b.Loop() {
		t0 := time.Now()
		if _, err := SumInput(b.Context(), Reader(io.LimitReader(zeros{}, size))); err != nil {
			b.Fatal(err)
		}
		own += time.Since(t0)
		b.StopTimer()
		t0 = time.Now()
		h := blake3.New(32, nil)
		if _, err := io.CopyBuffer(h, io.LimitReader(zeros{}, size), make([]byte, segmentSize)); err != nil {
			b.Fatal(err)
		}
		floor += time.Since(t0)
		b.StartTimer()
	}
	report(b, own, floor)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// The outboard of 64 MiB. Floor: the same by bao.EncodeBuf.
func BenchmarkNewOutboard(b *testing.B) {
	content := noise(64<<20, 1)
	b.SetBytes(int64(len(content)))
	var own, floor time.Duration
	for b.Loop() {
		t0 := time.Now()
		if _, _, err := NewOutboard(b.Context(), Bytes(content)); err != nil {
			b.Fatal(err)
		}
		own += time.Since(t0)
		b.StopTimer()
		t0 = time.Now()
		bao.EncodeBuf(content, rangeGroup, true)
		floor += time.Since(t0)
		b.StartTimer()
	}
	report(b, own, floor)
}

// A proof of 100 bytes of 64 MiB, and its verification.
func BenchmarkProveRange(b *testing.B) {
	content := Bytes(noise(64<<20, 1))
	outboard, hash, err := NewOutboard(b.Context(), content)
	if err != nil {
		b.Fatal(err)
	}
	var proof bytes.Buffer
	b.Run("prove", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			proof.Reset()
			if err := ProveRange(b.Context(), &proof, content, outboard, 10_000_000, 100); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := VerifyRange(b.Context(), io.Discard, bytes.NewReader(proof.Bytes()), hash, 10_000_000, 100); err != nil {
				b.Fatal(err)
			}
		}
	})
}
