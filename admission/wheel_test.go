package admission

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

type heldLease struct {
	end, shards, length int64
	place               place
}

// TestWheel holds the wheel against a plain list of leases: nothing is freed
// before its deadline, and nothing stays much longer.
func TestWheel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w wheel
		var live []heldLease
		now := origin
		w.sweep(now)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "do") {
			case 0, 1:
				l := heldLease{shards: rapid.Int64Range(1, MaxShards).Draw(t, "shards")}
				scale := rapid.IntRange(0, 51).Draw(t, "scale")
				l.length = min(rapid.Int64Range(1, 1<<scale).Draw(t, "length"), int64(MaxDuration))
				l.end = now + l.length
				l.place = placeOf(now, l.end)
				w.add(l.place, l.shards)
				live = append(live, l)
			case 2:
				if len(live) > 0 {
					i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
					if l := live[i]; now < l.end {
						w.remove(l.place, l.shards)
						live = append(live[:i:i], live[i+1:]...)
					}
				}
			case 3:
				now += rapid.Int64Range(0, 1<<rapid.IntRange(0, 44).Draw(t, "scale")).Draw(t, "pause")
				w.sweep(now)
			}
			least, most := int64(0), int64(0)
			keep := live[:0:0]
			for _, l := range live {
				if now < l.end {
					least += l.shards
				}
				// A cell is 1/31 of the length at most, or two ticks.
				if now < l.end+l.length/31+2<<tickBits {
					most += l.shards
					keep = append(keep, l)
				}
			}
			live = keep
			if h := w.held; h < least || h > most {
				t.Fatalf("%d held, want %d to %d", h, least, most)
			}
			if next := w.next(now); next <= now {
				t.Fatalf("next end at %d, now %d", next, now)
			}
		}
		w.sweep(now + int64(2*MaxDuration))
		if h := w.held; h != 0 {
			t.Fatalf("%d held after the last deadline", h)
		}
	})
}

// TestPlace shows that every length finds a cell that is not yet due and comes
// due within one turn.
func TestPlace(t *testing.T) {
	for _, at := range []int64{origin, origin + 1<<tickBits - 1, origin + 12345678901} {
		for length := int64(1); length <= int64(MaxDuration); length += 1 + length/97 {
			for _, l := range []int64{length, int64(MaxDuration)} {
				p := placeOf(at, at+l)
				width := tickBits + int(p.level)*levelBits
				if ahead := p.turn - at>>width; p.level >= levels || ahead < 1 || ahead >= cellsPerLevel {
					t.Fatalf("%v: level %d, %d cells ahead", time.Duration(l), p.level, ahead)
				}
			}
		}
	}
}

// TestWheelAfterLongIdle sweeps once after many turns of the wheel.
func TestWheelAfterLongIdle(t *testing.T) {
	for turns := int64(1); turns < 1<<18; turns = turns*3/2 + 1 {
		var w wheel
		now := origin
		w.sweep(now)
		w.add(placeOf(now, now+1), 5)
		now += turns << (tickBits + cellBits)
		w.sweep(now)
		if h := w.held; h != 0 {
			t.Errorf("after %d turns: %d held", turns, h)
		}
	}
}
