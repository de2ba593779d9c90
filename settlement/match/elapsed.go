package match

import (
	"math"
	"time"
)

const longestLeap = 30 * 24 * time.Hour

// elapsed adds up the time that passes by a clock. It never runs backward, also
// where the clock does: then nothing has passed. Nor does it come near its end
// in one leap: a clock that is set forward by more than longestLeap passes that.
type elapsed struct {
	last    time.Time
	running bool
	sum     time.Duration
}

// tick takes a reading of the clock.
func (e *elapsed) tick(now time.Time) time.Duration {
	e.sum = e.at(now)
	e.last, e.running = now, true
	return e.sum
}

// at is what tick would return.
func (e *elapsed) at(now time.Time) time.Duration {
	if !e.running {
		return e.sum
	}
	return later(e.sum, min(max(0, now.Sub(e.last)), longestLeap))
}

// later adds times of which the longest means for ever.
func later(t, d time.Duration) time.Duration {
	if d > math.MaxInt64-t {
		return math.MaxInt64
	}
	return t + d
}
