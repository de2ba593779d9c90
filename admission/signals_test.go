package admission

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func mode(t testing.TB, c *Controller, now time.Time, want Mode) {
	t.Helper()
	if s := c.StatusAt(now); s.Mode != want {
		t.Fatalf("after %v: mode %v, want %v (%+v)", now.Sub(start), s.Mode, want, s)
	}
}

// TestTightAndBack walks the fee guard up and down its hysteresis.
func TestTightAndBack(t *testing.T) {
	o := Options{ComfortThreshold: 100, MinFees: 10, Dwell: 10 * time.Second, CapacityAge: time.Hour}
	c := open(t, 100, o)
	now := start
	fees := func(n int, fee uint64) {
		for range n {
			c.ObserveConsumerFeeAt(fee, now)
		}
	}
	fees(9, 500)
	mode(t, c, now, ModeNormal) // too few to judge
	fees(1, 500)
	mode(t, c, now, ModeTight)
	fees(50, 50)
	mode(t, c, now.Add(o.Dwell-1), ModeTight) // calm at once, but the dwell holds
	mode(t, c, now.Add(o.Dwell), ModeNormal)
	now = now.Add(time.Minute)
	fees(50, 100)
	mode(t, c, now, ModeNormal) // at the threshold is not above it
	fees(50, 101)
	mode(t, c, now, ModeTight)
	now = now.Add(time.Minute)
	fees(50, 90)
	mode(t, c, now, ModeTight) // at 0.9 of it is not under it
	fees(50, 89)
	mode(t, c, now, ModeNormal)
}

// TestNoThresholdNoGuard is the trap of a threshold of 0 that meant always tight.
func TestNoThresholdNoGuard(t *testing.T) {
	c := open(t, 100, Options{})
	for range 100 {
		c.ObserveConsumerFeeAt(math.MaxUint64, start)
	}
	mode(t, c, start, ModeNormal)
	c.SetComfortThresholdAt(1, start)
	mode(t, c, start, ModeTight)
	c.SetComfortThresholdAt(0, start)
	mode(t, c, start.Add(9*time.Second), ModeTight)
	mode(t, c, start.Add(10*time.Second), ModeNormal)
}

// TestFeeQuantile shows that the median may be calm where p90 is not.
func TestFeeQuantile(t *testing.T) {
	for q, want := range map[float64]Mode{0: ModeNormal, 0.5: ModeNormal, 0.9: ModeTight} {
		c := open(t, 100, Options{FeeQuantile: q, ComfortThreshold: 100})
		for i := range 50 {
			c.ObserveConsumerFeeAt(uint64(50+2*i), start) // 50 … 148
		}
		mode(t, c, start, want)
	}
}

// TestTightTellsItsEnd asks for more than a turn holds, while fees of all sizes
// come of age, and takes RetryAfter at its word: not a nanosecond before it.
func TestTightTellsItsEnd(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	refused := 0
	for range 300 {
		c := open(t, 100, Options{CapacityAge: MaxDuration, FeeAge: time.Minute, FeeWindow: 20, MinFees: 5,
			ComfortThreshold: 100, FeeQuantile: []float64{0.5, 0.9}[rng.IntN(2)], Dwell: time.Duration(1 + rng.IntN(int(90*time.Second)))})
		now := start
		for range 5 + rng.IntN(30) {
			if rng.IntN(3) > 0 {
				now = now.Add(time.Duration(rng.IntN(int(2 * time.Second))))
			}
			c.ObserveConsumerFeeAt(85+rng.Uint64N(40), now)
		}
		r := ask("b", "p", 100, 10*time.Second)
		d := c.DecideAt(r, now)
		if d.Code != DeferredTight {
			continue
		}
		refused++
		at := now.Add(d.RetryAfter)
		want(t, c.DecideAt(r, at.Add(-1)), DeferredTight)
		want(t, c.DecideAt(r, at), Admitted)
	}
	if refused < 100 {
		t.Errorf("refused %d times: that proves little", refused)
	}
}

// TestQuietTrafficRecovers is the trap of a market that stayed tight for ever
// when the fees stopped coming.
func TestQuietTrafficRecovers(t *testing.T) {
	o := Options{FeeAge: time.Minute, CapacityAge: time.Hour}
	c := open(t, 100, o)
	tighten(c, start)
	mode(t, c, start.Add(o.FeeAge-1), ModeTight)
	mode(t, c, start.Add(o.FeeAge), ModeNormal)
	if s := c.StatusAt(start.Add(o.FeeAge)); s.FeeSamples != 0 || s.FeeP50 != 0 || s.FeeP90 != 0 {
		t.Errorf("%+v", s)
	}
}

// TestOneStepDownAtATime follows a recovery from brownout.
func TestOneStepDownAtATime(t *testing.T) {
	const dwell = 10 * time.Second
	c := open(t, 100, Options{MinCapacity: 50, CapacityWindow: 1, CapacityWeight: 1, CapacityAge: time.Hour})
	mode(t, c, start, ModeNormal)
	c.ObserveCapacityAt(49, start)
	mode(t, c, start, ModeBrownout) // this step does not wait
	c.ObserveCapacityAt(52, start.Add(dwell))
	mode(t, c, start.Add(dwell), ModeBrownout) // not clearly enough
	c.ObserveCapacityAt(100, start.Add(dwell))
	mode(t, c, start.Add(dwell), ModeTight)
	mode(t, c, start.Add(2*dwell-1), ModeTight)
	mode(t, c, start.Add(2*dwell), ModeNormal)
}

// TestStaleCapacity is the trap of a capacity that was a constant.
func TestStaleCapacity(t *testing.T) {
	c := open(t, 0, Options{CapacityAge: 30 * time.Second})
	r := ask("b", "p", 1, time.Second)
	want(t, c.DecideAt(r, start), StaleSignal)
	c.ObserveCapacityAt(100, start)
	want(t, c.DecideAt(r, start), Admitted)
	want(t, c.DecideAt(r, start.Add(30*time.Second-1)), Admitted)
	d := want(t, c.DecideAt(r, start.Add(30*time.Second)), StaleSignal)
	if d.Mode != ModeBrownout || d.RetryAfter <= 0 {
		t.Errorf("%+v", d)
	}
	want(t, c.DecideAt(consumer(1000, time.Second), start.Add(time.Hour)), Admitted)
}

// TestCapacityEstimate takes the smaller of mean and low quantile.
func TestCapacityEstimate(t *testing.T) {
	c := open(t, 0, Options{CapacityWindow: 10, CapacityQuantile: 0.1, CapacityWeight: 0.5})
	for _, step := range []struct{ sample, want uint64 }{
		{100, 100},
		{200, 100}, // mean 150, quantile 100
		{40, 40},   // mean 95, quantile 40
		{400, 40},  // one good sample proves nothing
		{0, 0},
	} {
		c.ObserveCapacityAt(step.sample, start)
		if got := c.StatusAt(start).Capacity; got != step.want {
			t.Errorf("after %d: %d, want %d", step.sample, got, step.want)
		}
	}
	for range 20 {
		c.ObserveCapacityAt(math.MaxUint64, start)
	}
	if got := c.StatusAt(start).Capacity; got > MaxShards || got < MaxShards-MaxShards/1000 {
		t.Errorf("huge samples: %d", got)
	}
}

// steady reports n so often that, as Options say, the estimate is n.
func steady(t *testing.T, c *Controller, n uint64, now time.Time, times int) {
	t.Helper()
	for range times {
		c.ObserveCapacityAt(n, now)
	}
	s := c.StatusAt(now)
	d := c.DecideAt(ask("b", "p", n, time.Microsecond), now)
	if s.Capacity != n || s.Mode == ModeNormal && d.Code != Admitted {
		t.Fatalf("after %d reports of %d: %+v, a job of all of them is %v", times, n, s, d.Code)
	}
	c.ReleaseAt(d.Lease, now)
}

// TestSteadyReportsAreExact goes over weights from the smallest to one, and over
// numbers of shards from one to the most, after whatever was reported before.
func TestSteadyReportsAreExact(t *testing.T) {
	weights := []float64{math.SmallestNonzeroFloat64, 1e-300, 1e-17, 1e-9, 1e-3, 0.5, math.Nextafter(1, 0), 1}
	for w := 1; w < 100; w++ {
		weights = append(weights, float64(w)/100)
	}
	counts := []uint64{1, 2, 3, 4, 5, 7, 10, 100, 1000, 1<<20 - 1, 1 << 20, 1<<24 + 1, 1<<31 - 1, 1 << 31, MaxShards - 1, MaxShards}
	for n := uint64(11); n < MaxShards && !testing.Short(); n += n / 7 {
		counts = append(counts, n)
	}
	rng := rand.New(rand.NewPCG(11, 12))
	for _, weight := range weights {
		for _, window := range []int{1, 60} {
			c := open(t, 0, Options{CapacityWindow: window, CapacityWeight: weight})
			for _, n := range counts {
				// A dip, a spike, or anything at all.
				for range 1 + rng.IntN(3) {
					c.ObserveCapacityAt([]uint64{0, n / 2, n - 1, MaxShards, rng.Uint64N(MaxShards)}[rng.IntN(5)], start)
				}
				steady(t, c, n, start, window)
			}
		}
	}
}

// TestSteadyReportsOutlastTheRest reports seldom, so that what was said before
// comes of age sooner than it falls out of the window.
func TestSteadyReportsOutlastTheRest(t *testing.T) {
	for _, before := range []uint64{0, 1, 7, MaxShards} {
		c := open(t, before, Options{CapacityAge: 30 * time.Second, Dwell: time.Second})
		now := start
		for range 30 {
			now = now.Add(time.Second)
			c.ObserveCapacityAt(8, now)
		}
		if s := c.StatusAt(now); s.Capacity != 8 || s.Mode != ModeNormal {
			t.Errorf("after %d, then 30 s of 8: %+v", before, s)
		}
	}
}

// TestCost holds the cost in nanoseconds of the whole capacity against big
// numbers.
func TestCost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := view{capacity: rapid.Uint64Range(0, MaxShards).Draw(t, "capacity")}
		shards := rapid.Int64Range(1, MaxShards).Draw(t, "shards")
		length := rapid.Int64Range(1, int64(MaxDuration)).Draw(t, "length")
		limit := rapid.Int64Range(1, int64(24*time.Hour)).Draw(t, "limit")
		want := limit + 1
		if v.capacity > 0 {
			n := new(big.Int).Mul(big.NewInt(shards), big.NewInt(length))
			if n.Div(n, big.NewInt(int64(v.capacity))); n.IsInt64() {
				want = min(n.Int64()+1, limit+1)
			}
		}
		if got := v.cost(shards, length, limit); got != want {
			t.Fatalf("%d, want %d", got, want)
		}
	})
}

// TestHysteresis feeds log-normal fees whose median lies between the marks.
func TestHysteresis(t *testing.T) {
	const threshold, n = 100_000, 100_000
	c := open(t, 100, Options{ComfortThreshold: threshold, CapacityAge: MaxDuration})
	rng := rand.New(rand.NewPCG(1, 2))
	now, last, changed := start, ModeNormal, start.Add(-time.Hour)
	for range n {
		now = now.Add(100 * time.Millisecond)
		c.ObserveConsumerFeeAt(uint64(0.95*threshold*math.Exp(0.1*rng.NormFloat64())), now)
		if m := c.StatusAt(now).Mode; m != last {
			if now.Sub(changed) < 10*time.Second {
				t.Fatalf("two switches within %v", now.Sub(changed))
			}
			last, changed = m, now
		}
	}
	switches := c.StatusAt(now).Switches
	t.Logf("%d switches over %d fees", switches, n)
	if switches > 300 || switches < 2 {
		t.Errorf("%d switches", switches)
	}
}

// happening is one observation at its time.
type happening struct {
	at   int64
	kind int
	v    uint64
}

func drawHappenings(t *rapid.T) []happening {
	var hs []happening
	at := origin
	for range rapid.IntRange(0, 80).Draw(t, "events") {
		at += rapid.Int64Range(0, int64(8*time.Second)).Draw(t, "pause")
		hs = append(hs, happening{at, rapid.IntRange(0, 4).Draw(t, "kind"), rapid.Uint64Range(0, 20).Draw(t, "v")})
	}
	return hs
}

func (s *signals) happen(h happening) {
	switch h.kind {
	case 0, 1, 2:
		s.observeFee(80+2*h.v, h.at)
	case 3:
		s.observeCapacity(h.v, h.at)
	case 4:
		s.setThreshold(90+h.v/2, h.at)
	}
}

var signalOptions = Options{
	ComfortThreshold: 100, FeeWindow: 8, MinFees: 3, FeeAge: 20 * time.Second,
	CapacityWindow: 5, CapacityAge: 15 * time.Second, MinCapacity: 5, Dwell: 7 * time.Second,
}

// TestPollingChangesNothing runs the same observations with and without somebody
// looking in between, and finds the same view at the end.
func TestPollingChangesNothing(t *testing.T) {
	o, _ := signalOptions.withDefaults()
	rapid.Check(t, func(t *rapid.T) {
		hs := drawHappenings(t)
		quiet, polled := newSignals(o), newSignals(o)
		at := origin
		for _, h := range hs {
			for range rapid.IntRange(0, 4).Draw(t, "polls") {
				at += rapid.Int64Range(0, max(h.at-at, 0)).Draw(t, "poll")
				polled.look(at)
			}
			quiet.happen(h)
			polled.happen(h)
			at = h.at
		}
		at += rapid.Int64Range(0, int64(time.Minute)).Draw(t, "end")
		if a, b := *quiet.look(at), *polled.look(at); a != b || quiet.machine != polled.machine {
			t.Fatalf("quiet %+v %+v\npolled %+v %+v", a, quiet.machine, b, polled.machine)
		}
	})
}

// TestSignalsModel holds the event-driven machine against a plain one that goes
// through time in small steps and computes everything from the full history.
func TestSignalsModel(t *testing.T) {
	o, _ := signalOptions.withDefaults()
	const grain = int64(100 * time.Millisecond)
	rapid.Check(t, func(t *rapid.T) {
		s := newSignals(o)
		plain := plainSignals{o: o, threshold: o.ComfortThreshold, m: machine{mode: ModeBrownout, dwell: int64(o.Dwell)}}
		at := origin - origin%grain
		for _, h := range drawHappenings(t) {
			h.at -= h.at % grain
			// What is due at the moment of an event comes before the event.
			for ; at < h.at; at += grain {
				plain.settle(at)
			}
			plain.settle(h.at)
			plain.happen(h)
			plain.settle(h.at)
			s.happen(h)
			if v := s.look(h.at); v.mode != plain.m.mode || v.stale != plain.stale || v.capacity != plain.capacity {
				t.Fatalf("%+v at %d\nplain %+v", v, h.at, plain)
			}
		}
	})
}

type plainSignals struct {
	o          *Options
	fees, caps []sample
	mean       float64
	threshold  uint64
	m          machine
	started    bool
	stale      bool
	capacity   uint64
}

func (p *plainSignals) happen(h happening) {
	switch h.kind {
	case 0, 1, 2:
		p.fees = append(p.fees, sample{80 + 2*h.v, h.at})
	case 3:
		if len(fresh(p.caps, h.at, p.o.CapacityAge, p.o.CapacityWindow)) == 0 {
			p.mean = float64(h.v)
		} else {
			p.mean = p.mean + 0.2*(float64(h.v)-p.mean)
		}
		p.caps = append(p.caps, sample{h.v, h.at})
	case 4:
		p.threshold = 90 + h.v/2
	}
}

// fresh returns the values of the last n samples younger than age, sorted.
func fresh(all []sample, now int64, age time.Duration, n int) []uint64 {
	var vs []uint64
	for _, s := range all[max(0, len(all)-n):] {
		if now-s.at < int64(age) {
			vs = append(vs, s.value)
		}
	}
	slices.Sort(vs)
	return vs
}

func (p *plainSignals) settle(now int64) {
	caps := fresh(p.caps, now, p.o.CapacityAge, p.o.CapacityWindow)
	fees := fresh(p.fees, now, p.o.FeeAge, p.o.FeeWindow)
	p.stale = len(caps) == 0
	if !p.stale {
		p.mean = min(max(p.mean, float64(caps[0])), float64(caps[len(caps)-1]))
		p.capacity = min(uint64(math.Round(p.mean)), caps[len(caps)/10])
	}
	enough := p.capacity
	if p.m.mode == ModeBrownout && p.started {
		enough -= p.capacity / 10
	}
	var q pressure
	q.starved = p.stale || enough < p.o.MinCapacity
	q.calm = true
	if len(fees) >= p.o.MinFees {
		fee := fees[len(fees)/2]
		q.hot, q.calm = fee > p.threshold, float64(fee) < 0.9*float64(p.threshold)
	}
	if !q.starved && !p.started {
		p.started, p.m.mode, p.m.since = true, ModeNormal, now-p.m.dwell
	}
	p.m.step(now, q)
}
