package match

import (
	"math"
	"time"

	"github.com/computemarket/computemarket/internal/elapsed"
)

// passing adds up the time that passes between two looks at a clock. It never runs
// backward, and no step of the clock makes it leap.
type passing struct {
	watch elapsed.Watch
	sum   time.Duration
}

// tick takes a reading of the clock.
func (p *passing) tick(now time.Time) time.Duration {
	p.sum = later(p.sum, p.watch.Look(now))
	return p.sum
}

// later adds times of which the longest means for ever.
func later(t, d time.Duration) time.Duration {
	if d > math.MaxInt64-t {
		return math.MaxInt64
	}
	return t + d
}
