package admission

import (
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// Invariant: what the signals say at a moment follows from the observations and
// their times alone. A sample that comes of age and a dwell that ends take
// effect at their own moment, in order, however late or often somebody looks.

const never = math.MaxInt64

// signals holds what was observed and the mode that follows from it.
type signals struct {
	until atomic.Int64         // before this moment view is right
	view  atomic.Pointer[view] // what deciders read
	calm  atomic.Int64         // when tight ends if nobody reports anything

	mu        sync.Mutex // guards all below
	now       int64      // how far the machine has been moved
	fees      window
	caps      window
	mean      float64 // exponentially weighted, of capacity
	last      uint64  // estimate, kept when the samples are gone
	threshold uint64  // 0: no fee guard
	started   bool    // a sufficient capacity has been seen
	machine   machine
	o         *Options
}

// view is one consistent answer. It is replaced, never changed.
type view struct {
	mode     Mode
	stale    bool
	capacity uint64 // shards; the last known when stale
	settled  int64  // no step down comes before this moment
}

// cost returns the work of shards for length nanoseconds in nanoseconds of the
// whole capacity, rounded up, or limit+1 if that is less.
func (v *view) cost(shards, length, limit int64) int64 {
	hi, lo := bits.Mul64(uint64(shards), uint64(length))
	if hi >= v.capacity {
		return limit + 1
	}
	ns, _ := bits.Div64(hi, lo, v.capacity)
	return int64(min(ns, uint64(limit))) + 1
}

func newSignals(o *Options) *signals {
	s := &signals{
		fees:      newWindow(o.FeeWindow, int64(o.FeeAge)),
		caps:      newWindow(o.CapacityWindow, int64(o.CapacityAge)),
		threshold: o.ComfortThreshold,
		machine:   machine{mode: ModeBrownout, dwell: int64(o.Dwell)},
		o:         o,
	}
	s.publish()
	return s
}

// look returns the view at now.
func (s *signals) look(now int64) *view {
	if now >= s.until.Load() {
		s.catchUp(now)
	}
	return s.view.Load()
}

func (s *signals) catchUp(now int64) { s.observe(now, func() {}) }

func (s *signals) observeFee(fee uint64, now int64) {
	s.observe(now, func() { s.fees.add(fee, s.now) })
}

func (s *signals) setThreshold(fee uint64, now int64) {
	s.observe(now, func() { s.threshold = fee })
}

func (s *signals) observeCapacity(shards uint64, now int64) {
	s.observe(now, func() {
		if s.caps.n == 0 {
			s.mean = float64(shards) // what was known before is stale
		} else {
			s.mean += s.o.CapacityWeight * (float64(shards) - s.mean)
		}
		s.caps.add(shards, s.now)
	})
}

// observe moves the machine to now, applies the event there and publishes.
func (s *signals) observe(now int64, event func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(now)
	event()
	s.settle()
	s.publish()
}

// advance lives through every timed change up to now.
func (s *signals) advance(now int64) {
	for t := s.next(); t <= now; t = s.next() {
		s.now = t
		s.fees.expire(t)
		s.caps.expire(t)
		s.settle()
	}
	s.now = max(s.now, now)
}

// next returns the moment of the next timed change.
func (s *signals) next() int64 {
	t := min(s.fees.next(), s.caps.next())
	if due := s.machine.since + s.machine.dwell; due > s.now {
		t = min(t, due)
	}
	return t
}

// settle makes the switch that is due at s.now.
func (s *signals) settle() {
	p := s.pressure()
	if !s.started && !p.starved {
		// The start of service is not a recovery: there is nothing to step down
		// from, and no dwell to wait for.
		s.started = true
		s.machine.mode, s.machine.since = ModeNormal, s.now-s.machine.dwell
	}
	s.machine.step(s.now, p)
}

func (s *signals) pressure() pressure {
	if s.caps.n > 0 {
		s.estimate()
	}
	enough := s.last
	if s.machine.mode == ModeBrownout && s.started {
		enough -= s.last / 10
	}
	p := pressure{starved: s.caps.n == 0 || enough < s.o.MinCapacity}
	fee := s.fees.quantile(s.o.FeeQuantile)
	judged := s.threshold > 0 && s.fees.n >= s.o.MinFees
	p.hot = judged && fee > s.threshold
	p.calm = !judged || fee < s.threshold-s.threshold/10 // under 0.9, exactly
	return p
}

// estimate sets last from the fresh samples. A mean of what is gone would come
// near the samples that are there without ever reaching them, and then rounding
// takes a shard off for ever. So the mean never leaves their range.
func (s *signals) estimate() {
	lowest, highest := s.caps.sorted[0], s.caps.sorted[s.caps.n-1]
	s.mean = min(max(s.mean, float64(lowest)), float64(highest))
	s.last = min(uint64(math.Round(s.mean)), s.caps.quantile(s.o.CapacityQuantile))
}

// calmAt returns when fees will call for tight no more if none are paid from now
// on: the old ones come of age, until the rest is low or too few to judge.
func (s *signals) calmAt() int64 {
	if s.threshold == 0 {
		return s.now
	}
	limit := s.threshold - s.threshold/10
	low, _ := slices.BinarySearch(s.fees.sorted, limit) // how many are under the limit
	at := s.now
	for i := range s.fees.n {
		left, oldest := s.fees.n-i, s.fees.nth(i)
		if due := oldest.at + s.fees.age; due > at {
			if left < s.o.MinFees || low > index(left, s.o.FeeQuantile) {
				return at
			}
			at = due
		}
		if oldest.value < limit {
			low--
		}
	}
	return at
}

func (s *signals) publish() {
	if s.machine.mode == ModeTight {
		s.calm.Store(max(s.machine.since+s.machine.dwell, s.calmAt()))
	}
	v := view{
		mode:     s.machine.mode,
		stale:    s.caps.n == 0,
		capacity: s.last,
		settled:  s.machine.since + s.machine.dwell,
	}
	if old := s.view.Load(); old == nil || *old != v {
		s.view.Store(&v)
	}
	s.until.Store(s.next())
}
