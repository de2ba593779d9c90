// Package elapsed tells how much time has passed between two looks at a clock
// that may jump.
package elapsed

import (
	"math"
	"time"
)

// Trusted is the step that a clock is believed in one look. Look more often than
// this.
const Trusted = time.Minute

// A Watch adds up nothing: each Look says what has passed since the one before.
// The zero Watch has not looked yet. It is not safe for concurrent use.
//
// Readings with a monotonic part are believed, whatever the wall clock does. Of
// others, a step back counts as nothing, and a step of up to [Trusted] as what it
// says. Two kinds of step count only as far as the process's own clock says that
// time has passed: a greater one, which may be a jump, and those that only make
// good a jump back, lest a clock that goes to and fro counts the same time again
// and again. So a jump makes nothing early and nothing wait for ever, and a clock
// that is moved by hand is moved forward, in steps of a minute at most.
type Watch struct {
	last  time.Time     // the reading that counts from now on
	real  time.Time     // when it was read, by the process's own clock
	doubt time.Duration // how far the clock was set back, and has not come again since
}

// Look returns how much time has passed since the last Look: 0 for the first.
func (w *Watch) Look(now time.Time) time.Duration {
	last, real := w.last, w.real
	w.last, w.real = now, time.Now()
	if last.IsZero() && real.IsZero() {
		return 0
	}
	d := now.Sub(last)
	switch {
	case d < 0 && d >= -Trusted:
		// Two looks that crossed, or a clock that was set a little: wait for it
		// to come to where it was, so that no time counts twice.
		w.last, w.real = last, real
		return 0
	case d < 0:
		w.doubt -= max(d, w.doubt-math.MaxInt64)
		return 0
	case monotonic(now) && monotonic(last):
		w.doubt = 0
		return d
	}
	passed := max(w.real.Sub(real), 0)
	doubtful := min(d, w.doubt)
	w.doubt -= doubtful
	if d > Trusted {
		return min(d, passed)
	}
	return min(doubtful, passed) + d - doubtful
}

func monotonic(t time.Time) bool { return t != t.Round(0) }
