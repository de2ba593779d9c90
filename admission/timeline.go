package admission

import (
	"sync"
	"sync/atomic"
	"time"
)

// Invariant: the newest tick never goes back, and no reading lies before it. Late
// readings stand on it. If the clock was set back, so that for patience no other
// readings come, the line goes on from where it was. A clock that is set forward
// is believed, up to maxStep.

const (
	tickBits = 20             // a tick is 2^20 ns, about a millisecond
	slack    = int64(1e9)     // readings that are late by less are merely late
	patience = int64(1e9)     // how long a clock must run behind to be believed
	lag      = int64(50e6)    // a step by more waits for the lock
	maxStep  = int64(1) << 55 // 417 days, beyond every lease and window
	origin   = int64(1) << 50 // where the line begins, clear of zero
	horizon  = int64(1) << 61 // where it ends, clear of overflow
)

// timeline turns clock readings into nanoseconds on a line of the controller's
// own. It begins with the first reading.
//
// Within a tick, readings are placed by their wall clock alone, which is cheap. A
// reading that would leave the tick is placed by its distance from the anchor, and
// that follows the monotonic clock if both have one. So a wall clock that is set
// is at most a tick wrong, until the next tick.
type timeline struct {
	tick   atomic.Int64           // the newest tick that was entered
	offset atomic.Int64           // from UnixNano to the line, as of that tick
	anchor atomic.Pointer[anchor] // replaced when the clock was set

	mu     sync.Mutex // held while entering a tick, and guards behind
	behind int64      // the first of the readings far behind, 0 for none
}

// anchor is a moment on the clock and on the line. The clock's reading keeps its
// monotonic part if it has one, and then setting the wall clock is not noticed.
type anchor struct {
	clock time.Time
	line  int64
}

func (l *timeline) init() { l.anchor.Store(&anchor{}) }

// at places now on the line.
func (l *timeline) at(now time.Time) int64 {
	if v, ok := l.here(now.UnixNano()); ok {
		return v
	}
	return l.turn(now)
}

// here places a reading of the wall clock if it lies in the newest tick.
func (l *timeline) here(unixNano int64) (v int64, ok bool) {
	v = unixNano + l.offset.Load()
	return v, v>>tickBits == l.tick.Load()
}

func (a *anchor) at(now time.Time) int64 {
	return a.line + min(int64(now.Sub(a.clock)), 2*horizon)
}

func (l *timeline) turn(now time.Time) int64 {
	newest := l.tick.Load() << tickBits
	v := l.anchor.Load().at(now)
	switch {
	case newest == 0 || v < newest-slack || v-newest > lag:
		l.mu.Lock()
		v = l.enter(now)
	case v < newest:
		return newest
	case v < newest+1<<tickBits || !l.mu.TryLock():
		// Whoever comes first enters a new tick. The others need not wait for it.
		return v
	default:
		v = l.enter(now)
	}
	l.mu.Unlock()
	return v
}

// enter moves the line to now, and the anchor if the clock was set.
func (l *timeline) enter(now time.Time) int64 {
	newest := l.tick.Load() << tickBits
	v := l.anchor.Load().at(now)
	if newest == 0 {
		v = origin
		l.anchor.Store(&anchor{now, v})
	}
	if v < newest-slack {
		if l.behind == 0 || v < l.behind {
			l.behind = v
		}
		if v-l.behind >= patience {
			l.anchor.Store(&anchor{now, newest})
			l.offset.Store(newest - now.UnixNano())
			l.behind = 0
		}
		return newest
	}
	if most := min(newest+maxStep, horizon); newest > 0 && v > most {
		v = most
		l.anchor.Store(&anchor{now, v})
	}
	if v>>tickBits > newest>>tickBits {
		l.offset.Store(v - now.UnixNano())
		l.tick.Store(v >> tickBits)
		l.behind = 0
	}
	return max(v, newest)
}
