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
		"far back":         {{-time.Hour, 0}, {time.Second, time.Second}, {time.Hour, 0}},
		"a little back":    {{-time.Second, 0}, {time.Second, 0}, {time.Second, time.Second}},
		"to and fro":       {{-50 * time.Second, 0}, {50 * time.Second, 0}, {-50 * time.Second, 0}, {50 * time.Second, 0}},
		"far to and fro":   {{-2 * time.Hour, 0}, {2 * time.Hour, 0}, {-2 * time.Hour, 0}, {2 * time.Hour, 0}},
		"a year in future": {{8760 * time.Hour, 0}, {time.Second, time.Second}, {-8760 * time.Hour, 0}, {time.Second, time.Second}},
		"out of range":     {{math.MaxInt64, 0}, {math.MaxInt64, 0}, {math.MinInt64, 0}, {time.Second, time.Second}},
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
