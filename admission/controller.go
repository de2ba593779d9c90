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
	clock     Clock
	log       *slog.Logger // nil when off
	burst     int64
	line      timeline
	signals   *signals
	buyers    tenants
	providers tenants
	turns     turns
	wanted    atomic.Int64 // see note
	slots     [len(Lanes)]slots
	wheel     wheel

	// What every admission writes, on a line of its own.
	_        [64]byte
	total    bucket
	admitted [len(Lanes)]atomic.Uint64
	_        [64]byte
	refused  [len(Lanes)][codes]atomic.Uint64
}

// New returns a controller that has seen no signal yet: until the first
// [Controller.ObserveCapacity] industry gets StaleSignal. It returns
// [ErrOptions].
func New(o *Options) (*Controller, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Controller{clock: o.Clock, log: o.Logger, burst: int64(o.Burst), signals: newSignals(o)}
	c.buyers.init(o)
	c.providers.init(o)
	c.turns.period, c.turns.share = int64(o.TricklePeriod), o.TrickleShare
	for i := range c.slots {
		c.slots[i] = newSlots(o.Leases)
	}
	c.line.init(func(now int64) {
		c.wheel.sweep(now)
		c.buyers.pass(now)
		c.providers.pass(now)
	})
	return c, nil
}

// DecideNow is [Controller.Decide] at the time that the Clock tells.
func (c *Controller) DecideNow(r Request) Decision { return c.Decide(r, c.clock.Now()) }

// Decide answers r at now. An admitted job is charged in full at once and holds
// its shards until now+duration, when its lease ends by itself; ending earlier is
// [Controller.Release]. A refused request leaves nothing behind but, in tight, a
// place in the queue, the same however often it asks.
//
// Checks come in the order of the codes: if several fail, the answer is Invalid
// before StaleSignal and Brownout, TooLarge, DeferredTight, then the shares, then
// Capacity and BurstExhausted.
func (c *Controller) Decide(r Request, now time.Time) (d Decision) {
	c.decide(&d, &r, now)
	if c.log != nil {
		c.logDecision(&r, &d)
	}
	return d
}

func (c *Controller) decide(d *Decision, r *Request, now time.Time) {
	at := c.line.at(now)
	v := c.signals.look(at)
	d.Mode = v.mode
	length, err := r.check()
	if err != nil {
		d.Err = err
		return // Invalid; belongs to no lane, so it is not counted
	}
	j := job{now: at, view: v, lease: &d.Lease, shards: int64(r.Shards), length: int64(length)}
	if r.Lane == Consumer {
		c.consumer(&j)
		d.Code = Admitted
	} else {
		d.Code = c.industrial(&j, r)
	}
	if d.Code != Admitted {
		d.RetryAfter = time.Duration(j.wait)
		c.refused[r.Lane-1][d.Code].Add(1)
		return
	}
	c.admitted[r.Lane-1].Add(1)
}

// job is a request on its way through the checks.
type job struct {
	now    int64
	view   *view
	shards int64
	length int64
	wait   int64  // set on refusal
	lease  *Lease // set on admission
}

// cost returns the job's work in nanoseconds of the whole capacity, rounded up,
// or limit+1 if that is less.
func (j *job) cost(limit int64) int64 {
	f := float64(j.shards) * float64(j.length) * j.view.inverse
	if !(f < float64(limit)) {
		return limit + 1
	}
	return int64(f) + 1
}

// consumer admits. What the job holds and costs is what industry does not get.
func (c *Controller) consumer(j *job) {
	total := c.total.fill(j.now, j.cost(c.burst), c.burst)
	held := c.wheel.held.Add(j.shards)
	if !c.hold(j, Consumer, uint64(held)) {
		c.wheel.give(j.shards)
		return // without a lease
	}
	j.lease.total = total
}

func (c *Controller) industrial(j *job, r *Request) Code {
	v := j.view
	if v.mode == ModeBrownout {
		j.wait = max(v.settled-j.now, int64(time.Second))
		if v.stale {
			return StaleSignal
		}
		return Brownout
	}
	// A job must fit into what may be borrowed, which is half the burst: then an
	// idle market admits it, however small the tenant's share is.
	cost := j.cost(c.burst / 2)
	if j.shards > int64(v.capacity) || cost > c.burst/2 {
		return TooLarge
	}
	buyer := c.buyers.key(r.Buyer)
	var trickled int64
	if v.mode == ModeTight {
		var fits bool
		trickled, j.wait, fits = c.turns.take(c.buyers.find(buyer, j.now), j.now, cost)
		if !fits {
			j.wait = max(v.settled-j.now, c.turns.period)
		}
		if trickled == 0 {
			return DeferredTight
		}
	}
	code := c.share(j, buyer, c.providers.key(r.Provider), cost)
	if code != Admitted && trickled > 0 {
		c.turns.give(trickled)
	}
	return code
}

// share charges the job to its buyer and provider as far as it lies within their
// shares, and to all together.
//
// Work beyond a share is borrowed: it costs its tenant nothing later, but it may
// fill the burst and the shards only up to a mark that leaves room for those who
// stay within their shares. As the shares of all tenants sum to the capacity,
// that room is there for them however much the others ask for.
func (c *Controller) share(j *job, buyerKey, providerKey uint64, cost int64) Code {
	buyer, waitBuyer := c.buyers.take(buyerKey, j.now, c.buyers.scale(cost))
	provider, waitProvider := c.providers.take(providerKey, j.now, c.providers.scale(cost))
	over, code, waitShare := int64(0), BurstExhausted, int64(never)
	if waitProvider > 0 {
		over, code, waitShare = over+1, ProviderShare, waitProvider
	}
	if waitBuyer > 0 {
		over, code, waitShare = over+1, BuyerShare, min(waitShare, waitBuyer)
	}
	capacity := int64(j.view.capacity)
	marked := capacity
	if over > 0 && c.contended(j.now) {
		marked -= over * (capacity / 8)
	}
	if missing := c.wheel.take(j.shards, marked); missing > 0 {
		j.wait = c.wheel.next(j.now) - j.now
		if missing <= capacity-marked {
			j.wait = min(j.wait, waitShare)
		} else {
			if code = Capacity; over == 0 {
				c.note(j.now, &buyer)
			}
		}
	} else if wait := c.total.take(j.now, cost, c.burst-over*(c.burst/4)); wait > 0 {
		c.wheel.give(j.shards)
		j.wait = min(wait, waitShare)
	} else if !c.hold(j, Industrial, uint64(c.total.tat.Load())) {
		c.total.give(cost)
		c.wheel.give(j.shards)
		j.wait, code = c.wheel.next(j.now)-j.now, Capacity
	} else {
		c.buyers.count(&buyer)
		c.providers.count(&provider)
		j.lease.total, j.lease.buyer, j.lease.provider = cost, buyer, provider
		return Admitted
	}
	buyer.give(buyer.cost)
	provider.give(provider.cost)
	return code
}

// contended reports whether anybody but one tenant wants shards. While nobody
// does, there is no one to keep the rest free for.
func (c *Controller) contended(now int64) bool {
	return c.buyers.active.Load() > 1 || now < c.wanted.Load()
}

// note remembers for half a burst that a newcomer within its shares found no free
// shards: someone who waits is not active yet.
func (c *Controller) note(now int64, buyer *claim) {
	if until := now + c.burst/2; c.buyers.idle(buyer) && c.wanted.Load() < until-c.burst/4 {
		c.wanted.Store(until)
	}
}

// hold makes the lease for shards taken already, and puts them where its deadline
// frees them. It reports false if there is no place for a lease.
func (c *Controller) hold(j *job, lane Lane, seed uint64) bool {
	end := j.now + j.length
	slot, word, ok := c.slots[lane-1].claim(j.now, end, seed)
	if !ok {
		return false
	}
	l := j.lease
	l.lane, l.slot, l.word = lane, slot, word
	l.start, l.end, l.shards = j.now, end, j.shards
	c.wheel.add(placeOf(j.now, end), j.shards)
	return true
}

// Release is [Controller.ReleaseAt] at the time that the Clock tells.
func (c *Controller) Release(l Lease) bool { return c.ReleaseAt(l, c.clock.Now()) }

// ReleaseAt gives back what l holds and has not used by now: its shards, and the
// part of its charges that lies between now and the deadline. It reports whether
// there was something to give back: not for the zero Lease, after the deadline,
// or a second time.
func (c *Controller) ReleaseAt(l Lease, now time.Time) bool {
	at := c.line.at(now)
	if !l.lane.Valid() || at >= l.end || !c.slots[l.lane-1].release(&l) {
		return false
	}
	c.wheel.remove(placeOf(l.start, l.end), l.shards)
	unused := min(float64(l.end-at)/float64(l.end-l.start), 1)
	part := func(cost int64) int64 { return int64(float64(cost) * unused) }
	c.total.give(part(l.total))
	l.buyer.give(part(l.buyer.cost))
	l.provider.give(part(l.provider.cost))
	return true
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
