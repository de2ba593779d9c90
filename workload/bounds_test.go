package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/computemarket/computemarket/internal/callback"
)

// heap returns the bytes in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // sync.Pool keeps its own for one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// "An entry takes about 200 bytes and its ID", whatever the ID and the kind were
// cut from, and whoever waited for it.
func TestMemoryOfAnEntry(t *testing.T) {
	const n, promised = 2000, 200
	for _, waited := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRunner(t, &Options{CacheEntries: n})
			before := heap()
			ids := 0
			for i := range n {
				message := fmt.Sprintf("%08d%s%s", i, Transcode, strings.Repeat("x", 64<<10))
				id, kind := message[:8], Kind(message[8:8+len(Transcode)])
				ids += len(id)
				run := func() {
					if _, err := r.Run(t.Context(), Slice{id, kind, Bytes(nil)}); err != nil {
						t.Error(err)
					}
				}
				if !waited {
					run()
					continue
				}
				_, err := r.cache.do(t.Context(), id, func() (fact, error) {
					go run() // waits for this one
					synctest.Wait()
					return fact{work: r.works[kind], proof: Sum(nil)}, nil
				}, nil)
				if err != nil {
					t.Error(err)
				}
				synctest.Wait()
			}
			each := (heap() - before - int64(ids)) / n
			t.Logf("waited for: %v: %d bytes an entry and its ID", waited, each)
			if each > promised && !raceEnabled {
				t.Errorf("waited for: %v: %d bytes an entry, want %d", waited, each, promised)
			}
			runtime.KeepAlive(r)
		})
	}
}

// The kinds of Options may be cut from a text as well.
func TestKindsAreCopied(t *testing.T) {
	message := "own" + strings.Repeat("x", 32<<20)
	before := heap()
	r := newRunner(t, &Options{Jobs: map[Kind]Job{Kind(message[:3]): HashJob{}}})
	message = ""
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("%d bytes kept", grown)
	}
	runtime.KeepAlive(r)
}

// A job that is HashJob by another name, or around it, keeps to Workers, and so
// does one that hashes on its own with the ctx it was given.
func TestWorkersBoundEveryJob(t *testing.T) {
	type embeds struct{ HashJob }
	for name, job := range map[string]Job{
		"value": HashJob{}, "pointer": &HashJob{}, "method": JobFunc(HashJob{}.Run), "embedded": embeds{}, "embedded pointer": &embeds{},
		"on its own": JobFunc(func(ctx context.Context, in io.Reader) (Hash, error) {
			return SumInput(ctx, ReaderAt(atFunc(func(p []byte, off int64) (int, error) { return io.ReadFull(in, p) }), 1<<40))
		}),
	} {
		for _, form := range []string{"stream", "at"} {
			synctest.Test(t, func(t *testing.T) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
				r := newRunner(t, &Options{Workers: 1, Jobs: map[Kind]Job{"x": job}})
				var at, most, count atomic.Int64
				hold := make(chan struct{})
				read := func(p []byte) (int, error) {
					most.Store(max(most.Load(), at.Add(1)))
					defer at.Add(-1)
					if count.Add(1) <= 20 {
						<-hold
						return len(p), nil
					}
					return 0, errBroken
				}
				in := Reader(readerFunc(read))
				if form == "at" {
					in = ReaderAt(atFunc(func(p []byte, _ int64) (int, error) { return read(p) }), 40*segmentSize)
				}
				done := start(t.Context(), r, Slice{"id", "x", in})
				for range 20 {
					if r.slots.TryAcquire(1) {
						t.Errorf("%s, %s: the job runs without a slot", name, form)
						r.slots.Release(1)
					}
					select {
					case hold <- struct{}{}:
					default:
					}
					synctest.Wait()
				}
				close(hold)
				<-done
				if most.Load() > 1 {
					t.Errorf("%s, %s: %d goroutines of 1", name, form, most.Load())
				}
			})
		}
	}
}

func TestNilJobs(t *testing.T) {
	type nothing struct{ Job }
	for _, job := range []Job{nil, (*HashJob)(nil), JobFunc(nil), (*nothing)(nil)} {
		if _, err := New(&Options{Jobs: map[Kind]Job{Transcode: job}}); !errors.Is(err, ErrOptions) {
			t.Errorf("%T: %v, want ErrOptions", job, err)
		}
	}
}

// Zero values say what is missing.
func TestZeroValues(t *testing.T) {
	var r Runner
	s := Slice{"id", Transcode, Bytes(nil)}
	if _, err := r.Run(t.Context(), s); !errors.Is(err, ErrOptions) {
		t.Errorf("Run: %v, want ErrOptions", err)
	}
	if got, err := r.RunAll(t.Context(), []Slice{s, s}); !errors.Is(err, ErrOptions) || len(got) != 2 {
		t.Errorf("RunAll: %v, %v, want ErrOptions", got, err)
	}
	if _, err := File(nil); !errors.Is(err, ErrOptions) {
		t.Errorf("File: %v, want ErrOptions", err)
	}
	if err := ProveRange(t.Context(), io.Discard, Bytes([]byte("x")), nil, 0, 1); !errors.Is(err, ErrRangeProof) {
		t.Errorf("an Outboard: %v, want ErrRangeProof", err)
	}
	if err := (&PanicError{}); err.Unwrap() != nil || err.Error() == "" {
		t.Errorf("a PanicError: %v", err)
	}
}

// Whatever one slice does, all the others are run, with one worker too.
func TestRunAllOutlivesEverySlice(t *testing.T) {
	exits := JobFunc(func(context.Context, io.Reader) (Hash, error) { runtime.Goexit(); return Hash{}, nil })
	panics := JobFunc(func(context.Context, io.Reader) (Hash, error) { panic("boom") })
	for _, workers := range []int{1, 2} {
		for _, entries := range []int{-1, 0} {
			r := newRunner(t, &Options{Workers: workers, CacheEntries: entries, Jobs: map[Kind]Job{"exits": exits, "panics": panics}})
			in := Bytes([]byte("x"))
			leaves := Reader(readerFunc(func([]byte) (int, error) { runtime.Goexit(); return 0, nil }))
			got, err := r.RunAll(t.Context(), []Slice{
				{"a", "exits", in}, {"b", "exits", in}, {"c", "panics", in}, {"d", Transcode, leaves}, {"e", Transcode, in},
			})
			if got[4] != Sum([]byte("x")) || !errors.Is(err, callback.ErrGoexit) || strings.Contains(err.Error(), "not run") {
				t.Errorf("%d workers: %v, %v", workers, got, err)
			}
			for _, id := range []string{`"a"`, `"b"`, `"c"`, `"d"`} {
				if !strings.Contains(err.Error(), id) {
					t.Errorf("%d workers: %v does not name %s", workers, err, id)
				}
			}
		}
	}
}

// A File is its content from the start to the end, whatever its offset and its
// stated length are.
func TestFilesWithoutALength(t *testing.T) {
	for _, path := range []string{"/proc/self/cmdline", "/sys/kernel/mm/transparent_hugepage/enabled", "/proc/filesystems"} {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Logf("%v: skipped", err)
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Read(make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it can be done again: the offset stays where it is
			in, err := File(f)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := SumInput(t.Context(), in); err != nil || got != Sum(want) {
				t.Errorf("%s: %v, %v, want the hash of %d bytes", path, got, err, len(want))
			}
		}
	}
	empty, err := os.Create(t.TempDir() + "/empty")
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	in, err := File(empty)
	if err != nil || in.Size() != 0 {
		t.Fatalf("an empty file is of size %d, %v", in.Size(), err)
	}
	if o, h, err := NewOutboard(t.Context(), in); err != nil || len(o) != 8 || h != Sum(nil) {
		t.Errorf("outboard of an empty file: %d bytes, %v, %v", len(o), h, err)
	}
}

func TestStatedLengths(t *testing.T) {
	r := strings.NewReader("abc")
	for size, want := range map[int64]bool{0: false, 2: false, 3: true, 4: false, 4096: false} {
		if got := endsAt(r, size); got != want {
			t.Errorf("3 bytes that say %d: %v, want %v", size, got, want)
		}
	}
	if !endsAt(strings.NewReader(""), 0) {
		t.Error("an empty file that says so")
	}
}
