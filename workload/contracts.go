package workload

import (
	"context"
	"errors"
	"io"

	"github.com/computemarket/computemarket/internal/callback"
)

// Readers, writers and jobs are the caller's, and do what they like. This file
// holds them to the contracts of package io, so that the others need not, and
// makes whatever else they do the failure of that one call.

// errCount reports a Read, ReadAt or Write that claims to have done more than it
// was asked, or less than nothing.
var errCount = errors.New("workload: a reader or writer returned an impossible count")

// contained runs f, which calls the caller's code, on a goroutine that has ended
// when contained returns. A panic is a [PanicError], a Goexit an error too.
func contained(name string, f func() error) error { return exported(callback.Run(name, f)) }

// guarded is contained without the goroutine: one call of the caller's code, a
// Goexit of which only an outer contained stops.
func guarded(name string, f func() error) error { return exported(callback.Guard(name, f)) }

func exported(err error) error {
	if p, ok := err.(*callback.Panic); ok {
		return &PanicError{Value: p.Value, Stack: p.Stack}
	}
	return err
}

// maxIdle is how often a reader may give no byte and no error in a row.
const maxIdle = 100

// A source is a stream that is read no further than its end.
type source struct {
	ctx context.Context // of one call, which the source does not outlive
	r   io.Reader
	end error // io.EOF, or why there is no more; then r is not called again
}

// Read gives at least one byte of r, or the source's end, and goes on to give
// that. A reader may have more after io.EOF (the next message, the next line of a
// terminal), but that is no part of this input.
func (s *source) Read(p []byte) (n int, err error) {
	for idle := 0; s.end == nil && n == 0 && len(p) > 0; idle++ {
		if s.end = s.ctx.Err(); s.end != nil {
			break
		}
		if idle == maxIdle {
			s.end = io.ErrNoProgress
			break
		}
		s.end = callback.ErrGoexit // in case r does not return
		s.end = guarded("Reader.Read", func() (err error) {
			n, err = s.r.Read(p)
			return err
		})
		if n < 0 || n > len(p) {
			n, s.end = 0, errCount
		}
	}
	return n, s.end
}

// fill reads until p is full or the source has ended. All of p and an error that
// is not io.EOF is an error: what the reader says of its bytes counts.
func (s *source) fill(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = s.Read(p[n:])
		n += k
	}
	return n, err
}

// readAt fills p with what r has at off, or returns an error: an end before p is
// full is io.ErrUnexpectedEOF. All of p and an error is an error, as in fill.
func readAt(r io.ReaderAt, p []byte, off int64) (n int, err error) {
	err = guarded("ReaderAt.ReadAt", func() (err error) {
		n, err = r.ReadAt(p, off)
		return err
	})
	switch {
	case n < 0 || n > len(p):
		return 0, errCount
	case err != nil && err != io.EOF:
		return n, err
	case n < len(p):
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

// A section is a stream of the size bytes that r has.
type section struct {
	r         io.ReaderAt
	off, size int64
}

func (s *section) Read(p []byte) (int, error) {
	if s.off >= s.size {
		return 0, io.EOF
	}
	n, err := readAt(s.r, p[:min(int64(len(p)), s.size-s.off)], s.off)
	s.off += int64(n)
	return n, err
}

// write writes all of p, or returns an error.
func write(w io.Writer, p []byte) error {
	var n int
	err := guarded("Writer.Write", func() (err error) {
		n, err = w.Write(p)
		return err
	})
	switch {
	case err != nil:
		return err
	case n < 0 || n > len(p):
		return errCount
	case n < len(p):
		return io.ErrShortWrite
	}
	return nil
}
