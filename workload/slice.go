package workload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"
)

// Kind names the sort of work a slice asks for. Any text may name a kind; a
// Runner runs those it has a [Job] for.
type Kind string

// The kinds that every Runner knows.
const (
	Transcode Kind = "transcode"
	Inference Kind = "inference"
)

// MaxID is the greatest length of a slice ID, in bytes.
const MaxID = 256

// A Slice is one piece of work. Its ID stands for its kind and its input: a
// Runner refuses an ID that comes again with others.
type Slice struct {
	ID    string // 1 to MaxID bytes of UTF-8
	Kind  Kind
	Input Input
}

func (s *Slice) validate() error {
	switch {
	case s.ID == "":
		return fmt.Errorf("%w: no ID", ErrSlice)
	case len(s.ID) > MaxID:
		return fmt.Errorf("%w: ID of %d bytes, at most %d", ErrSlice, len(s.ID), MaxID)
	case !utf8.ValidString(s.ID):
		return fmt.Errorf("%w: ID is not UTF-8", ErrSlice)
	}
	return s.Input.validate()
}

// An Input is the raw content of a slice, made by [Bytes], [Reader], [ReaderAt]
// or [File]. What it refers to must not change until the call that was given the
// Input has returned; after that the Input is not used again. The zero Input is
// invalid, so that a forgotten one is not taken for an empty slice.
type Input struct {
	form form
	b    []byte
	r    io.Reader
	at   io.ReaderAt
	size int64 // bytes; -1 for a stream
}

type form uint8

const (
	formBytes form = iota + 1
	formStream
	formAt
)

// Bytes is an input in memory. An empty or nil b is an empty slice.
func Bytes(b []byte) Input { return Input{form: formBytes, b: b, size: int64(len(b))} }

// Reader is an input of any length, read once, from where r stands to io.EOF, in
// constant memory. A stream that a Run has started on is spent, whatever Run
// returns.
func Reader(r io.Reader) Input { return Input{form: formStream, r: r, size: -1} }

// ReaderAt is an input of size bytes that r gives at any offset. It is read from
// several goroutines at once. An r that ends before size is
// [io.ErrUnexpectedEOF].
func ReaderAt(r io.ReaderAt, size int64) Input { return Input{form: formAt, at: r, size: size} }

// File is the content of f from its start, as long as it is now. A file that
// has no length of its own, such as a pipe or a terminal, is read as a stream.
// A directory is an error. The caller closes f, after the last use of the Input.
func File(f *os.File) (Input, error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return Input{}, err
	case info.IsDir():
		return Input{}, &fs.PathError{Op: "read", Path: f.Name(), Err: errors.New("is a directory")}
	case !info.Mode().IsRegular() || info.Size() == 0:
		// Files under /proc call themselves regular and empty, and are neither.
		return Reader(f), nil
	}
	return ReaderAt(f, info.Size()), nil
}

// Size returns the length in bytes, or -1 for a stream.
func (in Input) Size() int64 { return in.size }

func (in *Input) validate() error {
	switch {
	case in.form == 0:
		return fmt.Errorf("%w: no input", ErrSlice)
	case in.form == formStream && in.r == nil, in.form == formAt && in.at == nil:
		return fmt.Errorf("%w: nil reader", ErrSlice)
	case in.form == formAt && in.size < 0:
		return fmt.Errorf("%w: size %d", ErrSlice, in.size)
	}
	return nil
}

// reader returns the input as a stream.
func (in *Input) reader() io.Reader {
	switch in.form {
	case formBytes:
		return bytes.NewReader(in.b)
	case formAt:
		return &exactReader{io.NewSectionReader(in.at, 0, in.size), in.size}
	}
	return in.r
}

// exactReader turns an end before the stated size into an error.
type exactReader struct {
	r    io.Reader
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if e.left -= int64(n); err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
