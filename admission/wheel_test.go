package admission

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type heldLease struct {
	end, shards, length int64
	place               place
	lane                int
	at                  uint32
}

// wheelOf is a wheel with its leases.
type wheelOf struct {
	wheel
	tables [len(Lanes)]leases
}

func newWheel(now int64) *wheelOf {
	w := &wheelOf{tables: [len(Lanes)]leases{newLeases(1000), newLeases(1000)}}
	w.sweep(now, &w.tables)
	return w
}

func (w *wheelOf) hold(l *heldLease) {
	ls := &w.tables[l.lane]
	l.at = ls.take()
	in := w.add(l.place, uint(l.lane), l.shards)
	if in.first == 0 {
		w.begin(l.place)
	}
	ls.append(in, l.at)
}

func (w *wheelOf) drop(l heldLease) {
	ls := &w.tables[l.lane]
	in := w.add(l.place, uint(l.lane), -l.shards)
	ls.remove(in, l.at)
	ls.append(&ls.free, l.at)
}

func (p place) end() int64 { return p.turn << (tickBits + int(p.level)*levelBits) }

// TestWheel holds the wheel against a plain list of leases: nothing is freed
// before its deadline, nothing stays much longer, each place is held by one lease,
// and what the wheel says of the future comes true.
func TestWheel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := origin
		w := newWheel(now)
		var live []heldLease
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "do") {
			case 0, 1:
				l := heldLease{shards: rapid.Int64Range(1, MaxShards).Draw(t, "shards"), lane: rapid.IntRange(0, 1).Draw(t, "lane")}
				scale := rapid.IntRange(0, 51).Draw(t, "scale")
				l.length = min(rapid.Int64Range(1, 1<<scale).Draw(t, "length"), int64(MaxDuration))
				l.end = now + l.length
				l.place = placeOf(now, l.end)
				if late := l.place.end() - l.end; late <= 0 || late > l.length/31+2<<tickBits {
					t.Fatalf("a lease of %d ends %d late", l.length, late)
				}
				w.hold(&l)
				live = append(live, l)
			case 2:
				if len(live) > 0 {
					i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
					if l := live[i]; now < l.end {
						w.drop(l)
						live = append(live[:i:i], live[i+1:]...)
					}
				}
			case 3:
				now += rapid.Int64Range(0, 1<<rapid.IntRange(0, 44).Draw(t, "scale")).Draw(t, "pause")
				w.sweep(now, &w.tables)
			}
			live = slices.DeleteFunc(live, func(l heldLease) bool { return l.place.end() <= now })
			w.check(t, now, live)
		}
		w.sweep(now+int64(2*MaxDuration), &w.tables)
		w.check(t, now, nil)
	})
}

func (w *wheelOf) check(t *rapid.T, now int64, live []heldLease) {
	var held [len(Lanes)]int64
	first := [...]int64{never, never}
	seen := [len(Lanes)]map[uint32]bool{{}, {}}
	for _, l := range live {
		held[l.lane] += l.shards
		first[l.lane] = min(first[l.lane], l.place.end())
		if seen[l.lane][l.at] {
			t.Fatalf("two leases in place %d", l.at)
		}
		seen[l.lane][l.at] = true
	}
	if w.held != held {
		t.Fatalf("%d held, want %d", w.held, held)
	}
	for lane := range w.tables {
		if got := w.placeAt(lane, now); got != first[lane] {
			t.Fatalf("lane %d: next place at %d, want %d", lane, got, first[lane])
		}
		ls := &w.tables[lane]
		free := len(ls.places) - 1 - int(ls.used)
		for place := ls.free.first; place != 0; place = ls.links[place].after {
			if free++; seen[lane][place] {
				t.Fatalf("place %d is free and held", place)
			}
		}
		if free+len(seen[lane]) != 1000 {
			t.Fatalf("%d places free and %d held of 1000", free, len(seen[lane]))
		}
	}
	slices.SortFunc(live, func(a, b heldLease) int { return cmp.Compare(a.place.end(), b.place.end()) })
	freed := int64(0)
	for _, l := range live {
		if got := w.freeAt(freed+1, now); got != l.place.end() {
			t.Fatalf("%d shards free at %d, want %d", freed+1, got, l.place.end())
		}
		freed += l.shards
	}
	if at := w.freeAt(freed+1, now); at != never {
		t.Fatalf("%d shards of %d free at %d", freed+1, freed, at)
	}
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
		now := origin
		w := newWheel(now)
		w.hold(&heldLease{place: placeOf(now, now+1), shards: 5})
		now += turns << (tickBits + cellBits)
		w.sweep(now, &w.tables)
		if h := w.held; h[0] != 0 {
			t.Errorf("after %d turns: %d held", turns, h)
		}
	}
}
