package workload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// Options are the choices of a [Runner]. The zero value is ready for use.
type Options struct {
	// Jobs replaces or adds the jobs of kinds.
	//
	// Defaults to [HashJob] for Transcode and for Inference.
	Jobs map[Kind]Job

	// Workers bounds how many goroutines work at once, over all calls. A slice
	// takes one; a large one takes more while they are idle, and gives them back
	// when another slice waits. A job that hashes with [SumInput] and the ctx it
	// was given keeps to the bound as well, HashJob however it is wrapped. What
	// other goroutines a job starts is its own affair.
	//
	// Defaults to runtime.GOMAXPROCS(0).
	Workers int

	// CacheEntries bounds how many proofs are remembered, those used last. An
	// entry takes about 200 bytes and its ID. Negative means that nothing is
	// remembered: every call runs its job, and no ID is checked against an
	// earlier one.
	//
	// Defaults to 16384.
	CacheEntries int
}

// A Runner runs slices; [New] makes one. All methods may be called at once. It
// holds no goroutines and needs no closing.
type Runner struct {
	works   map[Kind]*work
	workers int
	slots   *semaphore.Weighted
	cache   *cache  // nil if nothing is remembered
	tags    *tagger // nil without a cache
}

// work is a kind and what is done for it.
type work struct {
	kind Kind
	job  Job
}

// New returns a Runner. Nil options are the defaults. It returns [ErrOptions] for
// negative Workers, an empty kind or a Job that is nil, or a nil pointer or
// function.
func New(opts *Options) (*Runner, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.CacheEntries == 0 {
		o.CacheEntries = 16384
	}
	if o.Workers < 0 {
		return nil, fmt.Errorf("%w: Workers is %d", ErrOptions, o.Workers)
	}
	r := &Runner{
		works:   make(map[Kind]*work),
		workers: o.Workers,
		slots:   semaphore.NewWeighted(int64(o.Workers)),
	}
	r.register(Transcode, HashJob{})
	r.register(Inference, HashJob{})
	for kind, job := range o.Jobs {
		if kind == "" || isNil(job) {
			return nil, fmt.Errorf("%w: Jobs[%q] is a %T that is nil", ErrOptions, kind, job)
		}
		r.register(kind, job)
	}
	if o.CacheEntries > 0 {
		tags, err := newTagger()
		if err != nil {
			return nil, err
		}
		r.tags, r.cache = tags, newCache(o.CacheEntries)
	}
	return r, nil
}

func (r *Runner) register(kind Kind, job Job) {
	if _, ok := job.(*HashJob); ok {
		job = HashJob{}
	}
	kind = Kind(strings.Clone(string(kind))) // the caller's may be part of a long text
	r.works[kind] = &work{kind, job}
}

// Run returns the proof of s, from the cache or by running its job. It waits while
// all workers are busy. The caller's code in s, job and reader, runs on a
// goroutine that has ended when Run returns.
//
// Calls at once for one ID compute once: one runs, the others wait and then have
// their own input compared. If that one fails or is cancelled, the next runs with
// its own input, so that nobody's error becomes another's.
//
// Possible errors are [ErrSlice], [ErrKind], [ErrMismatch], ctx's, those of the
// input and the job, [PanicError], and [ErrOptions] for a Runner that New did not
// make. After an error the proof is the zero Hash and nothing is remembered.
func (r *Runner) Run(ctx context.Context, s Slice) (Hash, error) {
	w, err := r.accept(&s)
	if err != nil {
		return Hash{}, err
	}
	var f fact
	if r.cache == nil {
		f, err = r.compute(ctx, &s, w)
	} else {
		f, err = r.cache.do(ctx, s.ID,
			func() (fact, error) { return r.compute(ctx, &s, w) },
			func(f fact) (fact, error) { return r.compare(ctx, &s, w, f) })
	}
	if err != nil {
		return Hash{}, fmt.Errorf("workload: slice %q: %w", s.ID, err)
	}
	return f.proof, nil
}

// RunAll runs slices on all workers and returns their proofs in the same order.
// A slice that fails, whatever its job does, does not stop the others: its proof
// is the zero Hash, and its error is one of those joined in the error returned.
// When ctx is done, no further slice is started.
func (r *Runner) RunAll(ctx context.Context, slices []Slice) ([]Hash, error) {
	proofs := make([]Hash, len(slices))
	errs := make([]error, len(slices), len(slices)+1)
	var next, ran atomic.Int64
	var wg sync.WaitGroup
	for range min(max(r.workers, 1), len(slices)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(slices) {
					return
				}
				proofs[i], errs[i] = r.Run(ctx, slices[i])
				ran.Add(1)
			}
		})
	}
	wg.Wait()
	if left := len(slices) - int(ran.Load()); left > 0 {
		errs = append(errs, fmt.Errorf("workload: %d of %d slices were not run: %w", left, len(slices), ctx.Err()))
	}
	return proofs, errors.Join(errs...)
}

// accept returns what is to be done for s.
func (r *Runner) accept(s *Slice) (*work, error) {
	if r.works == nil {
		return nil, fmt.Errorf("%w: a Runner is made by New", ErrOptions)
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	w := r.works[s.Kind]
	if w == nil {
		return nil, fmt.Errorf("%w: slice %q is of kind %q", ErrKind, s.ID, s.Kind)
	}
	return w, nil
}

// compute does the work in a slot of its own.
func (r *Runner) compute(ctx context.Context, s *Slice, w *work) (fact, error) {
	if err := r.slots.Acquire(ctx, 1); err != nil {
		return fact{}, err
	}
	defer r.slots.Release(1)
	if _, ok := w.job.(HashJob); !ok {
		return r.runJob(ctx, s, w)
	}
	// The proof itself recognises this content. The tag that does so faster is
	// left to the first repeat: most slices never come again.
	d, err := scan(ctx, &s.Input, true, nil, r.slots)
	return fact{work: w, proof: d.hash, size: d.size}, err
}

// runJob runs a job that the caller supplied.
func (r *Runner) runJob(ctx context.Context, s *Slice, w *work) (fact, error) {
	in := &jobInput{src: source{ctx: ctx, r: s.Input.stream()}}
	if r.cache != nil {
		in.rec = newRecorder(r.tags)
	}
	var proof Hash
	err := contained("Job.Run", func() (err error) {
		proof, err = w.job.Run(withSlots(ctx, r.slots), in)
		return err
	})
	if !in.take() {
		return fact{}, cmp.Or(err, errStray)
	}
	if in.rec != nil {
		defer in.rec.free()
	}
	if err == nil {
		err = contained("Reader.Read", in.drain)
	}
	if err != nil {
		return fact{}, err
	}
	f := fact{work: w, proof: proof}
	if in.rec != nil {
		d := in.rec.digest()
		f.size, f.tag, f.tagged = d.size, d.tag, true
	}
	return f, nil
}

// compare returns f, with its tag, if s is the same work.
func (r *Runner) compare(ctx context.Context, s *Slice, w *work, f fact) (fact, error) {
	if f.work != w {
		return fact{}, fmt.Errorf("%w: kind %q, before %q", ErrMismatch, w.kind, f.work.kind)
	}
	in := s.Input
	switch {
	case in.form == formStream:
		// Enough to see that it is longer. What it gives is checked before it is counted.
		in.r = io.LimitReader(&source{ctx: ctx, r: in.r}, f.size+1)
	case in.size != f.size:
		return fact{}, fmt.Errorf("%w: input of %d bytes, before %d", ErrMismatch, in.size, f.size)
	}
	if err := r.slots.Acquire(ctx, 1); err != nil {
		return fact{}, err
	}
	defer r.slots.Release(1)
	d, err := scan(ctx, &in, !f.tagged, r.tags, r.slots)
	if err != nil {
		return fact{}, err
	}
	same := d.hash == f.proof
	if f.tagged {
		same = d.tag == f.tag
	}
	if !same || d.size != f.size {
		return fact{}, fmt.Errorf("%w: another input", ErrMismatch)
	}
	f.tag, f.tagged = d.tag, true
	return f, nil
}
