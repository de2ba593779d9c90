package workload

import (
	"context"
	"errors"
	"io"
	"reflect"
	"sync/atomic"
)

// A Job does the work of one kind.
//
// Run reads the slice's content from input to io.EOF and returns the hash of
// what the work gave. It must be deterministic: the same content gives the same
// hash, on any machine, or two providers cannot prove the same work. It is
// called from several goroutines at once, each with an input of its own, which it
// reads from one goroutine at a time and not after it has returned; a Read that
// breaks this fails, and so does the slice whose job returns during one. Reads go
// straight to the slice's input (a job that reads in small pieces wraps it in a
// bufio.Reader) and fail once ctx is done. When ctx is done Run returns soon; the
// Runner waits for it, because the input belongs to the caller again afterwards.
// A job must not call the Runner that runs it, whose workers may all be taken. It
// passes ctx on to [SumInput], which then keeps to the Runner's workers.
//
// An error, a panic or a runtime.Goexit is the failure of that slice, given to
// the caller of [Runner.Run], and nothing is remembered.
type Job interface {
	Run(ctx context.Context, input io.Reader) (Hash, error)
}

// JobFunc is a function that is a [Job].
type JobFunc func(ctx context.Context, input io.Reader) (Hash, error)

// Run calls f.
func (f JobFunc) Run(ctx context.Context, input io.Reader) (Hash, error) { return f(ctx, input) }

// HashJob is the reference job: the proof is the BLAKE3-256 of the raw content.
// A Runner gives it the slice's input itself instead of a stream, so that bytes
// and files are hashed on all cores.
type HashJob struct{}

var _ Job = HashJob{}

// Run returns the hash of input.
func (HashJob) Run(ctx context.Context, input io.Reader) (Hash, error) {
	return SumInput(ctx, Reader(input))
}

// isNil reports whether there is nothing behind job, as with a nil *HashJob.
func isNil(job Job) bool {
	v := reflect.ValueOf(job)
	switch v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Slice, reflect.Chan:
		return v.IsNil()
	}
	return false
}

var errStray = errors.New("workload: the input is read by another goroutine, or after the job has returned")

// jobInput is the stream that a caller's job reads. What it has read is what the
// cache binds its proof to.
type jobInput struct {
	src  source
	rec  *recorder   // nil without a cache
	busy atomic.Bool // a Read is running, or the job has returned
}

func (in *jobInput) Read(p []byte) (int, error) {
	if !in.busy.CompareAndSwap(false, true) {
		return 0, errStray
	}
	defer in.busy.Store(false)
	return in.read(p)
}

func (in *jobInput) read(p []byte) (int, error) {
	n, err := in.src.Read(p)
	if in.rec != nil {
		in.rec.write(p[:n])
	}
	return n, err
}

// take ends the job's use of the input. It reports false if a goroutine of the
// job is still reading: then nobody else may touch it.
func (in *jobInput) take() bool { return in.busy.CompareAndSwap(false, true) }

// drain reads what the job has left, if that is to be remembered, and returns the
// error that the input ended with, which the job may have overlooked.
func (in *jobInput) drain() error {
	if in.rec != nil {
		buf := make([]byte, 32<<10)
		for in.src.end == nil {
			in.read(buf)
		}
	}
	if in.src.end == io.EOF {
		return nil
	}
	return in.src.end
}
