package elapsed

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, steps := range map[string][][2]time.Duration{ // step of the clock, what counts of it
		"goes on":          {{time.Second, time.Second}, {0, 0}, {time.Minute, time.Minute}},
		"far ahead":        {{time.Hour, 0}, {time.Second, time.Second}},
		"far back":         {{-time.Hour, 0}, {time.Second, 0}, {time.Hour, 0}, {time.Second, time.Second}},
		"minutes back":     {{-90 * time.Second, 0}, {time.Minute, 0}, {time.Minute, 30 * time.Second}},
		"a little back":    {{-time.Second, 0}, {time.Second, 0}, {time.Second, time.Second}},
		"to and fro":       {{-50 * time.Second, 0}, {50 * time.Second, 0}, {-50 * time.Second, 0}, {50 * time.Second, 0}},
		"far to and fro":   {{-2 * time.Hour, 0}, {2 * time.Hour, 0}, {-2 * time.Hour, 0}, {2 * time.Hour, 0}},
		"a year in future": {{8760 * time.Hour, 0}, {time.Second, time.Second}, {-8760 * time.Hour, 0}, {time.Second, 0}},
		"out of range":     {{math.MaxInt64, 0}, {math.MaxInt64, 0}, {math.MinInt64, 0}, {math.MinInt64, 0}, {time.Minute, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // no real time passes
				var w Watch
				now := at
				if d := w.Look(now); d != 0 {
					t.Fatalf("the first look counts %v", d)
				}
				for i, s := range steps {
					now = now.Add(s[0])
					if d := w.Look(now); d != s[1] {
						t.Errorf("step %d of %v counts %v, want %v", i, s[0], d, s[1])
					}
				}
			})
		})
	}
}

// A clock that goes far back and comes again in small steps counts no time twice.
func TestToAndFro(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Watch
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		w.Look(now)
		var sum time.Duration
		for range 1000 {
			for _, step := range []time.Duration{-2 * time.Minute, time.Minute, time.Minute} {
				now = now.Add(step)
				sum += w.Look(now)
			}
		}
		if sum != 0 {
			t.Errorf("%v counted while no time passed", sum)
		}
		// It is believed as far as time really passes, and again when it is where it was.
		now = now.Add(-time.Hour)
		w.Look(now)
		for range 120 {
			time.Sleep(30 * time.Second)
			now = now.Add(30 * time.Second)
			sum += w.Look(now)
		}
		if sum != time.Hour {
			t.Errorf("%v counted in an hour", sum)
		}
		now = now.Add(time.Minute)
		if d := w.Look(now); d != time.Minute {
			t.Errorf("%v counted of a minute", d)
		}
	})
}

// A process that looks seldom is believed as far as its own clock agrees.
func TestSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wall, mono Watch
		wall.Look(time.Now().Round(0))
		mono.Look(time.Now())
		time.Sleep(time.Hour)
		if d := wall.Look(time.Now().Round(0).Add(5 * time.Hour)); d != time.Hour {
			t.Errorf("%v, want 1h: the rest is a jump", d)
		}
		if d := mono.Look(time.Now()); d != time.Hour {
			t.Errorf("%v, want 1h", d)
		}
	})
}
