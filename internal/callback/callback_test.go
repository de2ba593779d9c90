package callback_test

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/computemarket/computemarket/internal/callback"
)

type nilError struct{ cause error }

func (e *nilError) Error() string { return e.cause.Error() }
func (e *nilError) Unwrap() error { return e.cause }

func TestEnds(t *testing.T) {
	var typedNil *nilError
	for _, c := range []struct {
		name string
		f    func() error
		is   error  // that the answer wraps, if any
		text string // that it contains
	}{
		{"success", func() error { return nil }, nil, ""},
		{"error", func() error { return io.EOF }, io.EOF, "EOF"},
		{"panic", func() error { panic("boom") }, nil, "panic in Post: boom"},
		{"panic with an error", func() error { panic(io.EOF) }, io.EOF, "panic in Post: EOF"},
		{"panic with a typed nil", func() error { panic(typedNil) }, nil, "panic in Post"},
		{"panic with nil", func() error { panic(nil) }, nil, "panic in Post"},
		{"typed nil", func() error { return typedNil }, nil, "*callback_test.nilError"},
		{"wrapped typed nil", func() error { return errors.Join(io.EOF, typedNil) }, nil, "unusable"},
		{"goexit", func() error { runtime.Goexit(); return nil }, callback.ErrGoexit, "Goexit was called in Post"},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := map[string]func(string, func() error) error{"Run": callback.Run, "Guard": callback.Guard}
			if c.is == callback.ErrGoexit {
				delete(calls, "Guard")
			}
			for call, in := range calls {
				err := in("Post", c.f)
				if c.text == "" {
					if err != nil {
						t.Errorf("%s: %v", call, err)
					}
					continue
				}
				if err == nil || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%s: %v, want %q in it", call, err, c.text)
				}
				if c.is != nil && !errors.Is(err, c.is) {
					t.Errorf("%s: %v does not wrap %v", call, err, c.is)
				}
				errors.Is(err, io.ErrClosedPipe) // must not panic, whatever it is
			}
		})
	}
}

func TestPanicKeepsItsStack(t *testing.T) {
	err := callback.Guard("Post", func() error { panic("boom") })
	p, ok := errors.AsType[*callback.Panic](err)
	if !ok || p.Value != "boom" || !strings.Contains(string(p.Stack), "TestPanicKeepsItsStack") {
		t.Errorf("%+v", err)
	}
}
