package match

import (
	"sync"
	"time"

	"github.com/computemarket/computemarket/admission"
)

// LaneStats describe a lane of a running loop.
type LaneStats struct {
	Stats

	Oldest   time.Duration // how long the oldest order has waited
	Waiting  time.Duration // how long the lane could have matched and got nothing
	Starving bool          // Waiting has passed LoopOptions.StarveAfter
}

// lanes shares the matches of each pass between the lanes, and watches that
// each gets some.
type lanes struct {
	turns int // matches that consumers had since industry's turn; Run's alone

	mu    sync.Mutex
	watch [len(admission.Lanes)]struct {
		since  time.Time // the lane could match since then, and got nothing
		warned bool
	}
}

// pass proposes as many matches as there is room for: consumers first, but of
// every IndustrialEvery matches one is industry's if it has any. The count goes
// on from pass to pass, so it holds even if there is room for one at a time.
func (l *Loop) pass(now time.Time) []Match {
	free := l.free()
	ms := l.proposed[:0]
	if free > 0 && l.book.pending() {
		every := l.o.IndustrialEvery
		owed := min(free, (l.lanes.turns+free)/every)
		ms = l.book.Propose(ms, admission.Industrial, owed)
		paid := len(ms)
		ms = l.book.Propose(ms, admission.Consumer, free-paid)
		consumers := len(ms) - paid
		ms = l.book.Propose(ms, admission.Industrial, free-len(ms))
		turns := l.lanes.turns + consumers - (len(ms)-consumers)*(every-1)
		l.lanes.turns = min(max(turns, 0), every-1) // what industry left is not saved up
		ms = rotate(ms, paid)                       // consumers go first within the pass too
		l.proposed = ms
	}
	l.look(ms, now)
	return ms
}

// rotate moves the first n matches behind the others.
func rotate(ms []Match, n int) []Match {
	if n == 0 || n == len(ms) {
		return ms
	}
	ms = append(ms, ms[:n]...)
	return append(ms[:0], ms[n:]...)
}

// look notes which lanes got nothing though they could have matched.
func (l *Loop) look(ms []Match, now time.Time) {
	var got [len(admission.Lanes)]bool
	for i := range ms {
		got[ms[i].Lane-1] = true
	}
	l.lanes.mu.Lock()
	defer l.lanes.mu.Unlock()
	for i, lane := range admission.Lanes {
		w := &l.lanes.watch[i]
		could := l.book.lanePending(lane)
		switch {
		case !could:
			w.since, w.warned = time.Time{}, false
		case got[i] || w.since.IsZero():
			w.since, w.warned = now, false
		case !w.warned && now.Sub(w.since) >= l.o.StarveAfter:
			w.warned = true
			l.o.Logger.Warn("lane starves", "lane", lane, "waiting", now.Sub(w.since))
		}
	}
}

// next returns when the next warning is due, unless something happens.
func (s *lanes) next(after time.Duration) (at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.watch {
		w := &s.watch[i]
		if w.since.IsZero() || w.warned {
			continue
		}
		if t := w.since.Add(after); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at, ok
}

func (s *lanes) waiting(lane admission.Lane, now time.Time, after time.Duration) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.watch[lane-1]
	if w.since.IsZero() {
		return 0, false
	}
	d := max(0, now.Sub(w.since))
	return d, d >= after
}

// pending reports whether a pass may find anything.
func (b *Book) pending() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lanes[0].pending || b.lanes[1].pending
}

func (b *Book) lanePending(lane admission.Lane) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lanes[lane-1].pending
}
