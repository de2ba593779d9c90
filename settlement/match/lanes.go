package match

import (
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/settlement"
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

	mu     sync.Mutex
	passed passing
	watch  [len(admission.Lanes)]watch
}

// watch is on one lane.
type watch struct {
	hungry bool          // the lane can match
	since  time.Duration // and got nothing since
	warned bool
}

// pass proposes as many matches as there is room for: consumers first, but of
// every IndustrialEvery matches one is industry's if it has any. The count goes
// on from pass to pass, so it holds even if there is room for one at a time.
// Only lanes that can are served.
func (l *Loop) pass(can [len(admission.Lanes)]bool, passed time.Duration) (fs []flight) {
	if free := l.free(); free > 0 && passed >= l.askAt && l.book.pending() {
		mode, err := l.mode()
		if err != nil {
			l.askAt = later(passed, l.o.RetryMin)
			l.report(slog.LevelError, "engine cannot tell its mode, nothing is matched", "err", err)
			free = 0
		}
		ms := l.share(free, can)
		fs = l.fresh[:0]
		for _, m := range ms {
			fs = append(fs, flight{match: m, dryRun: mode != settlement.Real, began: passed})
		}
		clear(ms)
		l.proposed, l.fresh = ms[:0], fs
	}
	l.look(fs, passed)
	return fs
}

func (l *Loop) share(free int, can [len(admission.Lanes)]bool) []Match {
	ms := l.proposed[:0]
	every := l.o.IndustrialEvery
	owed := min(free, (l.lanes.turns+free)/every)
	ms = l.propose(ms, admission.Industrial, owed, can)
	paid := len(ms)
	ms = l.propose(ms, admission.Consumer, free-paid, can)
	consumers := len(ms) - paid
	ms = l.propose(ms, admission.Industrial, free-len(ms), can)
	turns := l.lanes.turns + consumers - (len(ms)-consumers)*(every-1)
	l.lanes.turns = min(max(turns, 0), every-1) // what industry left is not saved up
	return rotate(ms, paid)                     // consumers go first within the pass too
}

// propose goes on for as long as most steps are matches. What has to be moved
// out of the way otherwise can wait for the next turn; the other lane need not.
func (l *Loop) propose(ms []Match, lane admission.Lane, max int, can [len(admission.Lanes)]bool) []Match {
	for more := can[lane-1] && max > 0; more; {
		was := len(ms)
		ms, more = l.book.propose(ms, lane, max)
		got := len(ms) - was
		max -= got
		more = more && max > 0 && got >= hold/2
	}
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
func (l *Loop) look(fs []flight, passed time.Duration) {
	var got [len(admission.Lanes)]bool
	for i := range fs {
		got[fs[i].match.Lane-1] = true
	}
	for i, lane := range admission.Lanes {
		could := l.book.lanePending(lane)
		if waiting, starves := l.lanes.note(i, could, got[i], passed, l.o.StarveAfter); starves {
			l.log(slog.LevelWarn, "lane starves", "lane", lane, "waiting", waiting)
		}
	}
}

// note reports a lane that starves, once.
func (s *lanes) note(i int, could, got bool, passed, after time.Duration) (waiting time.Duration, starves bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.watch[i]
	switch {
	case !could:
		*w = watch{}
	case got || !w.hungry:
		*w = watch{hungry: true, since: passed}
	case !w.warned && passed-w.since >= after:
		w.warned = true
		return passed - w.since, true
	}
	return 0, false
}

// next returns when the next warning is due, unless something happens.
func (s *lanes) next(after time.Duration) (at time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at = math.MaxInt64
	for _, w := range s.watch {
		if w.hungry && !w.warned {
			at, ok = min(at, later(w.since, after)), true
		}
	}
	return at, ok
}

func (s *lanes) waiting(lane admission.Lane, now time.Time, after time.Duration) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watch[lane-1]
	if !w.hungry {
		return 0, false
	}
	d := s.passed.tick(now) - w.since
	return d, d >= after
}

// rest forgets who waits: while the loop does not run, no lane can get anything.
func (s *lanes) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.watch[:])
}

// tick takes a reading of the clock and returns how much time has passed.
func (s *lanes) tick(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.passed.tick(now)
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
