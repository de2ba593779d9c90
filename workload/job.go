package workload

import (
	"context"
	"io"
)

// A Job does the work of one kind.
//
// Run reads the slice's content from input to io.EOF and returns the hash of
// what the work gave. It must be deterministic: the same content gives the same
// hash, on any machine, or two providers cannot prove the same work. It is
// called from several goroutines at once, each with an input of its own, which
// it must not use after it has returned. Reads go straight to the slice's input
// (a job that reads in small pieces wraps it in a bufio.Reader) and fail once
// ctx is done. When ctx is done Run returns soon; the Runner waits for it,
// because the input belongs to the caller again afterwards. A job must not call the
// Runner that runs it, whose workers may all be taken.
//
// An error, or a panic, is given to the caller of [Runner.Run], and nothing is
// remembered.
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
