package admission

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Invariant: an industrial job is admitted only if, with it, the shards held are
// at most the estimated capacity and the work charged is at most capacity times
// time plus burst. A consumer's job is admitted whatever industry does.

// Controller decides who may start work. It is safe for concurrent use, starts
// no goroutine and keeps a fixed amount of memory. The zero Controller has the
// default options.
//
// Each method that depends on time comes in two forms: X reads the clock, which
// is [Options.Clock] or the system's, and XAt takes the time from its caller. A
// program uses one of the two throughout, unless both read the same clock.
type Controller struct {
	once    sync.Once
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
	c := new(Controller)
	c.once.Do(func() { c.init(o) })
	return c, nil
}

func (c *Controller) init(o *Options) {
	c.clock, c.log = o.Clock, o.Logger
	c.signals, c.hasher = newSignals(o), newHasher()
	c.start = time.Now()
	c.startNano = c.start.UnixNano()
	c.books.init(o)
}

// ready makes a zero Controller one with default options. Whoever sees a tick of
// the line sees what was made before it, and so it is needed only on the way into
// one.
func (c *Controller) ready() {
	c.once.Do(func() {
		o, _ := (*Options)(nil).withDefaults()
		c.init(o)
	})
}

// Decide is [Controller.DecideAt] at the time that the clock tells.
func (c *Controller) Decide(r Request) Decision { return c.decide(&r) }

// DecideAt answers r at now. An admitted job is charged in full at once and holds
// its shards until now+duration, when its lease ends by itself; ending earlier is
// [Controller.Release]. A refused request leaves nothing behind but, in tight, a
// place in the queue, the same however often it asks.
//
// Checks come in this order, and the first that fails gives the code: Invalid,
// StaleSignal and Brownout, TooLarge, DeferredTight, then the shares, Capacity,
// BurstExhausted, LeasesExhausted. A consumer can only meet the first and the
// last.
func (c *Controller) DecideAt(r Request, now time.Time) Decision { return c.decideAt(&r, now) }

// decide and decideAt take a pointer, so that the methods above are inlined and the
// request is copied once.
func (c *Controller) decide(r *Request) Decision {
	now := c.now() // before it, a zero Controller has no log to look at
	if c.log != nil {
		return c.decideLogged(r, now)
	}
	return c.judge(r, now)
}

func (c *Controller) decideAt(r *Request, t time.Time) Decision {
	now, ok := c.line.here(t.UnixNano()) // as c.at does, without its call
	if !ok {
		now = c.turn(t)
	}
	if c.log != nil {
		return c.decideLogged(r, now)
	}
	return c.judge(r, now)
}

// at places t on the line.
func (c *Controller) at(t time.Time) int64 {
	if now, ok := c.line.here(t.UnixNano()); ok {
		return now
	}
	return c.turn(t)
}

func (c *Controller) turn(t time.Time) int64 {
	c.ready()
	return c.line.turn(t)
}

// now reads the clock. The system's is read without a detour over time.Time, and
// only its monotonic part, as that is half of what time.Now takes.
func (c *Controller) now() int64 {
	if c.line.newest() == 0 {
		c.ready()
	}
	if c.clock != nil {
		return c.at(c.clock.Now())
	}
	if now, ok := c.line.here(c.startNano + int64(time.Since(c.start))); ok {
		return now
	}
	return c.line.turn(c.start.Add(time.Since(c.start)))
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
		var f flaw
		if length, f = r.check(); f != wellFormed {
			return Decision{Mode: v.mode} // Invalid; belongs to no lane, so it is not counted
		}
	}
	var j job
	j.shards, j.length = int64(r.Shards), length
	if r.Lane == Consumer {
		j.cost = v.cost(j.shards, length, c.books.burst)
		lease, code, wait := c.books.consumer(&j, now)
		return Decision{Code: code, Mode: v.mode, RetryAfter: time.Duration(wait), Lease: lease}
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
			return c.refuse(v, DeferredTight, max(c.signals.calm.Load()-now, 1))
		}
	}
	j.buyer, j.provider = c.hasher.sum(r.Buyer), c.hasher.sum(r.Provider)
	j.ofBuyer, j.ofProvider = c.books.buyers.scale(j.cost), c.books.providers.scale(j.cost)
	lease, code, wait := c.books.industrial(&j, now)
	if code == DeferredTight {
		wait = min(wait, max(c.signals.calm.Load()-now, 1))
	}
	return Decision{Code: code, Mode: v.mode, RetryAfter: time.Duration(wait), Lease: lease}
}

// refuse answers an industrial request on what the signals say alone.
func (c *Controller) refuse(v *view, code Code, wait int64) Decision {
	c.refused[code].Add(1)
	return Decision{Code: code, Mode: v.mode, RetryAfter: time.Duration(wait)}
}

// Release is [Controller.ReleaseAt] at the time that the clock tells.
func (c *Controller) Release(l Lease) bool { return c.books.release(l, c.now()) }

// ReleaseAt gives back what l holds and has not used by now: its shards, and the
// part of its charges that lies between now and the deadline. It reports whether
// there was something to give back: not for the zero Lease, after the deadline,
// or a second time.
func (c *Controller) ReleaseAt(l Lease, now time.Time) bool {
	at, ok := c.line.here(now.UnixNano()) // as c.at does, without its call
	if !ok {
		at = c.turn(now)
	}
	return c.books.release(l, at)
}
