package workload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
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
	// when another slice waits.
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

// A Runner runs slices. All methods may be called at once. It holds no
// goroutines and needs no closing.
type Runner struct {
	jobs    map[Kind]Job
	workers int
	slots   *semaphore.Weighted
	cache   *cache  // nil if nothing is remembered
	tags    *tagger // nil without a cache
}

// New returns a Runner. Nil options are the defaults. It returns [ErrOptions] for
// negative Workers, an empty kind or a nil Job.
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
		jobs:    map[Kind]Job{Transcode: HashJob{}, Inference: HashJob{}},
		workers: o.Workers,
		slots:   semaphore.NewWeighted(int64(o.Workers)),
	}
	for kind, job := range o.Jobs {
		if kind == "" || job == nil {
			return nil, fmt.Errorf("%w: Jobs[%q] is %v", ErrOptions, kind, job)
		}
		r.jobs[kind] = job
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

// Run returns the proof of s, from the cache or by running its job in this
// goroutine. It waits while all workers are busy.
//
// Calls at once for one ID compute once: one runs, the others wait and then have
// their own input compared. If that one fails or is cancelled, the next runs with
// its own input, so that nobody's error becomes another's.
//
// Possible errors are [ErrSlice], [ErrKind], [ErrMismatch], ctx's, those of the
// input and the job, and [PanicError]. After an error the proof is the zero Hash
// and nothing is remembered.
func (r *Runner) Run(ctx context.Context, s Slice) (Hash, error) {
	if err := s.validate(); err != nil {
		return Hash{}, err
	}
	job, ok := r.jobs[s.Kind]
	if !ok {
		return Hash{}, fmt.Errorf("%w: slice %q is of kind %q", ErrKind, s.ID, s.Kind)
	}
	h, err := r.run(ctx, &s, job)
	if err != nil {
		return Hash{}, fmt.Errorf("workload: slice %q: %w", s.ID, err)
	}
	return h, nil
}

// RunAll runs slices on all workers and returns their proofs in the same order.
// A slice that fails does not stop the others: its proof is the zero Hash, and
// its error is one of those joined in the error returned. When ctx is done, no
// further slice is started.
func (r *Runner) RunAll(ctx context.Context, slices []Slice) ([]Hash, error) {
	proofs := make([]Hash, len(slices))
	errs := make([]error, len(slices))
	var next, ran atomic.Int64
	var wg sync.WaitGroup
	for range min(r.workers, len(slices)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(slices) {
					return
				}
				errs[i] = errGoexit // in case Run does not return
				proofs[i], errs[i] = r.Run(ctx, slices[i])
				ran.Add(1)
			}
		})
	}
	wg.Wait()
	if left := len(slices) - int(ran.Load()); left > 0 {
		errs = append(errs, fmt.Errorf("workload: %d of %d slices were not run: %w",
			left, len(slices), cmp.Or(ctx.Err(), errGoexit)))
	}
	return proofs, errors.Join(errs...)
}

func (r *Runner) run(ctx context.Context, s *Slice, job Job) (Hash, error) {
	if r.cache == nil {
		f, err := r.compute(ctx, s, job)
		return f.proof, err
	}
	for {
		e, f, state := r.cache.claim(s.ID)
		switch state {
		case absent:
			return r.lead(ctx, s, job, e)
		case flying:
			if f, state = r.cache.await(ctx, e); state != known {
				if err := ctx.Err(); err != nil {
					return Hash{}, err
				}
				continue // that call failed: perhaps it is this one's turn
			}
		}
		return r.confirm(ctx, s, e, f)
	}
}

// lead computes what e stands for, and settles e whatever happens.
func (r *Runner) lead(ctx context.Context, s *Slice, job Job, e *entry) (Hash, error) {
	var f fact
	err := errGoexit
	defer func() { r.cache.settle(e, f, err == nil) }()
	f, err = r.compute(ctx, s, job)
	return f.proof, err
}

// compute runs the job in a slot of its own.
func (r *Runner) compute(ctx context.Context, s *Slice, job Job) (fact, error) {
	if err := r.slots.Acquire(ctx, 1); err != nil {
		return fact{}, err
	}
	defer r.slots.Release(1)
	if _, ok := job.(HashJob); !ok {
		return r.runJob(ctx, s, job)
	}
	// The proof itself recognises this content. The tag that does so faster is
	// left to the first repeat: most slices never come again.
	d, err := scan(ctx, &s.Input, true, nil, r.slots)
	return fact{kind: s.Kind, proof: d.hash, size: d.size}, err
}

// runJob runs a job that the caller supplied.
func (r *Runner) runJob(ctx context.Context, s *Slice, job Job) (f fact, err error) {
	defer func() {
		if v := recover(); v != nil {
			f, err = fact{}, &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	in := &jobInput{ctx: ctx, r: s.Input.reader()}
	if r.cache != nil {
		in.rec = newRecorder(r.tags)
		defer in.rec.free()
	}
	proof, err := job.Run(ctx, in)
	if err == nil && in.rec != nil {
		// A job need not read all, but the tag must cover all.
		_, err = io.Copy(io.Discard, in)
	}
	if err == nil {
		err = in.err // which the job may have overlooked
	}
	if err != nil {
		return fact{}, err
	}
	f = fact{kind: s.Kind, proof: proof}
	if in.rec != nil {
		d := in.rec.digest()
		f.size, f.tag, f.tagged = d.size, d.tag, true
	}
	return f, nil
}

// confirm returns the proof of f if s is the same work.
func (r *Runner) confirm(ctx context.Context, s *Slice, e *entry, f fact) (Hash, error) {
	if f.kind != s.Kind {
		return Hash{}, fmt.Errorf("%w: kind %q, before %q", ErrMismatch, s.Kind, f.kind)
	}
	in := s.Input
	switch {
	case in.form == formStream:
		in.r = io.LimitReader(in.r, f.size+1) // enough to see that it is longer
	case in.size != f.size:
		return Hash{}, fmt.Errorf("%w: input of %d bytes, before %d", ErrMismatch, in.size, f.size)
	}
	if err := r.slots.Acquire(ctx, 1); err != nil {
		return Hash{}, err
	}
	defer r.slots.Release(1)
	d, err := scan(ctx, &in, !f.tagged, r.tags, r.slots)
	if err != nil {
		return Hash{}, err
	}
	same := d.size == f.size
	if f.tagged {
		same = same && d.tag == f.tag
	} else {
		same = same && d.hash == f.proof
	}
	if !same {
		return Hash{}, fmt.Errorf("%w: another input", ErrMismatch)
	}
	if !f.tagged {
		r.cache.setTag(e, d.tag)
	}
	return f.proof, nil
}

// jobInput is the stream that a caller's job reads.
type jobInput struct {
	ctx context.Context // of one Run, which does not outlive its call
	r   io.Reader
	rec *recorder // nil without a cache
	err error     // the first, other than io.EOF
}

func (in *jobInput) Read(p []byte) (int, error) {
	if in.err == nil {
		in.err = in.ctx.Err()
	}
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.r.Read(p)
	if in.rec != nil {
		in.rec.write(p[:n])
	}
	if err != nil && err != io.EOF {
		in.err = err
	}
	return n, err
}
