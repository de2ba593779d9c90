package admission

import (
	"math"
	"testing"
	"time"
)

// TestClockJumps gives the line readings of a clock that is set back and forth.
func TestClockJumps(t *testing.T) {
	const year = 365 * 24 * time.Hour
	const step = time.Duration(maxStep)
	type at struct {
		clock time.Duration // since the start
		line  time.Duration // since the origin, at millisecond grain
	}
	for name, readings := range map[string][]at{
		"forward":                     {{0, 0}, {time.Second, time.Second}, {time.Hour, time.Hour}},
		"begins far":                  {{-100 * year, 0}, {-100*year + time.Second, time.Second}},
		"late":                        {{10e9, 0}, {20e9, 10e9}, {19.5e9, 10e9}, {21e9, 11e9}},
		"one stray":                   {{0, 0}, {time.Hour, time.Hour}, {0, time.Hour}, {time.Hour + 1e9, time.Hour + 1e9}},
		"strays that come in between": {{0, 0}, {60e9, 60e9}, {0, 60e9}, {61e9, 61e9}, {2e9, 61e9}, {62e9, 62e9}},
		"set back":                    {{60e9, 0}, {3600e9, 3540e9}, {60e9, 3540e9}, {61e9, 3540e9}, {62e9, 3541e9}},
		"set forward and back":        {{0, 0}, {year, year}, {1e9, year}, {2e9, year}, {3e9, year + 1e9}},
		"set far forward":             {{0, 0}, {100 * year, step}, {100*year + 1e9, step + 1e9}},
		"extremes":                    {{math.MinInt64, 0}, {math.MaxInt64, step}, {math.MinInt64, step}},
	} {
		var l timeline
		l.init()
		for i, s := range readings {
			got := time.Duration(l.at(start.Add(s.clock)) - origin)
			if d := got - s.line; d < -2<<tickBits || d > 2<<tickBits {
				t.Errorf("%s, reading %d: the line is at %v, want %v", name, i, got, s.line)
			}
		}
	}
}

// TestLineEnds shows that a clock gone mad stops the line before it overflows.
func TestLineEnds(t *testing.T) {
	var l timeline
	l.init()
	last := int64(0)
	for range 1000 {
		for _, d := range []time.Duration{1 << 61, 0, 2e9} {
			v := l.at(start.Add(d))
			if v < last>>tickBits<<tickBits || v > horizon {
				t.Fatalf("from %d to %d", last, v)
			}
			last = v
		}
	}
	if last < horizon/2 {
		t.Errorf("the line got no further than %d", last)
	}
}

// TestWallClockSet uses readings with a monotonic part: then nobody notices that
// the wall clock was set.
func TestWallClockSet(t *testing.T) {
	var l timeline
	l.init()
	now := time.Now()
	l.at(now)
	if got := l.at(now.Add(time.Hour)) - origin; got != int64(time.Hour) {
		t.Errorf("%v later", time.Duration(got))
	}
	for _, set := range []time.Duration{time.Hour, -time.Hour, -500 * time.Millisecond} {
		// To the line it is all one whether the clock or the offset moves.
		l.offset.Add(int64(set))
		for later := time.Duration(0); later < 10*time.Millisecond; later += 300 * time.Microsecond {
			now = now.Add(300 * time.Microsecond)
			if got, want := l.at(now.Add(time.Hour))-l.anchor.Load().line, now.Add(time.Hour).Sub(l.anchor.Load().clock); got != int64(want) {
				t.Fatalf("set by %v: %v later, want %v", set, time.Duration(got), want)
			}
		}
	}
}

// TestJumpsAdmitNoMore runs a greedy tenant under a clock that jumps back and
// forth, and finds no more admitted than its latest reading allows.
func TestJumpsAdmitNoMore(t *testing.T) {
	const burst = 10 * time.Second
	c := open(t, 100, Options{CapacityAge: MaxDuration, Burst: burst})
	now, latest, work := start, start, time.Duration(0)
	for i := range 2000 {
		now = now.Add([]time.Duration{time.Second, -time.Hour, time.Hour, 500 * time.Millisecond, -500 * time.Millisecond}[i%5])
		if now.After(latest) {
			latest = now
		}
		for range 20 {
			if c.Decide(ask("b", "p", 10, time.Second), now).Code == Admitted {
				work += 10 * time.Second
			}
		}
	}
	if most := 100 * (latest.Sub(start) + burst); work > most || work < most/4 {
		t.Errorf("admitted %v, capacity times time is %v", work, most)
	}
	// Set back for good, it goes on after a second.
	c.Decide(ask("b", "p", 10, time.Second), now.Add(-time.Hour))
	c.Decide(ask("b", "p", 10, time.Second), now.Add(time.Second-time.Hour))
	want(t, c.Decide(ask("b", "p", 10, time.Second), now.Add(20*time.Second-time.Hour)), Admitted)
}
