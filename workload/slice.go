package workload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
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

// Reader is an input of any length, read once, from where r stands to its first
// io.EOF, in constant memory. What r may have after that is left in it. A stream
// that a Run has started on is spent, whatever Run returns. An r that gives neither
// bytes nor an error again and again is [io.ErrNoProgress].
func Reader(r io.Reader) Input { return Input{form: formStream, r: r, size: -1} }

// ReaderAt is an input of size bytes that r gives at any offset. It is read from
// several goroutines at once, and never beyond size. An r that ends before size is
// [io.ErrUnexpectedEOF]. No memory is taken in proportion to size before as much
// was read.
func ReaderAt(r io.ReaderAt, size int64) Input { return Input{form: formAt, at: r, size: size} }

// File is the content of f from its start to its end, wherever f's offset is,
// which stays where it is. A pipe or a terminal, which has no start to go back to,
// is a stream from where it stands. Of a regular file the length that it states is
// checked, and believed only if the file ends there: those under /proc and /sys
// state another, and are streams too. A directory is an error, and a nil f is
// [ErrOptions]. The caller closes f, after the last use of the Input.
func File(f *os.File) (Input, error) {
	if f == nil {
		return Input{}, fmt.Errorf("%w: no file", ErrOptions)
	}
	info, err := f.Stat()
	if err != nil {
		return Input{}, err
	}
	if info.IsDir() {
		return Input{}, &fs.PathError{Op: "read", Path: f.Name(), Err: errors.New("is a directory")}
	}
	if _, err := f.Seek(0, io.SeekCurrent); err != nil {
		return Reader(f), nil // it has no offsets
	}
	if info.Mode().IsRegular() && endsAt(f, info.Size()) {
		return ReaderAt(f, info.Size()), nil
	}
	return Reader(io.NewSectionReader(f, 0, math.MaxInt64)), nil
}

// endsAt reports whether r has a byte before size and none at it.
func endsAt(r io.ReaderAt, size int64) bool {
	var b [1]byte
	if size > 0 {
		if n, _ := r.ReadAt(b[:], size-1); n == 0 {
			return false
		}
	}
	n, err := r.ReadAt(b[:], size)
	return n == 0 && err == io.EOF
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

// stream returns the input as a stream.
func (in *Input) stream() io.Reader {
	switch in.form {
	case formBytes:
		return bytes.NewReader(in.b)
	case formAt:
		return &section{r: in.at, size: in.size}
	}
	return in.r
}

// piece returns the n bytes at off of an input that is no stream: those in memory
// as they are, others read into w's buffer.
func (in *Input) piece(w *worker, off, n int64) ([]byte, error) {
	if in.form == formBytes {
		return in.b[off : off+n], nil
	}
	buf := w.buffer()[:n]
	_, err := readAt(in.at, buf, off)
	return buf, err
}
