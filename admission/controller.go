package admission

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// Invariant: an industrial job is admitted only if, with it, the shards held are
// at most the estimated capacity and the work charged is at most capacity times
// time plus burst. A consumer's job is admitted whatever industry does.

// Controller decides who may start work. It is safe for concurrent use, starts
// no goroutine and keeps a fixed amount of memory.
type Controller struct {
	clock   Clock        // nil for the system's
	log     *slog.Logger // nil when off
	line    timeline
	signals *signals
	hasher  hasher

	start     time.Time // a reading of the system's clock
	startNano int64

	// The refusals that need no look into the books.
	refused [codes]atomic.Uint64
	_       [64]byte
	books   books
}

// New returns a controller that has seen no signal yet: until the first
// [Controller.ObserveCapacity] industry gets StaleSignal. It returns
// [ErrOptions].
func New(o *Options) (*Controller, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Controller{clock: o.Clock, log: o.Logger, signals: newSignals(o), hasher: newHasher(), start: time.Now()}
	c.startNano = c.start.UnixNano()
	c.line.init()
	c.books.init(o)
	return c, nil
}

// Decide answers r at now. An admitted job is charged in full at once and holds
// its shards until now+duration, when its lease ends by itself; ending earlier is
// [Controller.Release]. A refused request leaves nothing behind but, in tight, a
// place in the queue, the same however often it asks.
//
// Checks come in the order of the codes: if several fail, the answer is Invalid
// before StaleSignal and Brownout, TooLarge, DeferredTight, then the shares, then
// Capacity and BurstExhausted.
func (c *Controller) Decide(r Request, now time.Time) Decision { return c.decide(&r, now) }

func (c *Controller) decide(r *Request, t time.Time) Decision {
	now, ok := c.line.here(t.UnixNano())
	if !ok {
		now = c.line.turn(t)
	}
	d := c.judge(r, now)
	if c.log != nil {
		c.logDecision(r, d)
	}
	return d
}

// DecideNow is [Controller.Decide] at the time that the Clock tells.
func (c *Controller) DecideNow(r Request) Decision { return c.decideNow(&r) }

func (c *Controller) decideNow(r *Request) Decision {
	d := c.judge(r, c.now())
	if c.log != nil {
		c.logDecision(r, d)
	}
	return d
}

// now reads the clock. The system's is read without a detour over time.Time, and
// only its monotonic part, as that is half of what time.Now takes.
func (c *Controller) now() int64 {
	if c.clock != nil {
		return c.line.at(c.clock.Now())
	}
	since := time.Since(c.start)
	if now, ok := c.line.here(c.startNano + int64(since)); ok {
		return now
	}
	return c.line.turn(c.start.Add(since))
}

// judge decides. It copies no struct of small fields, as reading such a copy at
// once waits until the writes have reached the cache.
func (c *Controller) judge(r *Request, now int64) Decision {
	if now >= c.signals.until.Load() {
		c.signals.catchUp(now)
	}
	v := c.signals.view.Load()
	length := int64(r.Duration)
	if !r.plain() {
		var f fault
		if length, f = r.check(); f != wellFormed {
			return Decision{Mode: v.mode} // Invalid; belongs to no lane, so it is not counted
		}
	}
	var j job
	j.shards, j.length = int64(r.Shards), length
	if r.Lane == Consumer {
		j.cost = v.cost(j.shards, length, c.books.burst)
		return Decision{Code: Admitted, Mode: v.mode, Lease: c.books.consumer(&j, now)}
	}
	if v.mode == ModeBrownout {
		code := Brownout
		if v.stale {
			code = StaleSignal
		}
		return c.refuse(v, code, max(v.settled-now, int64(time.Second)))
	}
	// A job must fit into what may be borrowed, which is half the burst: then an
	// idle market admits it, however small the tenant's share is.
	half := c.books.burst / 2
	j.cost, j.capacity = v.cost(j.shards, length, half), int64(v.capacity)
	if j.shards > j.capacity || j.cost > half {
		return c.refuse(v, TooLarge, 0)
	}
	if v.mode == ModeTight {
		j.tight, j.trickle = true, c.books.turns.scale(j.cost)
		if j.trickle > c.books.turns.period {
			return c.refuse(v, DeferredTight, max(v.settled-now, c.books.turns.period))
		}
	}
	j.buyer, j.provider = c.hasher.sum(r.Buyer), c.hasher.sum(r.Provider)
	j.ofBuyer, j.ofProvider = c.books.buyers.scale(j.cost), c.books.providers.scale(j.cost)
	lease, code, wait := c.books.industrial(&j, now)
	return Decision{Code: code, Mode: v.mode, RetryAfter: time.Duration(wait), Lease: lease}
}

// refuse answers an industrial request on what the signals say alone.
func (c *Controller) refuse(v *view, code Code, wait int64) Decision {
	c.refused[code].Add(1)
	return Decision{Code: code, Mode: v.mode, RetryAfter: time.Duration(wait)}
}

// Release is [Controller.ReleaseAt] at the time that the Clock tells.
func (c *Controller) Release(l Lease) bool { return c.books.release(l, c.now()) }

// ReleaseAt gives back what l holds and has not used by now: its shards, and the
// part of its charges that lies between now and the deadline. It reports whether
// there was something to give back: not for the zero Lease, after the deadline,
// or a second time.
func (c *Controller) ReleaseAt(l Lease, now time.Time) bool {
	return c.books.release(l, c.line.at(now))
}

// ObserveConsumerFee reports the fee that a consumer paid.
func (c *Controller) ObserveConsumerFee(fee uint64, now time.Time) {
	c.signals.observeFee(fee, c.line.at(now))
}

// ObserveCapacity reports how many shards the market has in all, leased or not.
// More than [MaxShards] count as MaxShards.
func (c *Controller) ObserveCapacity(shards uint64, now time.Time) {
	c.signals.observeCapacity(min(shards, MaxShards), c.line.at(now))
}

// SetComfortThreshold changes [Options.ComfortThreshold]. Zero removes the guard.
func (c *Controller) SetComfortThreshold(fee uint64, now time.Time) {
	c.signals.setThreshold(fee, c.line.at(now))
}
