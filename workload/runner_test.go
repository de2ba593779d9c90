package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"pgregory.net/rapid"
)

func newRunner(t testing.TB, o *Options) *Runner {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reverse is a job unlike HashJob: it depends on the kind of work, reads in
// small pieces, and counts its runs.
func reverse(runs *atomic.Int64) Job {
	return JobFunc(func(ctx context.Context, in io.Reader) (Hash, error) {
		runs.Add(1)
		b, err := io.ReadAll(iotest.HalfReader(in))
		for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
		return Sum(b), err
	})
}

func TestOptions(t *testing.T) {
	for _, o := range []*Options{
		{Workers: -1},
		{Jobs: map[Kind]Job{Transcode: nil}},
		{Jobs: map[Kind]Job{"": HashJob{}}},
	} {
		if _, err := New(o); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: %v, want ErrOptions", o, err)
		}
	}
}

func TestInvalidSlices(t *testing.T) {
	r := newRunner(t, nil)
	in := Bytes([]byte("x"))
	for _, s := range []Slice{
		{Kind: Transcode, Input: in},
		{ID: strings.Repeat("i", MaxID+1), Kind: Transcode, Input: in},
		{ID: "\xff", Kind: Transcode, Input: in},
		{ID: "a", Kind: Transcode},
		{ID: "a", Kind: Transcode, Input: Reader(nil)},
	} {
		if h, err := r.Run(t.Context(), s); !errors.Is(err, ErrSlice) || !h.IsZero() {
			t.Errorf("%.20q: %v, %v, want ErrSlice", s.ID, h, err)
		}
	}
	for _, kind := range []Kind{"", "mining", "Transcode"} {
		if _, err := r.Run(t.Context(), Slice{ID: "a", Kind: kind, Input: in}); !errors.Is(err, ErrKind) {
			t.Errorf("kind %q: %v, want ErrKind", kind, err)
		}
	}
}

// The proofs do not depend on how many workers there are, on the order, on the
// form of the input or on what runs beside.
func TestSameProofsInAnyOrder(t *testing.T) {
	sizes := []int{0, 1, 1024, 1025, batchSize + 1, segmentSize, segmentSize + 1, parallelSize - 1, parallelSize, parallelSize + segmentSize/2}
	var runs atomic.Int64
	content := make([][]byte, len(sizes))
	want := make([]Hash, 0, 2*len(sizes))
	for i, n := range sizes {
		content[i] = noise(n, uint64(i))
		want = append(want, Sum(content[i]))
	}
	for _, b := range content {
		h, err := reverse(&runs).Run(t.Context(), bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, h)
	}
	for _, workers := range []int{1, 2, 7} {
		for _, cache := range []int{-1, 3, 0} {
			r := newRunner(t, &Options{Workers: workers, CacheEntries: cache, Jobs: map[Kind]Job{Inference: reverse(&runs)}})
			var wg sync.WaitGroup
			for name, input := range forms {
				wg.Go(func() {
					var slices []Slice
					for i, b := range content {
						slices = append(slices, Slice{ID: fmt.Sprint("t", i), Kind: Transcode, Input: input(b)})
					}
					for i, b := range content {
						slices = append(slices, Slice{ID: fmt.Sprint("i", i), Kind: Inference, Input: input(b)})
					}
					got, err := r.RunAll(t.Context(), slices)
					if err != nil {
						t.Errorf("%d workers, %d entries, %s: %v", workers, cache, name, err)
					}
					for i := range got {
						if got[i] != want[i] {
							t.Errorf("%d workers, %d entries, %s: %s is %v, want %v", workers, cache, name, slices[i].ID, got[i], want[i])
						}
					}
				})
			}
			wg.Wait()
		}
	}
}

// Other content under a known ID is refused in every form, whatever differs, and
// the first proof stands. HashJob's facts carry no tag until the first repeat.
func TestMismatch(t *testing.T) {
	var runs atomic.Int64
	for _, kind := range []Kind{Transcode, Inference} {
		for _, n := range []int{1, 1000, batchSize + 5, 2*segmentSize + 100, parallelSize + 100} {
			first := noise(n, 1)
			others := map[string][]byte{
				"first bit": bytes.Clone(first), "last bit": bytes.Clone(first), "middle bit": bytes.Clone(first),
				"shorter": first[:n-1], "longer": append(bytes.Clone(first), 0), "empty": {},
			}
			others["first bit"][0] ^= 1
			others["last bit"][n-1] ^= 0x80
			others["middle bit"][n/2] ^= 0x10
			if n > 2*segmentSize { // whole segments in another order
				swapped := append(bytes.Clone(first[segmentSize:2*segmentSize]), first[:segmentSize]...)
				others["swapped"] = append(swapped, first[2*segmentSize:]...)
			}
			for _, tagged := range []bool{false, true} {
				r := newRunner(t, &Options{Jobs: map[Kind]Job{Inference: reverse(&runs)}})
				want, err := r.Run(t.Context(), Slice{"id", kind, Bytes(first)})
				if err != nil {
					t.Fatal(err)
				}
				if tagged {
					if _, err := r.Run(t.Context(), Slice{"id", kind, Bytes(first)}); err != nil {
						t.Fatal(err)
					}
				}
				if f := r.cache.entries["id"].fact; f.tagged != (tagged || kind == Inference) {
					t.Fatalf("%s, run %v twice: tag is %v", kind, tagged, f.tagged)
				}
				before := runs.Load()
				for what, b := range others {
					for form, input := range forms {
						if h, err := r.Run(t.Context(), Slice{"id", kind, input(b)}); !errors.Is(err, ErrMismatch) || !h.IsZero() {
							t.Errorf("%s, %d bytes, tagged %v, %s as %s: %v, %v, want ErrMismatch", kind, n, tagged, what, form, h, err)
						}
					}
				}
				other := Transcode
				if kind == Transcode {
					other = Inference
				}
				if h, err := r.Run(t.Context(), Slice{"id", other, Bytes(first)}); !errors.Is(err, ErrMismatch) || !h.IsZero() {
					t.Errorf("%s as %s: %v, %v, want ErrMismatch", kind, other, h, err)
				}
				for form, input := range forms {
					if h, err := r.Run(t.Context(), Slice{"id", kind, input(first)}); h != want || err != nil {
						t.Errorf("%s, %d bytes again as %s: %v, %v", kind, n, form, h, err)
					}
				}
				if runs.Load() != before {
					t.Errorf("%s, %d bytes: the job ran again", kind, n)
				}
			}
		}
	}
}

// Random calls against a model of the cache: what is remembered, what was used
// last, what runs, what is refused.
func TestCacheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 4).Draw(t, "limit")
		var runs atomic.Int64
		r, err := New(&Options{CacheEntries: limit, Workers: 1, Jobs: map[Kind]Job{Inference: reverse(&runs)}})
		if err != nil {
			t.Fatal(err)
		}
		type work struct {
			kind    Kind
			content string
		}
		remembered := map[string]work{}
		var recent []string // the newest last
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "id")
			w := work{
				rapid.SampledFrom([]Kind{Transcode, Inference}).Draw(t, "kind"),
				rapid.SampledFrom([]string{"", "x", "y", "xy"}).Draw(t, "content"),
			}
			form := rapid.SampledFrom([]string{"bytes", "stream", "at"}).Draw(t, "form")
			before := runs.Load()
			got, err := r.Run(context.Background(), Slice{id, w.kind, forms[form]([]byte(w.content))})
			ran := runs.Load() - before

			old, hit := remembered[id]
			if hit || err == nil {
				for i, s := range recent {
					if s == id {
						recent = append(recent[:i], recent[i+1:]...)
						break
					}
				}
				recent = append(recent, id)
			}
			if hit && old != w {
				if !errors.Is(err, ErrMismatch) || !got.IsZero() || ran != 0 {
					t.Fatalf("%s was %v, came as %v: %v, %v, want ErrMismatch", id, old, w, got, err)
				}
				continue
			}
			remembered[id] = w
			if len(recent) > limit {
				delete(remembered, recent[0])
				recent = recent[1:]
			}
			want := Sum([]byte(w.content))
			if w.kind == Inference {
				want, _ = reverse(new(atomic.Int64)).Run(context.Background(), strings.NewReader(w.content))
			}
			if err != nil || got != want {
				t.Fatalf("%s as %v: %v, %v, want %v", id, w, got, err, want)
			}
			if wantRuns := w.kind == Inference && !hit; (ran == 1) != wantRuns {
				t.Fatalf("%s as %v, remembered %v: the job ran %d times", id, w, hit, ran)
			}
			if n := len(r.cache.entries); n != len(remembered) {
				t.Fatalf("%d entries, want %d", n, len(remembered))
			}
		}
	})
}

// gate is a job that waits to be let go, once for each run.
type gate struct {
	runs atomic.Int64
	open chan error // what each run returns
}

func (g *gate) Run(ctx context.Context, in io.Reader) (Hash, error) {
	g.runs.Add(1)
	select {
	case err := <-g.open:
		if err != nil {
			return Hash{}, err
		}
		return HashJob{}.Run(ctx, in)
	case <-ctx.Done():
		return Hash{}, ctx.Err()
	}
}

type outcome struct {
	h   Hash
	err error
}

// start runs s in a goroutine and waits until that blocks.
func start(ctx context.Context, r *Runner, s Slice) <-chan outcome {
	c := make(chan outcome, 1)
	go func() {
		h, err := r.Run(ctx, s)
		c <- outcome{h, err}
	}()
	synctest.Wait()
	return c
}

func TestCallsAtOnceComputeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan error)}
		r := newRunner(t, &Options{Workers: 2, CacheEntries: 1, Jobs: map[Kind]Job{Transcode: g}})
		want := Sum([]byte("content"))
		var calls []<-chan outcome
		for range 20 {
			calls = append(calls, start(t.Context(), r, Slice{"id", Transcode, Reader(strings.NewReader("content"))}))
		}
		other := start(t.Context(), r, Slice{"id", Transcode, Bytes([]byte("Content"))})
		// Those who wait take no worker.
		if h, err := r.Run(t.Context(), Slice{"free", Inference, Bytes(nil)}); err != nil || h != Sum(nil) {
			t.Errorf("beside: %v, %v", h, err)
		}
		g.open <- nil
		for _, c := range calls {
			if o := <-c; o.h != want || o.err != nil {
				t.Errorf("%v, %v, want %v", o.h, o.err, want)
			}
		}
		if o := <-other; !errors.Is(o.err, ErrMismatch) {
			t.Errorf("other content at once: %v, %v, want ErrMismatch", o.h, o.err)
		}
		if n := g.runs.Load(); n != 1 {
			t.Errorf("%d runs, want 1", n)
		}
	})
}

// Whatever becomes of the call that runs, the ones that wait are not harmed:
// the next runs with its own input, which nobody has touched.
func TestOneCallersEndIsNotTheOthers(t *testing.T) {
	failed := errors.New("out of memory")
	for name, end := range map[string]func(g *gate, cancel func()){
		"cancelled": func(_ *gate, cancel func()) { cancel() },
		"failed":    func(g *gate, _ func()) { g.open <- failed },
		"panic":     func(g *gate, _ func()) { g.open <- errPanic },
		"goexit":    func(g *gate, _ func()) { g.open <- errExit },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{open: make(chan error)}
				r := newRunner(t, &Options{Workers: 1, Jobs: map[Kind]Job{Transcode: unruly{g}}})
				s := func() Slice { return Slice{"id", Transcode, Reader(strings.NewReader("content"))} }
				ctx, cancel := context.WithCancel(t.Context())
				first := start(ctx, r, s())
				gone, leave := context.WithCancel(t.Context())
				second := start(gone, r, s())
				third := start(t.Context(), r, s())
				fourth := start(t.Context(), r, s())

				leave() // a waiting call that is cancelled returns at once
				if o := <-second; !errors.Is(o.err, context.Canceled) {
					t.Errorf("cancelled while waiting: %v, %v", o.h, o.err)
				}
				end(g, cancel)
				if o := <-first; !o.h.IsZero() || o.err == nil {
					t.Errorf("first: %v, %v", o.h, o.err)
				}
				synctest.Wait()
				g.open <- nil
				for _, c := range []<-chan outcome{third, fourth} {
					if o := <-c; o.err != nil || o.h != Sum([]byte("content")) {
						t.Errorf("a call that waited: %v, %v", o.h, o.err)
					}
				}
				if n := g.runs.Load(); n != 2 {
					t.Errorf("%d runs, want 2", n)
				}
				cancel()
			})
		})
	}
}

var errPanic, errExit = errors.New("panic"), errors.New("goexit")

// unruly is a job that does what its error says.
type unruly struct{ Job }

func (u unruly) Run(ctx context.Context, in io.Reader) (Hash, error) {
	h, err := u.Job.Run(ctx, in)
	switch err {
	case errPanic:
		panic(errPanic)
	case errExit:
		runtime.Goexit()
	}
	return h, err
}

// A job that fails, and how, is told to the caller. Nothing is remembered, and
// no worker is lost.
func TestJobsThatFail(t *testing.T) {
	failed := errors.New("out of memory")
	broken := errors.New("disk on fire")
	bad := func() Input {
		return Reader(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)))
	}
	var job Job
	r := newRunner(t, &Options{Workers: 1, Jobs: map[Kind]Job{
		"x": JobFunc(func(ctx context.Context, in io.Reader) (Hash, error) { return job.Run(ctx, in) }),
	}})
	for name, c := range map[string]struct {
		job   JobFunc
		input Input
		want  error
	}{
		"fails":             {func(context.Context, io.Reader) (Hash, error) { return Sum(nil), failed }, Bytes(nil), failed},
		"panics":            {func(context.Context, io.Reader) (Hash, error) { panic(failed) }, Bytes(nil), failed},
		"input fails":       {HashJob{}.Run, bad(), broken},
		"overlooks":         {func(_ context.Context, in io.Reader) (Hash, error) { io.ReadAll(in); return Sum(nil), nil }, bad(), broken},
		"reads nothing":     {func(context.Context, io.Reader) (Hash, error) { return Sum(nil), nil }, bad(), broken},
		"file that shrinks": {HashJob{}.Run, ReaderAt(strings.NewReader("short"), 9), io.ErrUnexpectedEOF},
	} {
		job = c.job
		h, err := r.Run(t.Context(), Slice{"id", "x", c.input})
		if !errors.Is(err, c.want) || !h.IsZero() || !strings.Contains(err.Error(), `"id"`) {
			t.Errorf("%s: %v, %v, want %v", name, h, err, c.want)
		}
		if p, ok := errors.AsType[*PanicError](err); ok != (name == "panics") || ok && !bytes.Contains(p.Stack, []byte("runner_test.go")) {
			t.Errorf("%s: PanicError %v, %+v", name, ok, p)
		}
		if len(r.cache.entries) != 0 {
			t.Errorf("%s: something is remembered", name)
		}
	}
	job = HashJob{}
	if h, err := r.Run(t.Context(), Slice{"id", "x", Bytes([]byte("good"))}); err != nil || h != Sum([]byte("good")) {
		t.Errorf("after all that: %v, %v", h, err)
	}
	if err := (&PanicError{Value: 5}).Unwrap(); err != nil {
		t.Errorf("a panic with 5 unwraps to %v", err)
	}
}

// A job that reads only the head of its input is still bound to all of it.
func TestJobThatReadsLittle(t *testing.T) {
	head := JobFunc(func(_ context.Context, in io.Reader) (Hash, error) {
		b := make([]byte, 4)
		_, err := io.ReadFull(in, b)
		return Sum(b), err
	})
	r := newRunner(t, &Options{Jobs: map[Kind]Job{Transcode: head}})
	if _, err := r.Run(t.Context(), Slice{"id", Transcode, Bytes([]byte("headtail"))}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Run(t.Context(), Slice{"id", Transcode, Bytes([]byte("headTail"))}); !errors.Is(err, ErrMismatch) {
		t.Errorf("another tail: %v, want ErrMismatch", err)
	}
}

func TestWorkersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan error)}
		r := newRunner(t, &Options{Workers: 3, Jobs: map[Kind]Job{Transcode: g}})
		var calls []<-chan outcome
		for i := range 10 {
			calls = append(calls, start(t.Context(), r, Slice{fmt.Sprint(i), Transcode, Bytes(nil)}))
		}
		for left := 10; left > 0; left-- {
			if n := int(g.runs.Load()); n != min(10, 10-left+3) {
				t.Errorf("%d runs with %d calls left, want %d", n, left, min(10, 10-left+3))
			}
			g.open <- nil
			synctest.Wait()
		}
		for _, c := range calls {
			if o := <-c; o.err != nil {
				t.Error(o.err)
			}
		}
	})
}

// A large slice on all workers gives one back as soon as another slice waits.
func TestLargeSliceMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
		r := newRunner(t, &Options{Workers: 2})
		slow := slowAt(make(chan struct{}))
		large := start(t.Context(), r, Slice{"large", Transcode, ReaderAt(slow, 40*segmentSize)})
		small := start(t.Context(), r, Slice{"small", Transcode, Bytes(nil)})
		select {
		case <-small:
			t.Fatal("the large slice did not take both workers")
		default:
		}
		for range 3 { // by then the helper has come to the end of a segment
			slow <- struct{}{}
			synctest.Wait()
		}
		select {
		case o := <-small:
			if o.err != nil {
				t.Error(o.err)
			}
		default:
			t.Error("the small slice still waits")
		}
		close(slow)
		if o := <-large; o.err != nil || o.h != Sum(make([]byte, 40*segmentSize)) {
			t.Errorf("large: %v, %v", o.h, o.err)
		}
	})
}

// A stream that gives nothing holds one worker, however much it gave before.
func TestSlowStreamHoldsOneWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
		r := newRunner(t, &Options{Workers: 2})
		more := make(chan struct{})
		zeros := bytes.NewReader(make([]byte, 8*segmentSize))
		slow := start(t.Context(), r, Slice{"slow", Transcode, Reader(readerFunc(func(p []byte) (int, error) {
			if zeros.Len() == 0 {
				<-more
			}
			return zeros.Read(p)
		}))})
		select {
		case o := <-start(t.Context(), r, Slice{"small", Transcode, Bytes(nil)}):
			if o.err != nil {
				t.Error(o.err)
			}
		default:
			t.Error("the small slice waits for the stream")
		}
		close(more)
		if o := <-slow; o.err != nil || o.h != Sum(make([]byte, 8*segmentSize)) {
			t.Errorf("stream: %v, %v", o.h, o.err)
		}
	})
}

// slowAt reads zeros, one segment for each value received.
type slowAt chan struct{}

func (s slowAt) ReadAt(p []byte, _ int64) (int, error) {
	<-s
	clear(p)
	return len(p), nil
}

func TestCancelWhileWaitingForAWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan error)}
		r := newRunner(t, &Options{Workers: 1, Jobs: map[Kind]Job{Transcode: g}})
		busy := start(t.Context(), r, Slice{"busy", Transcode, Bytes(nil)})
		ctx, cancel := context.WithCancel(t.Context())
		waits := start(ctx, r, Slice{"waits", Inference, Bytes(nil)})
		cancel()
		if o := <-waits; !errors.Is(o.err, context.Canceled) {
			t.Errorf("%v, %v, want Canceled", o.h, o.err)
		}
		g.open <- nil
		if o := <-busy; o.err != nil {
			t.Error(o.err)
		}
	})
}

func TestRunAllGoesOn(t *testing.T) {
	failed := errors.New("out of memory")
	r := newRunner(t, &Options{Workers: 2, Jobs: map[Kind]Job{
		"fails": JobFunc(func(context.Context, io.Reader) (Hash, error) { return Hash{}, failed }),
	}})
	in := Bytes([]byte("x"))
	got, err := r.RunAll(t.Context(), []Slice{{"a", Transcode, in}, {"b", "fails", in}, {"c", "none", in}, {"", Transcode, in}, {"d", Transcode, in}})
	for _, want := range []error{failed, ErrKind, ErrSlice} {
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v in it", err, want)
		}
	}
	x := Sum([]byte("x"))
	if want := []Hash{x, {}, {}, {}, x}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, err := r.RunAll(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("no slices: %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := r.RunAll(ctx, []Slice{{"h", Transcode, in}}); !errors.Is(err, context.Canceled) || !got[0].IsZero() {
		t.Errorf("cancelled: %v, %v", got, err)
	}
}

// Without a cache nothing is kept and nothing compared.
func TestNoCache(t *testing.T) {
	var runs atomic.Int64
	r := newRunner(t, &Options{CacheEntries: -1, Jobs: map[Kind]Job{Transcode: reverse(&runs)}})
	for _, s := range []string{"aa", "aa", "bb"} {
		if h, err := r.Run(t.Context(), Slice{"id", Transcode, Bytes([]byte(s))}); err != nil || h != Sum([]byte(s)) {
			t.Errorf("%s: %v, %v", s, h, err)
		}
	}
	if runs.Load() != 3 {
		t.Errorf("%d runs, want 3", runs.Load())
	}
	// A read error counts even if the job makes light of it.
	broken := errors.New("disk on fire")
	careless := JobFunc(func(_ context.Context, in io.Reader) (Hash, error) { io.ReadAll(in); return Sum(nil), nil })
	r = newRunner(t, &Options{CacheEntries: -1, Jobs: map[Kind]Job{Transcode: careless}})
	if h, err := r.Run(t.Context(), Slice{"id", Transcode, Reader(iotest.ErrReader(broken))}); !errors.Is(err, broken) || !h.IsZero() {
		t.Errorf("overlooked: %v, %v", h, err)
	}
}

func TestCachedRunAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	var runs atomic.Int64
	r := newRunner(t, &Options{Jobs: map[Kind]Job{Inference: reverse(&runs)}})
	for _, kind := range []Kind{Transcode, Inference} {
		for _, n := range []int{100, 4096, parallelSize - 1} {
			s := Slice{fmt.Sprint(kind, n), kind, Bytes(noise(n, 1))}
			for range 2 {
				if _, err := r.Run(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			ctx := t.Context()
			if allocs := testing.AllocsPerRun(100, func() { r.Run(ctx, s) }); allocs != 0 {
				t.Errorf("%s, %d bytes: %v allocations", kind, n, allocs)
			}
		}
	}
}
