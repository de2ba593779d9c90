package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/computemarket/computemarket/internal/callback"
)

var errBroken = errors.New("disk on fire")

// typedNil is an error that nobody may ask anything.
type typedNil struct{ cause error }

func (e *typedNil) Error() string { return e.cause.Error() }
func (e *typedNil) Unwrap() error { return e.cause }

type atFunc func(p []byte, off int64) (int, error)

func (f atFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// misbehaviours are what a reader can do instead of reading, and the error that
// must become of it; nil is any error.
var misbehaviours = map[string]struct {
	do   func(p []byte) (int, error)
	want error
}{
	"nothing for ever":      {func([]byte) (int, error) { return 0, nil }, io.ErrNoProgress},
	"more than asked":       {func(p []byte) (int, error) { return len(p) + 1, nil }, errCount},
	"a negative count":      {func([]byte) (int, error) { return -1, nil }, errCount},
	"a negative count, EOF": {func([]byte) (int, error) { return -1, io.EOF }, errCount},
	"all and an error":      {func(p []byte) (int, error) { return len(p), errBroken }, errBroken},
	"an error":              {func([]byte) (int, error) { return 0, errBroken }, errBroken},
	"a typed nil error":     {func([]byte) (int, error) { return 0, (*typedNil)(nil) }, nil},
	"panic":                 {func([]byte) (int, error) { panic(errBroken) }, errBroken},
	"panic, typed nil":      {func([]byte) (int, error) { panic((*typedNil)(nil)) }, nil},
	"Goexit":                {func([]byte) (int, error) { runtime.Goexit(); return 0, nil }, callback.ErrGoexit},
	"wrapped EOF":           {func([]byte) (int, error) { return 0, fmt.Errorf("end: %w", io.EOF) }, io.EOF},
}

// entries are all ways into the package that read an input.
func entries(t *testing.T) map[string]func(in Input) error {
	reads := JobFunc(func(_ context.Context, in io.Reader) (Hash, error) {
		b, err := io.ReadAll(in)
		return Sum(b), err
	})
	careless := JobFunc(func(_ context.Context, in io.Reader) (Hash, error) {
		io.Copy(io.Discard, in)
		return Sum(nil), nil
	})
	idle := JobFunc(func(context.Context, io.Reader) (Hash, error) { return Sum(nil), nil })
	o := Options{Workers: 2, Jobs: map[Kind]Job{"reads": reads, "careless": careless, "idle": idle, "wrapped": JobFunc(HashJob{}.Run)}}
	cached := newRunner(t, &o)
	o.CacheEntries = -1
	bare := newRunner(t, &o)
	content := make([]byte, 3*segmentSize)
	for _, kind := range []Kind{Transcode, "reads"} {
		if _, err := cached.Run(t.Context(), Slice{"known-" + string(kind), kind, Bytes(content)}); err != nil {
			t.Fatal(err)
		}
	}
	outboard, _, err := NewOutboard(t.Context(), Bytes(content))
	if err != nil {
		t.Fatal(err)
	}
	run := func(r *Runner, id string, kind Kind) func(Input) error {
		return func(in Input) error {
			h, err := r.Run(t.Context(), Slice{id, kind, in})
			if err != nil && !h.IsZero() {
				t.Error("a proof and an error")
			}
			return err
		}
	}
	return map[string]func(in Input) error{
		"SumInput":        func(in Input) error { _, err := SumInput(t.Context(), in); return err },
		"HashJob.Run":     func(in Input) error { _, err := HashJob{}.Run(t.Context(), in.stream()); return err },
		"NewOutboard":     func(in Input) error { _, _, err := NewOutboard(t.Context(), in); return err },
		"ProveRange":      func(in Input) error { return ProveRange(t.Context(), io.Discard, in, outboard, 5, 6) },
		"Run":             run(cached, "new", Transcode),
		"Run, reads":      run(cached, "new-reads", "reads"),
		"Run, careless":   run(cached, "new-careless", "careless"),
		"Run, idle":       run(cached, "new-idle", "idle"),
		"Run, wrapped":    run(cached, "new-wrapped", "wrapped"),
		"Run, known":      run(cached, "known-transcode", Transcode),
		"Run, tagged":     run(cached, "known-reads", "reads"),
		"Run, no cache":   run(bare, "new", Transcode),
		"Run, bare reads": run(bare, "new", "reads"),
		"RunAll": func(in Input) error {
			_, err := bare.RunAll(t.Context(), []Slice{{"a", Transcode, in}, {"b", "reads", Bytes(nil)}})
			return err
		},
	}
}

// after reads r, and then does as do does. (io.MultiReader looks at the counts.)
func after(r io.Reader, do func([]byte) (int, error)) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if n, _ := r.Read(p); n > 0 {
			return n, nil
		}
		return do(p)
	})
}

// checkFailure fails the test unless err is want, and harmless to ask.
func checkFailure(t *testing.T, what string, err, want error) {
	t.Helper()
	if err == nil || want != nil && !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
		return
	}
	_ = err.Error()
	errors.Is(err, io.ErrClosedPipe) // must not panic
}

// Whatever a reader does, at once or later, is an error of the call, at every way
// in, and the same one; no worker is lost.
func TestMisbehavingReaders(t *testing.T) {
	const size = 3 * segmentSize
	for name, call := range entries(t) {
		for bad, m := range misbehaviours {
			for _, at := range []int64{0, segmentSize + 100} {
				what := fmt.Sprintf("%s, %s at %d", name, bad, at)
				want := m.want
				if name != "NewOutboard" && name != "ProveRange" {
					stream := after(io.LimitReader(zeros{}, at), m.do)
					checkFailure(t, what+" of a stream", call(Reader(stream)), want)
				}
				if bad == "nothing for ever" {
					want = nil // to give less and no error breaks io.ReaderAt's contract at once
				}
				hostile := atFunc(func(p []byte, off int64) (int, error) {
					if off+int64(len(p)) <= at {
						clear(p)
						return len(p), nil
					}
					return m.do(p)
				})
				checkFailure(t, what, call(ReaderAt(hostile, size)), want)
			}
		}
	}
}

// A length that is not what the reader holds: too long is an error, of whatever
// size, and nothing is taken or lost for it.
func TestLyingLengths(t *testing.T) {
	for name, call := range entries(t) {
		for _, size := range []int64{4, 1 << 20, 1 << 40, 1 << 62, 1<<63 - 1} {
			err := call(ReaderAt(strings.NewReader("abc"), size))
			switch {
			case name == "ProveRange": // which sees at once that the outboard is another's
				checkFailure(t, name, err, nil)
			case strings.HasPrefix(name, "Run, known"), strings.HasPrefix(name, "Run, tagged"):
				checkFailure(t, name, err, ErrMismatch)
			default:
				checkFailure(t, fmt.Sprint(name, " of ", size), err, io.ErrUnexpectedEOF)
			}
		}
	}
}

// "No callback under a lock": jobs and readers may use another Runner, and even
// their own while it has workers left.
func TestCallbacksThatCallBack(t *testing.T) {
	var r *Runner
	again := func(id string) error {
		_, err := r.Run(t.Context(), Slice{id, Transcode, Bytes([]byte("x"))})
		return err
	}
	r = newRunner(t, &Options{Workers: 4, Jobs: map[Kind]Job{
		"again": JobFunc(func(ctx context.Context, in io.Reader) (Hash, error) {
			if err := again("from the job"); err != nil {
				return Hash{}, err
			}
			return HashJob{}.Run(ctx, in)
		}),
	}})
	for range 2 {
		in := Reader(readerFunc(func([]byte) (int, error) { return 0, errors.Join(again("from the reader"), io.ErrClosedPipe) }))
		if _, err := r.Run(t.Context(), Slice{"stream", "again", in}); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		at := ReaderAt(atFunc(func(p []byte, _ int64) (int, error) { clear(p); return len(p), again("from the reader") }), 10)
		if _, err := r.Run(t.Context(), Slice{"at", "again", at}); err != nil {
			t.Error(err)
		}
	}
}

// messages gives io.EOF at the end of each message, then the next, as a terminal
// does. After the last it blocks.
type messages struct{ left []string }

func (m *messages) Read(p []byte) (int, error) {
	if len(m.left) == 0 {
		select {}
	}
	if m.left[0] == "" {
		m.left = m.left[1:]
		return 0, io.EOF
	}
	n := copy(p, m.left[0])
	m.left[0] = m.left[0][n:]
	return n, nil
}

// An input ends at its first end: what comes after it is left to the next, a
// reader that blocks then holds nobody up, and the proof is bound to what the job
// could see.
func TestNothingIsReadAfterTheEnd(t *testing.T) {
	// A job that tries to read on.
	insists := JobFunc(func(_ context.Context, in io.Reader) (Hash, error) {
		b, _ := io.ReadAll(in)
		more, err := io.ReadAll(in)
		return Sum(append(b, more...)), err
	})
	for _, entries := range []int{-1, 0} {
		for _, kind := range []Kind{Transcode, "wrapped", "own"} {
			r := newRunner(t, &Options{CacheEntries: entries, Jobs: map[Kind]Job{"own": insists, "wrapped": JobFunc(HashJob{}.Run)}})
			m := &messages{[]string{"first", "second", "first", "third"}}
			for i, want := range []string{"first", "second", "first", "third"} {
				h, err := r.Run(t.Context(), Slice{want, kind, Reader(m)})
				if err != nil || h != Sum([]byte(want)) {
					t.Errorf("%s: message %d is not %q: %v", kind, i, want, err)
				}
			}
			if entries < 0 {
				continue
			}
			if _, err := r.Run(t.Context(), Slice{"first", kind, Bytes([]byte("firstsecond"))}); !errors.Is(err, ErrMismatch) {
				t.Errorf("%s: other content: %v, want ErrMismatch", kind, err)
			}
			if _, err := r.Run(t.Context(), Slice{"first", kind, Bytes([]byte("first"))}); err != nil {
				t.Errorf("%s: the same content: %v", kind, err)
			}
		}
	}
}

// A goroutine that a job leaves behind takes nothing from the input afterwards,
// and a job that returns during such a read has no proof.
func TestJobThatReadsOn(t *testing.T) {
	var kept io.Reader
	keeps := JobFunc(func(_ context.Context, in io.Reader) (Hash, error) { kept = in; return Sum(nil), nil })
	started, release := make(chan struct{}), make(chan struct{})
	ended := make(chan error)
	leaves := JobFunc(func(_ context.Context, in io.Reader) (Hash, error) {
		go func() { _, err := io.ReadAll(in); ended <- err }()
		<-started
		return Sum(nil), nil
	})
	r := newRunner(t, &Options{Jobs: map[Kind]Job{"keeps": keeps, "leaves": leaves}})
	if _, err := r.Run(t.Context(), Slice{"a", "keeps", Bytes([]byte("abc"))}); err != nil {
		t.Fatal(err)
	}
	if n, err := kept.Read(make([]byte, 9)); n != 0 || !errors.Is(err, errStray) {
		t.Errorf("read after the job: %d, %v", n, err)
	}
	slow := readerFunc(func([]byte) (int, error) { close(started); <-release; return 0, io.EOF })
	_, err := r.Run(t.Context(), Slice{"b", "leaves", Reader(slow)})
	if !errors.Is(err, errStray) {
		t.Errorf("a job that returned during a read: %v", err)
	}
	close(release)
	<-ended
}

// A writer is held to its contract as well, and its errors stay what they are.
func TestMisbehavingWriters(t *testing.T) {
	content := noise(3*groupSize, 1)
	outboard, hash, err := NewOutboard(t.Context(), Bytes(content))
	if err != nil {
		t.Fatal(err)
	}
	proof, _ := mustProve(t, content, groupSize-5, 10)
	ways := map[string]struct {
		do   func(p []byte) (int, error)
		want error
	}{
		"EOF":             {func(p []byte) (int, error) { return 0, io.EOF }, io.EOF},
		"all and EOF":     {func(p []byte) (int, error) { return len(p), io.EOF }, io.EOF},
		"short":           {func(p []byte) (int, error) { return len(p) - 1, nil }, io.ErrShortWrite},
		"nothing":         {func(p []byte) (int, error) { return 0, nil }, io.ErrShortWrite},
		"too much":        {func(p []byte) (int, error) { return len(p) + 1, nil }, errCount},
		"negative":        {func(p []byte) (int, error) { return -1, nil }, errCount},
		"panic":           {func(p []byte) (int, error) { panic(errBroken) }, errBroken},
		"Goexit":          {func(p []byte) (int, error) { runtime.Goexit(); return 0, nil }, callback.ErrGoexit},
		"typed nil error": {func(p []byte) (int, error) { return len(p), (*typedNil)(nil) }, nil},
	}
	for name, way := range ways {
		w := writerFunc(way.do)
		err := ProveRange(t.Context(), w, Bytes(content), outboard, 3, 5)
		checkFailure(t, "ProveRange, "+name, err, way.want)
		_, err2 := VerifyRange(t.Context(), w, bytes.NewReader(proof), hash, groupSize-5, 10)
		checkFailure(t, "VerifyRange, "+name, err2, way.want)
		for _, err := range []error{err, err2} {
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrRangeProof) {
				t.Errorf("%s: %v blames the proof", name, err)
			}
		}
	}
	for bad, m := range misbehaviours {
		for _, at := range []int{0, 100, len(proof) - 7} {
			r := after(bytes.NewReader(proof[:at]), m.do)
			_, err := VerifyRange(t.Context(), io.Discard, r, hash, groupSize-5, 10)
			checkFailure(t, fmt.Sprintf("VerifyRange, a proof with %s at %d", bad, at), err, m.want)
		}
	}
	if _, err := VerifyRange(t.Context(), io.Discard, iotest.DataErrReader(bytes.NewReader(proof)), hash, groupSize-5, 10); err != nil {
		t.Errorf("the last bytes with io.EOF: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ProveRange(ctx, io.Discard, Bytes(content), outboard, 3, 5); !errors.Is(err, context.Canceled) {
		t.Errorf("ProveRange, cancelled: %v", err)
	}
	if _, err := VerifyRange(ctx, io.Discard, bytes.NewReader(proof), hash, groupSize-5, 10); !errors.Is(err, context.Canceled) || errors.Is(err, ErrRangeProof) {
		t.Errorf("VerifyRange, cancelled: %v", err)
	}
	// An error that only looks like a cancellation is the reader's.
	if _, err := VerifyRange(t.Context(), io.Discard, iotest.ErrReader(context.Canceled), hash, groupSize-5, 10); !errors.Is(err, ErrRangeProof) {
		t.Errorf("VerifyRange, a reader's Canceled: %v", err)
	}
	if err := ProveRange(t.Context(), nil, Bytes(content), outboard, 3, 5); !errors.Is(err, ErrOptions) {
		t.Errorf("ProveRange to nowhere: %v", err)
	}
	for _, r := range []io.Reader{nil, bytes.NewReader(proof)} {
		w := io.Discard
		if r != nil {
			w = nil
		}
		if _, err := VerifyRange(t.Context(), w, r, hash, 3, 5); !errors.Is(err, ErrOptions) {
			t.Errorf("VerifyRange of or to nothing: %v", err)
		}
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
