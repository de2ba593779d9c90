package priceboard

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/internal/callback"
)

// handler is a log that does what a test wants at each line.
type handler struct {
	slog.Handler
	do func(message string)
}

func (h handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(_ context.Context, r slog.Record) error { h.do(r.Message); return nil }

func logging(do func(message string)) *Options {
	return &Options{Logger: slog.New(handler{do: do})}
}

// misbehave are what a caller's code can do instead of returning.
var misbehave = map[string]func(){
	"panic":  func() { panic("boom") },
	"goexit": runtime.Goexit,
}

// failed checks that err names the callback that misbehaved.
func failed(t *testing.T, what string, err error, callbackName string) {
	t.Helper()
	_, panicked := errors.AsType[*callback.Panic](err)
	if !panicked && !errors.Is(err, callback.ErrGoexit) || !strings.Contains(err.Error(), callbackName) {
		t.Errorf("%s: %v, want the failure of %s", what, err, callbackName)
	}
}

// TestLoggerThatFails: a logger that panics or ends its goroutine fails the call,
// not the board; after Close the store is free in any case, and what the call had
// done before it logged is done.
func TestLoggerThatFails(t *testing.T) {
	for name, do := range misbehave {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "price_board.v1.bin")
			bad := false
			opts := logging(func(string) {
				if bad {
					do()
				}
			})
			b := openBoard(t, File(path, nil), opts)
			b.Record(1)
			bad = true
			failed(t, "Save", b.Save(t.Context()), "Logger")
			b.Record(2)
			failed(t, "Close", b.Close(), "Logger")
			if err := b.Close(); err != nil { // the store had all it needed
				t.Errorf("Close again: %v", err)
			}
			_, err := Open(t.Context(), File(path, nil), opts)
			failed(t, "Open", err, "Logger")
			b = openBoard(t, File(path, nil), nil)
			if r := b.LoadResult(); r.Prices != 2 {
				t.Errorf("%+v", r)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestStoreThatFails: so with each method of a store.
func TestStoreThatFails(t *testing.T) {
	for name, do := range misbehave {
		t.Run(name, func(t *testing.T) {
			bad := ""
			store := &fakeStore{call: func(method string) {
				if method == bad {
					do()
				}
			}}
			bad = "Store.Load"
			_, err := Open(t.Context(), store, nil)
			failed(t, "Open", err, bad)
			bad = "Store.Save"
			b := openBoard(t, store, nil)
			b.Record(1)
			failed(t, "Save", b.Save(t.Context()), bad)
			bad = ""
			if err := b.Save(t.Context()); err != nil {
				t.Errorf("the next Save: %v", err)
			}
			bad = "Store.Close"
			for range 2 {
				failed(t, "Close", b.Close(), bad)
			}
			if store.closes != 1 {
				t.Errorf("%d closes", store.closes)
			}
		})
	}
}

// TestRunOutlivesItsLogger: a log that cannot be written hinders no save.
func TestRunOutlivesItsLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, bad := &fakeStore{}, false
		b := openBoard(t, store, logging(func(string) {
			if bad {
				panic("boom")
			}
		}))
		bad = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		for i := range uint64(3) {
			b.Record(i)
			time.Sleep(31 * time.Second)
		}
		synctest.Wait()
		if got := store.count(); got != 3 {
			t.Errorf("%d saves, want 3", got)
		}
		cancel()
		failed(t, "Run", <-done, "Logger")
	})
}

// TestCallbacksThatCallBack: neither a logger nor a store is called with a lock
// held that the board's methods need.
func TestCallbacksThatCallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a deadlock ends the test
		var b *Board
		calls := 0
		ask := func() {
			calls++
			b.Record(1)
			b.Bands()
			b.Quantile(0.5)
			b.LoadResult()
		}
		inner := false
		store := &fakeStore{call: func(method string) {
			if method != "Store.Load" {
				ask()
			}
		}}
		b = openBoard(t, store, logging(func(message string) {
			if message != "saved price board" || inner {
				return
			}
			inner = true
			ask()
			if err := b.Save(t.Context()); err != nil && !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}))
		b.Record(1)
		if err := b.Save(t.Context()); err != nil {
			t.Error(err)
		}
		if calls != 5 { // save, its log, save in it, save at Close, Close
			t.Errorf("%d calls", calls)
		}
		if store.closes != 1 {
			t.Errorf("%d closes", store.closes)
		}
	})
}
