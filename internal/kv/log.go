package kv

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// logger is the slog.Logger of the caller as Pebble wants it. Pebble logs on
// goroutines and under locks of its own, and under those of a commit, where the
// caller's handler must not run: it might call the database. So what Pebble says
// is kept until a call of the caller's is over.
type logger struct {
	to    *slog.Logger
	fence *fence

	mu   sync.Mutex
	kept []line
}

type line struct{ msg, err string }

// maxKept bounds what is kept; the first lines tell most.
const maxKept = 64

// flush hands on what has been kept. No lock is held.
func (l *logger) flush() {
	l.mu.Lock()
	kept := l.kept
	l.kept = nil
	l.mu.Unlock()
	for _, k := range kept {
		l.to.Error(k.msg, "err", k.err)
	}
}

func (l *logger) keep(msg, err string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) < maxKept {
		l.kept = append(l.kept, line{msg, err})
	}
}

func (l *logger) Infof(string, ...any) {}

func (l *logger) Errorf(format string, args ...any) {
	if l.fence.reason() == nil { // what comes after the first failure follows from it
		l.keep("pebble", fmt.Sprintf(format, args...))
	}
}

// Fatalf is called where Pebble would rather not live on; the fence makes that
// true for the disk, and the process lives.
func (l *logger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.fence.fail(errors.New(msg))
	l.keep("pebble: fatal, the store is poisoned", msg)
}
