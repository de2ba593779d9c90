package match

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/settlement"
)

// Every call into the caller's code that is not Finalize or the log is here. None
// is made under a lock, and none can end the loop: what it fails with is
// reported, and the loop goes on.

// now reads the clock; if that fails, it is the last reading, or at the beginning
// the system's.
func (l *Loop) now() time.Time {
	if l.o.Clock == nil {
		return time.Now()
	}
	var t time.Time
	err := callback.Run("Clock.Now", func() error {
		t = l.o.Clock.Now()
		if y := t.UTC().Year(); y < 1 || y > 9999 { // no receipt can say so
			return fmt.Errorf("match: the clock tells the year %d", y)
		}
		return nil
	})
	if err != nil {
		l.reports.mu.Lock()
		t = l.reports.reading
		l.reports.mu.Unlock()
		if t.IsZero() {
			t = time.Now()
		}
		l.report(slog.LevelError, "clock failed", "err", err)
		return t
	}
	l.reports.mu.Lock()
	l.reports.reading = t
	l.reports.mu.Unlock()
	return t
}

// wraps is errors.Is for an error of the caller's code, which may fail at that.
func wraps(err, target error) (is bool) {
	if err == nil {
		return false
	}
	_ = callback.Run("errors.Is", func() error {
		is = errors.Is(err, target)
		return nil
	})
	return is
}

// mode asks the engine.
func (l *Loop) mode() (m settlement.Mode, err error) {
	if l.o.Engine == nil {
		return settlement.DryRun, nil
	}
	err = callback.Run("Engine.Mode", func() error {
		m = l.o.Engine.Mode()
		return nil
	})
	return m, err
}

// tell makes n calls of one callback, in order, each of which may fail by
// itself.
func (l *Loop) tell(name string, n int, call func(i int)) {
	for i := 0; i < n; {
		err := callback.Run(name, func() error {
			for i < n {
				i++
				call(i - 1)
			}
			return nil
		})
		if err != nil {
			l.report(slog.LevelError, "callback failed", "callback", name, "err", err)
		}
	}
}

func (l *Loop) wakeEngine() {
	if l.o.Engine != nil {
		l.tell("Engine.Wake", 1, func(int) { l.o.Engine.Wake() })
	}
}

func (l *Loop) persistFailed(n int) {
	if l.o.Metrics != nil {
		l.tell("Metrics.PersistFailed", n, func(int) { l.o.Metrics.PersistFailed() })
	}
}

func (l *Loop) onFailed(m Match, err error) {
	if l.o.OnFailed != nil {
		l.tell("OnFailed", 1, func(int) { l.o.OnFailed(m, err) })
	}
}

// log writes a line. If that fails, there is nobody to tell.
func (l *Loop) log(level slog.Level, msg string, args ...any) {
	if l.o.Logger == nil {
		return
	}
	_ = callback.Run("Logger", func() error {
		l.o.Logger.Log(context.Background(), level, msg, args...)
		return nil
	})
}

// reports keeps the log short when the same thing fails again and again.
type reports struct {
	mu      sync.Mutex
	reading time.Time // last of the Clock
	kinds   map[string]*reported
}

type reported struct {
	at   time.Time
	more int // that were not logged since
}

const reportEvery = time.Second

// report logs what may happen a hundred thousand times a second: of each message
// one line a second, with how many were left out.
func (l *Loop) report(level slog.Level, msg string, args ...any) {
	if l.o.Logger == nil {
		return
	}
	l.reports.mu.Lock()
	k := l.reports.kinds[msg]
	if k == nil {
		if l.reports.kinds == nil {
			l.reports.kinds = make(map[string]*reported)
		}
		k = new(reported)
		l.reports.kinds[msg] = k
	}
	now, more := time.Now(), k.more
	quiet := !k.at.IsZero() && now.Sub(k.at) < reportEvery
	if quiet {
		k.more++
	} else {
		k.at, k.more = now, 0
	}
	l.reports.mu.Unlock()
	if quiet {
		return
	}
	if more > 0 {
		args = append(args, "before", more)
	}
	l.log(level, msg, args...)
}

// reportRest logs how many reports were left out.
func (l *Loop) reportRest() {
	l.reports.mu.Lock()
	rest := make(map[string]int)
	for msg, k := range l.reports.kinds {
		if k.more > 0 {
			rest[msg] = k.more
			k.more = 0
		}
	}
	l.reports.mu.Unlock()
	for _, msg := range slices.Sorted(maps.Keys(rest)) {
		l.log(slog.LevelInfo, msg, "more", rest[msg])
	}
}
