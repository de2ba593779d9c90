package sqldb

import (
	"context"
	"errors"
	"io"
	"testing"
)

type serverError string

func (e serverError) Error() string    { return string(e) }
func (e serverError) SQLState() string { return string(e) }

func TestOutcome(t *testing.T) {
	for err, unknown := range map[error]bool{
		serverError("40001"):       false,
		serverError("40P01"):       false,
		serverError("23505"):       false,
		serverError("57014"):       false, // a timeout
		serverError("57P05"):       false, // idle for too long, before the statement
		serverError("40003"):       true,
		serverError("57P01"):       true, // shut down
		serverError("57P02"):       true, // another backend crashed
		serverError("53100"):       true, // disk full, when the commit was written
		serverError("08006"):       true,
		serverError("XX000"):       true,
		io.ErrUnexpectedEOF:        true,
		context.DeadlineExceeded:   true,
		serverError("no sqlstate"): true,
	} {
		if got := errors.Is(Outcome(err), ErrUnknown); got != unknown || !errors.Is(Outcome(err), err) {
			t.Errorf("%v: unknown is %v, want %v", err, got, unknown)
		}
	}
	if Outcome(nil) != nil {
		t.Error("success has an error")
	}
}

func TestRetryable(t *testing.T) {
	for err, want := range map[error]bool{
		serverError("40001"):          true,
		serverError("40P01"):          true,
		serverError("25P03"):          false,
		serverError("23505"):          false,
		Outcome(serverError("40001")): true,
		Outcome(io.EOF):               false,
		errors.Join(ErrAgain, io.EOF): true,
	} {
		if retryable(err) != want {
			t.Errorf("%v: retryable is %v", err, !want)
		}
	}
}

func TestTranslate(t *testing.T) {
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Translate(dead, io.EOF); !errors.Is(err, context.Canceled) || !errors.Is(err, io.EOF) {
		t.Errorf("with a cancelled context: %v", err)
	}
	if err := Translate(t.Context(), closedError()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	unknown := Outcome(io.EOF)
	if err := Translate(dead, unknown); err != unknown {
		t.Errorf("unknown: %v", err)
	}
}
