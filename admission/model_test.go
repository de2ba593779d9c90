package admission

import (
	"flag"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var modelSteps = flag.Int("model-steps", 20_000, "steps of TestModel for each seed")

// plain is the books as the documentation tells them: maps of tenants that forget
// nobody, a list of leases, a queue of names. It knows nothing of wheels, hashes
// and tickets. Only where a lease's deadline is rounded to is taken from placeOf.
type plain struct {
	o                 *Options
	line              *timeline
	tick              int64
	total             int64 // until when all charged work takes
	buyers, providers plainTenants
	leases            []plainLease
	wanted            int64

	queue []waiting
	taken int64 // period
	owner string
	spent int64
}

type plainTenants struct {
	until map[string]int64 // the tenant's work takes, on its share
	epoch int64
	now   map[string]bool // admitted in this epoch
	last  map[string]bool // and in the last
}

type plainLease struct {
	Lease
	lane                Lane
	end, length, free   int64
	shards, total       int64
	buyer, provider     string
	ofBuyer, ofProvider int64
}

type waiting struct {
	buyer string
	due   int64
}

func newPlain(o *Options) *plain {
	t := func() plainTenants {
		return plainTenants{until: map[string]int64{}, now: map[string]bool{}, last: map[string]bool{}}
	}
	return &plain{o: o, line: new(timeline), buyers: t(), providers: t()}
}

func (p *plain) clone() *plain {
	c := *p
	for _, t := range []*plainTenants{&c.buyers, &c.providers} {
		t.until, t.now, t.last = maps.Clone(t.until), maps.Clone(t.now), maps.Clone(t.last)
	}
	c.leases, c.queue = slices.Clone(p.leases), slices.Clone(p.queue)
	return &c
}

func (p *plain) epochLength() int64 { return int64(p.o.Burst/2) >> tickBits << tickBits }

func (p *plain) enter(now int64) int64 {
	if now>>tickBits <= p.tick {
		return max(now, p.tick<<tickBits)
	}
	p.tick = now >> tickBits
	p.leases = slices.DeleteFunc(p.leases, func(l plainLease) bool { return l.free <= now })
	e := now / p.epochLength()
	for _, t := range []*plainTenants{&p.buyers, &p.providers} {
		if e > t.epoch {
			t.last = map[string]bool{}
			if e == t.epoch+1 {
				t.last = t.now
			}
			t.now, t.epoch = map[string]bool{}, e
		}
	}
	return now
}

func (t *plainTenants) active() int { return max(len(t.last), len(t.now), 1) }

// share turns a cost into one on a share of the capacity.
func (p *plain) share(t *plainTenants, cost int64) int64 {
	factor := max(1/p.o.TenantShare, float64(t.active()))
	return min(int64(float64(cost)*factor), 100*int64(p.o.Burst))
}

func (p *plain) within(t *plainTenants, id string, now, cost int64) bool {
	ahead := max(t.until[id]-now, 0)
	return ahead == 0 || ahead+cost <= int64(p.o.Burst/2)
}

func (p *plain) held(lanes ...Lane) (n int64) {
	for _, l := range p.leases {
		if slices.Contains(lanes, l.lane) {
			n += l.shards
		}
	}
	return n
}

func (p *plain) places(lane Lane) int {
	n := p.o.Leases
	for _, l := range p.leases {
		if l.lane == lane {
			n--
		}
	}
	return n
}

// cost is in nanoseconds of the whole capacity, and limit+1 for all that is more.
func cost(shards, length, capacity, limit int64) int64 {
	if capacity == 0 {
		return limit + 1
	}
	n := new(big.Int).Mul(big.NewInt(shards), big.NewInt(length))
	if n.Div(n, big.NewInt(capacity)); n.IsInt64() {
		return min(n.Int64(), limit) + 1
	}
	return limit + 1
}

func (p *plain) decide(r Request, now int64, v *view) (Code, *plainLease) {
	burst, capacity := int64(p.o.Burst), int64(v.capacity)
	l := plainLease{lane: r.Lane, shards: int64(r.Shards), length: int64(r.Duration), buyer: r.Buyer, provider: r.Provider}
	if r.Lane == Consumer {
		now = p.enter(now)
		if p.places(Consumer) == 0 {
			return LeasesExhausted, nil
		}
		c := cost(l.shards, l.length, capacity, burst)
		l.total = max(min(c, burst-max(p.total-now, 0)), 0)
		return Admitted, p.hold(l, now)
	}
	switch c := cost(l.shards, l.length, capacity, burst/2); {
	case v.stale:
		return StaleSignal, nil
	case v.mode == ModeBrownout:
		return Brownout, nil
	case l.shards > capacity || c > burst/2:
		return TooLarge, nil
	default:
		l.total = c
	}
	trickle := int64(float64(l.total) / p.o.TrickleShare)
	if v.mode == ModeTight && trickle > int64(p.o.TricklePeriod) {
		return DeferredTight, nil
	}
	now = p.enter(now)
	if v.mode == ModeTight && !p.turn(r.Buyer, now, trickle) {
		return DeferredTight, nil
	}
	over := int64(0)
	l.ofBuyer, l.ofProvider = p.share(&p.buyers, l.total), p.share(&p.providers, l.total)
	code := Admitted
	if !p.within(&p.providers, r.Provider, now, l.ofProvider) {
		over, l.ofProvider, code = over+1, 0, ProviderShare
	}
	if !p.within(&p.buyers, r.Buyer, now, l.ofBuyer) {
		over, l.ofBuyer, code = over+1, 0, BuyerShare
	}
	mark := capacity
	if p.buyers.active() > 1 || now < p.wanted {
		mark -= over * (capacity / 8)
	}
	needs, full := p.held(Lanes[:]...)+l.shards, max(p.total-now, 0)+l.total > burst-over*(burst/4)
	switch {
	case needs-mark > capacity-mark && needs > mark:
		if code == Admitted && !p.buyers.now[r.Buyer] && !p.buyers.last[r.Buyer] {
			p.wanted = max(p.wanted, now+burst/2)
		}
		code = Capacity
	case needs > mark || full:
		if code == Admitted {
			code = BurstExhausted
		}
	case p.places(Industrial) == 0:
		code = LeasesExhausted
	default:
		if v.mode == ModeTight {
			p.take(r.Buyer, now, trickle)
		}
		p.buyers.now[r.Buyer], p.providers.now[r.Provider] = true, true
		return Admitted, p.hold(l, now)
	}
	if v.mode == ModeTight && p.taken < now/int64(p.o.TricklePeriod) && len(p.queue) > 0 && p.queue[0].buyer == r.Buyer {
		p.queue = p.queue[1:]
	}
	return code, nil
}

func (p *plain) hold(l plainLease, now int64) *plainLease {
	l.end = now + l.length
	l.free = placeOf(now, l.end).end()
	charge := func(until *int64, cost int64) {
		if cost > 0 {
			*until = max(*until, now) + cost
		}
	}
	charge(&p.total, l.total)
	if l.lane == Industrial {
		b, q := p.buyers.until[l.buyer], p.providers.until[l.provider]
		charge(&b, l.ofBuyer)
		charge(&q, l.ofProvider)
		p.buyers.until[l.buyer], p.providers.until[l.provider] = b, q
	}
	p.leases = append(p.leases, l)
	return &p.leases[len(p.leases)-1]
}

func (p *plain) release(handle Lease, now int64) bool {
	now = p.enter(now)
	i := slices.IndexFunc(p.leases, func(l plainLease) bool { return l.Lease == handle && l.end > now })
	if i < 0 {
		return false
	}
	l := p.leases[i]
	p.leases = slices.Delete(p.leases, i, i+1)
	unused := min(float64(l.end-now)/float64(l.length), 1)
	part := func(cost int64) int64 { return int64(float64(cost) * unused) }
	p.total -= part(l.total)
	if l.lane == Industrial {
		p.buyers.until[l.buyer] -= part(l.ofBuyer)
		p.providers.until[l.provider] -= part(l.ofProvider)
	}
	return true
}

// turn reports whether it is the buyer's turn, and keeps its place if not.
func (p *plain) turn(buyer string, now, cost int64) bool {
	length := int64(p.o.TricklePeriod)
	period, end, grace := now/length, (now/length+1)*length, min(length/8, int64(time.Second))
	if p.taken == period && p.owner == buyer {
		if p.spent+cost <= end {
			return true
		}
		p.owner = "" // who asks for more than is left goes to the end
	}
	at := func() int { return slices.IndexFunc(p.queue, func(w waiting) bool { return w.buyer == buyer }) }
	for len(p.queue) > 0 && p.queue[0].due+grace < now {
		p.queue = p.queue[1:]
	}
	if at() < 0 && len(p.queue) < maxTurns {
		p.queue = append(p.queue, waiting{buyer, now})
	}
	i := at()
	if i >= 0 {
		p.queue[i].due = now
	}
	before := p.queue
	if i >= 0 {
		before = p.queue[:i]
	}
	due := end
	if p.taken < period {
		gone := int64(0)
		for _, w := range before {
			gone = max(gone, w.due+grace+1)
		}
		due = min(due, gone)
	}
	if i >= 0 {
		p.queue[i].due = max(due, now)
	}
	return due == 0
}

func (p *plain) take(buyer string, now, cost int64) {
	if period := now / int64(p.o.TricklePeriod); p.taken != period {
		p.taken, p.spent, p.owner = period, period*int64(p.o.TricklePeriod), buyer
		p.queue = p.queue[1:]
	}
	p.spent += cost
}

// TestModel does random things to a controller and to a plain one, under a clock
// that goes on, stands, is late, is set back, forward and far away, and compares
// what they answer and hold after each step. A refusal's RetryAfter is taken at
// its word: the plain one admits then, and not a nanosecond before.
func TestModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runModel(t, seed) })
	}
}

func runModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 77))
	o, err := (&Options{
		CapacityAge: MaxDuration, CapacityWindow: 2, Burst: 4 * time.Second, Tenants: 64, Leases: 12 + int(seed)*60,
		FeeAge: 20 * time.Second, ComfortThreshold: 100, MinFees: 3, FeeWindow: 6, Dwell: 3 * time.Second,
		TrickleShare: 0.2, TricklePeriod: 4 * time.Second,
	}).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlain(o)
	now := start
	at := func() int64 { return p.line.at(now) }
	c.ObserveCapacityAt(100, now)
	at()
	seen := map[Code]int{}
	var handles []Lease
	greed, tenants := uint64(1), 12
	for step := range *modelSteps {
		switch rng.IntN(200) {
		default:
			now = now.Add(time.Duration(rng.Int64N(int64(40 * time.Millisecond))))
		case 0:
			now = now.Add(time.Duration(rng.Int64N(int64(10 * time.Second))))
		case 1:
			now = now.Add(-time.Duration(rng.Int64N(int64(3 * time.Second))))
		case 2:
			if rng.IntN(20) == 0 {
				now = now.Add(time.Duration(rng.Int64N(int64(48*time.Hour))) - 24*time.Hour)
			}
		case 3:
			if rng.IntN(50) == 0 { // a stray, once
				stray := []time.Time{{}, time.Unix(1<<40, 0), time.Unix(0, 0)}[rng.IntN(3)]
				c.StatusAt(stray)
				p.enter(p.line.at(stray))
			}
		case 4:
			greed, tenants = []uint64{1, 10, 30, 100}[rng.IntN(4)], []int{1, 3, 12, 40}[rng.IntN(4)]
		}
		switch do := rng.IntN(20); {
		case do < 12:
			r := ask(fmt.Sprint("b", rng.IntN(tenants)), fmt.Sprint("p", rng.IntN(tenants)), 1+rng.Uint64N(greed),
				time.Duration(1+rng.Int64N(int64(1+rng.IntN(3))*int64(time.Second))))
			if rng.IntN(25) == 0 {
				r.Lane = Consumer
			}
			if rng.IntN(3) == 0 { // few shards for a long time fill the burst, not the shards
				r.Shards, r.Duration = 1+rng.Uint64N(3), time.Duration(rng.Int64N(int64(time.Minute)))+1
			}
			line := at()
			v := c.signals.look(line)
			got := c.DecideAt(r, now)
			code, l := p.decide(r, line, v)
			if got.Code != code || (got.Lease != Lease{}) != (code == Admitted) {
				t.Fatalf("step %d: %+v of %+v, want %v", step, got, r, code)
			}
			seen[code]++
			if l != nil {
				l.Lease = got.Lease
				handles = append(handles, got.Lease)
				if r.Lane == Industrial && p.held(Lanes[:]...) > int64(v.capacity) {
					t.Fatalf("step %d: %d held of %d", step, p.held(Lanes[:]...), v.capacity)
				}
			}
			if code >= Capacity && code != TooLarge && code != StaleSignal && v.mode == ModeNormal {
				if seen[code] < 200 || rng.IntN(20) == 0 {
					p.promise(t, step, r, line, got, v)
				}
			}
		case do < 17 && len(handles) > 0:
			h := handles[rng.IntN(len(handles))]
			if got, want := c.ReleaseAt(h, now), p.release(h, at()); got != want {
				t.Fatalf("step %d: released %v, want %v", step, got, want)
			}
		case do == 17 && rng.IntN(10) == 0:
			c.ObserveCapacityAt(50+rng.Uint64N(100), now)
			at()
		case do == 18 && seed%2 == 0 && rng.IntN(4) == 0:
			c.ObserveConsumerFeeAt(rng.Uint64N(140), now)
			at()
		}
		if step%100 == 0 && len(handles) > 500 {
			handles = handles[400:]
		}
		p.compare(t, step, c, now, at())
	}
	t.Log(seen)
	codes := []Code{Admitted, Capacity, BuyerShare, ProviderShare, TooLarge}
	if seed%2 == 0 {
		codes = append(codes, DeferredTight)
	} else {
		codes = append(codes, BurstExhausted)
	}
	if seed == 0 {
		codes = append(codes, LeasesExhausted)
	}
	for _, code := range codes {
		if seen[code] == 0 && *modelSteps >= 20_000 {
			t.Errorf("never met %v", code)
		}
	}
}

// promise holds RetryAfter against what would happen.
func (p *plain) promise(t *testing.T, step int, r Request, line int64, d Decision, v *view) {
	t.Helper()
	at := line + int64(d.RetryAfter)
	if code, _ := p.clone().decide(r, at, v); code != Admitted {
		t.Fatalf("step %d: %v, after %v %v", step, d.Code, d.RetryAfter, code)
	}
	if code, _ := p.clone().decide(r, at-1, v); code == Admitted && d.RetryAfter > 1 {
		t.Fatalf("step %d: %v, already admitted before %v", step, d.Code, d.RetryAfter)
	}
}

// compare finds the same in the books of both.
func (p *plain) compare(t *testing.T, step int, c *Controller, now time.Time, line int64) {
	t.Helper()
	s := c.StatusAt(now)
	p.enter(line)
	if s.Leased != uint64(p.held(Lanes[:]...)) || s.ConsumerLeased != uint64(p.held(Consumer)) {
		t.Fatalf("step %d: %d held, %d by consumers, want %d and %d", step, s.Leased, s.ConsumerLeased, p.held(Lanes[:]...), p.held(Consumer))
	}
	b := &c.books
	if b.total.tat != p.total || b.wanted != p.wanted {
		t.Fatalf("step %d: total %d wanted %d, want %d and %d", step, b.total.tat, b.wanted, p.total, p.wanted)
	}
	if b.buyers.active != int64(p.buyers.active()) || b.providers.active != int64(p.providers.active()) {
		t.Fatalf("step %d: %d and %d active, want %d and %d", step, b.buyers.active, b.providers.active, p.buyers.active(), p.providers.active())
	}
	for name, pair := range map[string]struct {
		fast  *tenants
		plain *plainTenants
	}{"buyer": {&b.buyers, &p.buyers}, "provider": {&b.providers, &p.providers}} {
		for id, until := range pair.plain.until {
			if at, ok := pair.fast.lookup(c.hasher.sum(id)); !ok || pair.fast.records[at].tat != until {
				t.Fatalf("step %d: %s %s: %+v, want %d", step, name, id, pair.fast.records[at], until)
			}
		}
	}
	// Places that were lost count no more, whether or not somebody has noticed.
	first, grace := b.turns.first, b.turns.grace
	for first < b.turns.next && b.turns.due[first%maxTurns]+grace < line {
		first++
	}
	queue := p.queue
	for len(queue) > 0 && queue[0].due+grace < line {
		queue = queue[1:]
	}
	if n := b.turns.next - first; n != int64(len(queue)) {
		t.Fatalf("step %d: %d wait, want %d", step, n, len(queue))
	}
}
