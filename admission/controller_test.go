package admission

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"FeeQuantile":   {FeeQuantile: 1},
		"FeeWindow":     {FeeWindow: -1},
		"MinFees":       {MinFees: 51},
		"Dwell":         {Dwell: -1},
		"TenantShare":   {TenantShare: 1.5},
		"Burst":         {Burst: 1},
		"TricklePeriod": {TricklePeriod: 1},
		"Leases":        {Leases: 1 << 30},
	} {
		if _, err := New(&o); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := Options{}
	if _, err := New(&o); err != nil || o != (Options{}) {
		t.Errorf("%v, options changed to %+v", err, o)
	}
}

// TestConservation lets 64 goroutines ask, release and let go of leases while
// time runs, and holds the sum of the work and the shards against capacity.
func TestConservation(t *testing.T) {
	t.Run("industry", func(t *testing.T) { conserve(t, 0) })
	t.Run("with consumers", func(t *testing.T) { conserve(t, 20) })
}

// conserve makes one of every so many requests a consumer's.
func conserve(t *testing.T, consumers int) {
	const capacity, workers, rounds = 200, 64, 1000
	burst := 10 * time.Second
	c := open(t, capacity, Options{CapacityAge: MaxDuration, Burst: burst})
	var tick sync.RWMutex // time passes only while nobody decides
	var clock int64       // nanoseconds since start
	var work atomic.Int64 // shard-nanoseconds admitted and not given back
	var over atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			type held struct {
				lease  Lease
				end    int64
				shards int64
			}
			var mine []held
			for range rounds {
				tick.Lock()
				clock += rng.Int64N(int64(10 * time.Millisecond))
				tick.Unlock()
				tick.RLock()
				at, now := clock, start.Add(time.Duration(clock))
				r := ask(fmt.Sprint("b", rng.IntN(30)), fmt.Sprint("p", rng.IntN(10)),
					1+rng.Uint64N(20), time.Duration(1+rng.Int64N(int64(5*time.Second))))
				if consumers > 0 && rng.IntN(consumers) == 0 {
					r.Lane = Consumer
				}
				if d := c.DecideAt(r, now); d.Code == Admitted && r.Lane == Industrial {
					work.Add(int64(r.Shards) * int64(r.Duration))
					mine = append(mine, held{d.Lease, at + int64(r.Duration), int64(r.Shards)})
					if h := leased(c); h > capacity && consumers == 0 {
						over.Store(h)
					}
				}
				if last := len(mine) - 1; last >= 0 && rng.IntN(4) == 0 {
					if h := mine[last]; c.ReleaseAt(h.lease, now) {
						work.Add(-h.shards * (h.end - at))
					}
					mine = mine[:last]
				}
				tick.RUnlock()
			}
		})
	}
	wg.Wait()
	elapsed := time.Duration(clock)
	most := int64(capacity) * int64(elapsed+burst)
	t.Logf("%v passed, %.1f %% of capacity times time plus burst admitted", elapsed, 100*float64(work.Load())/float64(most))
	if work.Load() > most {
		t.Errorf("admitted %d, at most %d", work.Load(), most)
	}
	if work.Load() < most/4 && consumers == 0 {
		t.Errorf("admitted %d of %d: that proves nothing", work.Load(), most)
	}
	if h := over.Load(); h > 0 {
		t.Errorf("%d shards held of %d", h, capacity)
	}
	// Everything comes back by itself.
	if s := c.StatusAt(start.Add(elapsed + time.Minute)); s.Leased != 0 {
		t.Errorf("%d shards still held", s.Leased)
	}
}

// TestConsumersUnaffected gives two controllers the same consumers, one of them
// with all the industry it can get, and compares every answer.
func TestConsumersUnaffected(t *testing.T) {
	calm, busy := open(t, 100, Options{}), open(t, 100, Options{})
	now := start
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 5000 {
		now = now.Add(time.Duration(rng.Int64N(int64(20 * time.Millisecond))))
		for j := range 20 {
			busy.DecideAt(ask(fmt.Sprint(j), fmt.Sprint(j), 1+rng.Uint64N(50), time.Second), now)
		}
		if i%1000 < 500 {
			busy.ObserveCapacityAt(100, now)
			calm.ObserveCapacityAt(100, now)
		}
		r := consumer(1+rng.Uint64N(300), time.Duration(1+rng.Int64N(int64(time.Second))))
		a, b := calm.DecideAt(r, now), busy.DecideAt(r, now)
		if a.Code != Admitted || b.Code != Admitted || a.Mode != b.Mode || (a.Lease == Lease{}) != (b.Lease == Lease{}) {
			t.Fatalf("calm %+v\nbusy %+v", a, b)
		}
	}
}

// TestIndustryYields shows that what consumers hold and use is not there for
// industry.
func TestIndustryYields(t *testing.T) {
	c := open(t, 100, Options{CapacityAge: time.Hour, Burst: 10 * time.Second})
	want(t, c.DecideAt(consumer(95, 5*time.Second), start), Admitted)
	want(t, c.DecideAt(ask("b", "p", 6, time.Second), start), Capacity)
	want(t, c.DecideAt(ask("b", "p", 5, time.Second), start), Admitted)
	// Consumers beyond all capacity fill the bucket to the brim and no further.
	for range 100 {
		want(t, c.DecideAt(consumer(1000, MaxDuration/100), start), Admitted)
	}
	if ahead := c.books.total.tat - c.at(start); ahead > int64(10*time.Second) {
		t.Errorf("bucket %v ahead", time.Duration(ahead))
	}
}

// TestLending lets a tenant alone use what nobody else wants, and a second one
// come in at once when it wants some.
func TestLending(t *testing.T) {
	const capacity = 100
	c := open(t, capacity, Options{CapacityAge: MaxDuration, Burst: 10 * time.Second})
	now, alone := start, 0
	for range 6000 { // a minute
		now = now.Add(10 * time.Millisecond)
		for c.DecideAt(ask("greedy", "g", 5, 500*time.Millisecond), now).Code == Admitted {
			alone++
		}
	}
	used := float64(alone) * 5 * 0.5 / (60 * capacity)
	t.Logf("alone: %.0f %% of capacity", 100*used)
	if used < 0.9 {
		t.Errorf("alone a tenant gets %.0f %%", 100*used)
	}
	late := 0
	for range 600 {
		now = now.Add(100 * time.Millisecond)
		for c.DecideAt(ask("greedy", "g", 5, 500*time.Millisecond), now).Code == Admitted {
		}
		// 10 shards for 100 ms out of 100: well within a quarter.
		if c.DecideAt(ask("modest", "m", 10, 100*time.Millisecond), now).Code != Admitted {
			late++
		}
	}
	t.Logf("modest: refused %d of 600 times", late)
	if late > 30 {
		t.Errorf("within its share a tenant was refused %d of 600 times", late)
	}
}

// jain is the fairness index of Jain, Chiu and Hawe (1984): 1 if all are equal,
// 1/n if one has everything.
func jain(xs []float64) float64 {
	var sum, squares float64
	for _, x := range xs {
		sum += x
		squares += x * x
	}
	return sum * sum / (float64(len(xs)) * squares)
}

// TestFairness simulates a thousand tenants of very different greed in a market
// that is asked for several times what it has.
func TestFairness(t *testing.T) {
	const n, capacity = 1000, 1000
	seconds := 300
	if testing.Short() {
		seconds = 120
	}
	c := open(t, capacity, Options{CapacityAge: MaxDuration})
	rng := rand.New(rand.NewPCG(5, 6))
	type tenant struct {
		ask  Request
		per  int // asks in a second
		got  float64
		last time.Time
		wait time.Duration // the longest
	}
	ts := make([]tenant, n)
	for i := range ts {
		ts[i] = tenant{ask(fmt.Sprint("buyer", i), fmt.Sprint("provider", i%50), 1+uint64(i%4), time.Second), 2 + i%10*2, 0, start, 0}
	}
	total := 0.0
	var queue []int
	for i := range ts {
		for range ts[i].per {
			queue = append(queue, i)
		}
	}
	for s := range seconds {
		rng.Shuffle(len(queue), func(i, j int) { queue[i], queue[j] = queue[j], queue[i] })
		for k, i := range queue {
			now := start.Add(time.Duration(s)*time.Second + time.Duration(k)*time.Second/time.Duration(len(queue)))
			if a := &ts[i]; c.DecideAt(a.ask, now).Code == Admitted {
				a.wait = max(a.wait, now.Sub(a.last))
				a.last = now
				if s >= 60 { // the burst of the start is gone
					a.got += float64(a.ask.Shards)
					total += float64(a.ask.Shards)
				}
			}
		}
	}
	var got []float64
	longest := time.Duration(0)
	for i := range ts {
		got = append(got, ts[i].got)
		longest = max(longest, ts[i].wait, start.Add(time.Duration(seconds)*time.Second).Sub(ts[i].last))
	}
	j := jain(got)
	used := total / float64(capacity*(seconds-60))
	t.Logf("Jain index %.4f, %.0f %% of capacity used, longest wait %v", j, 100*used, longest)
	if j < 0.9 || used < 0.85 || longest > 2*time.Minute {
		t.Errorf("Jain index %.4f, %.0f %% of capacity used, longest wait %v", j, 100*used, longest)
	}
}

// TestAskingOftenGainsNothing asks once a second and a hundred times a second.
func TestAskingOftenGainsNothing(t *testing.T) {
	run := func(times int) (admitted []int) {
		c := open(t, 100, Options{CapacityAge: MaxDuration, Burst: 10 * time.Second})
		for s := range 100 {
			now := start.Add(time.Duration(s) * time.Second)
			for b := range 8 {
				r := ask(fmt.Sprint(b), "p", 40, 2*time.Second)
				first := c.DecideAt(r, now)
				for range times - 1 {
					if first.Code == Admitted {
						break
					}
					if again := c.DecideAt(r, now); again.Code != first.Code || again.RetryAfter != first.RetryAfter {
						t.Fatalf("first %v, then %v", first, again)
					}
					c.StatusAt(now)
				}
				if first.Code == Admitted {
					admitted = append(admitted, s*8+b)
				}
			}
		}
		return admitted
	}
	if a, b := fmt.Sprint(run(1)), fmt.Sprint(run(100)); a != b {
		t.Errorf("once: %s\nhundred times: %s", a, b)
	}
}

func TestLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	c := open(t, 100, Options{Logger: log})
	r := ask("b", "p", 4, time.Second)
	c.DecideAt(r, start)
	r.Shards = 101
	c.DecideAt(r, start)
	c.DecideAt(Request{JobID: "odd"}, start)
	const want = `level=INFO msg="admission decision" job_id=job shards=4 mode=normal lane=industrial code=admitted
level=INFO msg="admission decision" job_id=job shards=101 mode=normal lane=industrial code=too_large
level=INFO msg="admission decision" job_id=odd shards=0 mode=normal lane=lane(0) code=invalid err="admission: unknown lane: the request declares none"
`
	if out.String() != want {
		t.Errorf("logged\n%s", out.String())
	}
	c = open(t, 100, Options{Logger: slog.New(slog.DiscardHandler)})
	if n := testing.AllocsPerRun(100, func() { c.DecideAt(r, start) }); n != 0 {
		t.Errorf("%v allocations with a logger that is off", n)
	}
}

func TestNoAllocations(t *testing.T) {
	c := open(t, 1000, Options{CapacityAge: time.Hour})
	now := start
	for _, r := range []Request{ask("b", "p", 1, time.Millisecond), consumer(1, time.Millisecond), ask("b", "p", 5000, time.Second), {}} {
		if n := testing.AllocsPerRun(1000, func() {
			now = now.Add(time.Millisecond)
			c.ReleaseAt(c.DecideAt(r, now).Lease, now)
			c.Decide(r)
		}); n != 0 {
			t.Errorf("%+v: %v allocations", r, n)
		}
	}
}

func TestClockForms(t *testing.T) {
	clock := &fixed{start}
	c := open(t, 100, Options{Clock: clock})
	d := want(t, c.Decide(ask("b", "p", 1, time.Second)), Admitted)
	clock.t = start.Add(500 * time.Millisecond)
	if !c.Release(d.Lease) || c.Release(d.Lease) {
		t.Error("not released exactly once")
	}
	s := c.StatusAt(clock.t)
	if s.IndustrialAdmitted != 1 || s.IndustrialDeferred != 0 || s.Leased != 0 {
		t.Errorf("%+v", s)
	}
	clock.t = start.Add(time.Hour)
	want(t, c.Decide(ask("b", "p", 1, time.Second)), StaleSignal)
	if c.StatusAt(clock.t).IndustrialDeferred != 1 || c.Refused(Industrial, StaleSignal) != 1 || c.Refused(0, 99) != 0 {
		t.Error("refusal not counted")
	}
}

// TestZeroController uses a Controller that nobody has made, at moments that a
// zero field could be taken for, and from many goroutines at once.
func TestZeroController(t *testing.T) {
	r := ask("b", "p", 1, time.Second)
	for _, now := range []time.Time{start, {}, time.Unix(0, 0), time.Unix(0, 5), time.Unix(0, -5)} {
		var c Controller
		want(t, c.DecideAt(r, now), StaleSignal)
		c.ObserveCapacityAt(10, now)
		d := want(t, c.DecideAt(r, now), Admitted)
		if !c.ReleaseAt(d.Lease, now) || c.StatusAt(now).Mode != ModeNormal {
			t.Errorf("%v: %+v", now, c.StatusAt(now))
		}
	}
	for _, first := range []func(*Controller){
		func(c *Controller) { c.Decide(Request{}) },
		func(c *Controller) { c.Release(Lease{}) },
		func(c *Controller) { c.Status() },
		func(c *Controller) { c.ObserveCapacity(5) },
		func(c *Controller) { c.ObserveConsumerFee(5) },
		func(c *Controller) { c.SetComfortThreshold(5) },
		func(c *Controller) { c.Refused(Industrial, Brownout) },
	} {
		var c Controller
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { first(&c) })
		}
		wg.Wait()
		c.ObserveCapacity(10)
		want(t, c.Decide(r), Admitted)
	}
}

// odd is a clock or a log that does not return.
type odd struct {
	slog.Handler
	do func()
}

func (o *odd) Now() time.Time                            { o.do(); return start }
func (o *odd) Handle(context.Context, slog.Record) error { o.do(); return nil }
func (o *odd) Enabled(context.Context, slog.Level) bool  { return true }
func (o *odd) WithAttrs([]slog.Attr) slog.Handler        { return o }

// TestCallbacks has a clock and a logger that call back, panic and end their
// goroutine. Nothing is locked meanwhile, and what the caller never heard of it
// does not hold.
func TestCallbacks(t *testing.T) {
	r := ask("b", "p", 1, time.Second)
	for name, do := range map[string]func(*Controller){
		"panic":  func(*Controller) { panic("odd") },
		"goexit": func(*Controller) { runtime.Goexit() },
		"calls back": func(c *Controller) {
			c.ObserveCapacityAt(100, start)
			c.ReleaseAt(c.DecideAt(Request{}, start).Lease, start)
			c.StatusAt(start)
			c.Refused(Industrial, Capacity)
		},
	} {
		var c, logged *Controller
		depth := 0
		log := &odd{do: func() {
			if depth++; depth == 1 {
				do(logged)
			}
			depth--
		}}
		logged = open(t, 100, Options{Logger: slog.New(log)})
		c = open(t, 100, Options{Clock: &odd{do: func() { do(c) }}})
		for which, call := range map[string]func() Decision{
			"clock": func() Decision { return c.Decide(r) },
			"log":   func() Decision { return logged.DecideAt(r, start) },
		} {
			var d Decision
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { recover() }()
				d = call()
			}()
			<-done
			got := map[string]*Controller{"clock": c, "log": logged}[which]
			held := uint64(0)
			if d.Code == Admitted {
				held = 1
			}
			if name == "calls back" && d.Code != Admitted || got.StatusAt(start).Leased != held {
				t.Errorf("%s in %s: %+v, %d held", name, which, d, got.StatusAt(start).Leased)
			}
		}
	}
}
