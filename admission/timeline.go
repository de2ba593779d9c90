package admission

import (
	"sync"
	"sync/atomic"
	"time"
)

// Invariant: the newest tick never goes back, and no reading lies before it. Late
// readings stand on it. If the clock was set back, so that for patience no other
// readings come, the line goes on from where it was. A clock that is set forward
// is believed, up to maxStep, and up to a second once half of the line is used
// up: so the line has no end that jumps could reach.

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
//
// The zero timeline is ready.
type timeline struct {
	mark   atomic.Int64           // of the newest tick that was entered: odd, or 0 for none
	offset atomic.Int64           // from UnixNano to the line, as of that tick
	anchor atomic.Pointer[anchor] // replaced when the clock was set

	mu     sync.Mutex // held while entering a tick, and guards behind
	behind time.Time  // the first of the readings far behind, if late
	isLate bool
}

// anchor is a moment on the clock and on the line. The clock's reading keeps its
// monotonic part if it has one, and then setting the wall clock is not noticed.
type anchor struct {
	clock time.Time
	line  int64
}

// here places a reading of the wall clock if it lies in the newest tick.
func (l *timeline) here(unixNano int64) (v int64, ok bool) {
	v = unixNano + l.offset.Load()
	return v, v>>(tickBits-1)|1 == l.mark.Load()
}

// newest returns where the newest tick begins, or 0 before the first reading.
func (l *timeline) newest() int64 { return l.mark.Load() >> 1 << tickBits }

func (a *anchor) at(now time.Time) int64 {
	return a.line + min(max(int64(now.Sub(a.clock)), -2*horizon), 2*horizon)
}

// turn places a reading that may leave the tick.
func (l *timeline) turn(now time.Time) int64 {
	if newest := l.newest(); newest > 0 {
		v := l.anchor.Load().at(now)
		switch {
		case v < newest-slack || v-newest > lag:
			// Seldom, and then all wait for who decides what to make of it.
		case v < newest:
			return newest
		case v < newest+1<<tickBits || !l.mu.TryLock():
			// Whoever comes first enters a new tick. The others need not wait for it.
			return v
		default:
			defer l.mu.Unlock()
			return l.enter(now)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.enter(now)
}

// enter moves the line to now, and the anchor if the clock was set.
func (l *timeline) enter(now time.Time) int64 {
	newest := l.newest()
	if newest == 0 {
		l.moveTo(origin, now, true)
		return origin
	}
	v := l.anchor.Load().at(now)
	if v < newest-slack {
		return l.late(newest, now)
	}
	step := maxStep
	if newest > horizon/2 {
		step = slack
	}
	if most := min(newest+step, horizon); v > most {
		l.moveTo(most, now, true)
		return most
	}
	if v>>tickBits > newest>>tickBits {
		l.moveTo(v, now, false)
	}
	return max(v, newest)
}

// late stands on the newest tick, and goes on from there if the clock runs behind
// for long enough. How far behind does not matter, and may be too far to tell.
func (l *timeline) late(newest int64, now time.Time) int64 {
	if !l.isLate || now.Before(l.behind) {
		l.behind, l.isLate = now, true
	}
	if now.Sub(l.behind) >= time.Duration(patience) {
		l.moveTo(newest, now, true)
	}
	return newest
}

// moveTo enters the tick of v, where now lies.
func (l *timeline) moveTo(v int64, now time.Time, set bool) {
	if set {
		l.anchor.Store(&anchor{now, v})
	}
	l.offset.Store(v - now.UnixNano())
	l.mark.Store(v>>(tickBits-1) | 1)
	l.isLate = false
}
