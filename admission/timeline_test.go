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
		"a stray from afar":           {{0, 0}, {math.MaxInt64, step}, {1e9, step}, {2e9, step}, {3e9, step + 1e9}},
		"extremes":                    {{math.MinInt64, 0}, {math.MaxInt64, step}, {math.MinInt64, step}},
	} {
		var l timeline
		for i, s := range readings {
			got := time.Duration(l.at(start.Add(s.clock)) - origin)
			if d := got - s.line; d < -2<<tickBits || d > 2<<tickBits {
				t.Errorf("%s, reading %d: the line is at %v, want %v", name, i, got, s.line)
			}
		}
	}
}

// at places a reading on the line.
func (l *timeline) at(now time.Time) int64 {
	if v, ok := l.here(now.UnixNano()); ok {
		return v
	}
	return l.turn(now)
}

// TestLineHasNoEnd lets a clock go mad, and finds that time passes afterwards as
// it does for everybody: nothing ends early, nothing waits for ever.
func TestLineHasNoEnd(t *testing.T) {
	var l timeline
	last := int64(0)
	for i := range 10_000 {
		for _, d := range []time.Duration{1 << 61, 0, 2e9, math.MinInt64, math.MaxInt64} {
			v := l.at(start.Add(d))
			if v < last>>tickBits<<tickBits || v > horizon {
				t.Fatalf("jump %d: from %d to %d", i, last, v)
			}
			last = v
		}
	}
	now := start.Add(math.MaxInt64 - time.Hour)
	const pause = 500 * time.Millisecond
	for i := range 10 {
		now = now.Add(pause)
		v := l.at(now)
		if i > 3 && v-last != int64(pause) { // a clock that was set back is believed by then
			t.Fatalf("%v took %v", pause, time.Duration(v-last))
		}
		last = v
	}
}

// TestStrayFromAfar has one reading so far ahead that the distance fits no
// duration. Time goes on a second later.
func TestStrayFromAfar(t *testing.T) {
	for _, stray := range []time.Time{time.Unix(1<<40, 0), time.Unix(1<<55, 0), time.Unix(1<<62, 0)} {
		var l timeline
		l.at(start)
		l.at(stray)
		l.at(start.Add(time.Second))
		first := l.at(start.Add(2 * time.Second))
		if got := l.at(start.Add(3*time.Second)) - first; got != int64(time.Second) {
			t.Errorf("after %v: a second took %v", stray, time.Duration(got))
		}
	}
}

// TestSetBackAfterAZeroTime gives the line a time that somebody forgot to set, and
// then a clock that was set back: it goes on after a second all the same.
func TestSetBackAfterAZeroTime(t *testing.T) {
	var l timeline
	l.at(start)
	for _, stray := range []time.Time{{}, time.Unix(-1<<62, 0), time.Unix(0, 0)} {
		l.at(stray)
	}
	back := start.Add(-time.Hour)
	l.at(back)
	first := l.at(back.Add(2 * time.Second))
	if got := l.at(back.Add(3*time.Second)) - first; got != int64(time.Second) {
		t.Errorf("a second after the clock was set back, %v passed", time.Duration(got))
	}
}

// TestWallClockSet uses readings with a monotonic part: then nobody notices that
// the wall clock was set.
func TestWallClockSet(t *testing.T) {
	var l timeline
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
			if c.DecideAt(ask("b", "p", 10, time.Second), now).Code == Admitted {
				work += 10 * time.Second
			}
		}
	}
	if most := 100 * (latest.Sub(start) + burst); work > most || work < most/4 {
		t.Errorf("admitted %v, capacity times time is %v", work, most)
	}
	// Set back for good, it goes on after a second.
	c.DecideAt(ask("b", "p", 10, time.Second), now.Add(-time.Hour))
	c.DecideAt(ask("b", "p", 10, time.Second), now.Add(time.Second-time.Hour))
	want(t, c.DecideAt(ask("b", "p", 10, time.Second), now.Add(20*time.Second-time.Hour)), Admitted)
}
