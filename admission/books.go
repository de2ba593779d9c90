package admission

import "sync"

// Invariant: everything below is read and written with mu held, and nobody waits,
// allocates or calls out with mu held. A decision is made and entered in one go:
// what is refused has changed nothing but a place in the queue.

// books is what has been admitted: how much work, by whom, and what it still
// holds.
//
// They are under one lock, as that is what costs least. A lock is two locked
// instructions; a compare-and-swap for each bucket, for the shards, the lease and
// its deadline would be six.
type books struct {
	mu   sync.Mutex
	tick int64 // up to which time has been entered

	burst     int64
	total     bucket
	wheel     wheel
	buyers    tenants
	providers tenants
	turns     turns
	wanted    int64 // see note
	leases    [len(Lanes)]leases

	admitted [len(Lanes)]uint64
	refused  [len(Lanes)][codes]uint64
}

func (b *books) init(o *Options) {
	b.burst = int64(o.Burst)
	b.buyers.init(o)
	b.providers.init(o)
	b.turns.init(o)
	for i := range b.leases {
		b.leases[i] = newLeases(o.Leases)
	}
}

// enter brings the books to now, or to what they have seen already, and reports
// whether a new tick began.
func (b *books) enter(now int64) (int64, bool) {
	if now>>tickBits == b.tick {
		return now, false
	}
	return b.turn(now)
}

func (b *books) turn(now int64) (int64, bool) {
	if now>>tickBits < b.tick {
		return b.tick << tickBits, false
	}
	b.tick = now >> tickBits
	b.wheel.sweep(now, &b.leases)
	b.buyers.pass(now)
	b.providers.pass(now)
	return now, true
}

// job is a request on its way into the books.
type job struct {
	shards     int64
	length     int64
	cost       int64  // nanoseconds of the whole capacity
	capacity   int64  // shards
	buyer      uint64 // keys
	provider   uint64
	ofBuyer    int64 // the cost as nanoseconds of the tenants' shares
	ofProvider int64
	trickle    int64 // nanoseconds of the trickle, in tight
	tight      bool
}

// consumer admits if there is a place for the lease. What the job holds and costs
// is what industry does not get.
func (b *books) consumer(j *job, asked int64) (l Lease, code Code, wait int64) {
	const lane = Consumer - 1
	b.mu.Lock()
	now, _ := b.enter(asked)
	at := b.leases[lane].take()
	if at == 0 {
		b.refused[lane][LeasesExhausted]++
		wait = b.wheel.placeAt(int(lane), now) - asked
		b.mu.Unlock()
		return Lease{}, LeasesExhausted, wait
	}
	total := b.total.fill(now, j.cost, b.burst)
	l, h := b.hold(Consumer, at, j, now)
	h.total, h.buyer, h.provider = total, claim{}, claim{}
	b.mu.Unlock()
	return l, Admitted, 0
}

// industrial charges the job to its buyer and provider as far as it lies within
// their shares, and to all together.
//
// Work beyond a share is borrowed: it costs its tenant nothing later, but it may
// fill the burst and the shards only up to a mark that leaves room for those who
// stay within their shares. As the shares of all tenants sum to the capacity,
// that room is there for them however much the others ask for.
func (b *books) industrial(j *job, asked int64) (l Lease, code Code, wait int64) {
	b.mu.Lock()
	now, ticked := b.enter(asked)
	if ticked {
		j.ofBuyer, j.ofProvider = b.buyers.scale(j.cost), b.providers.scale(j.cost)
	}
	buyer := b.buyers.home(j.buyer)
	if buyer.key != j.buyer {
		buyer = b.findBuyer(j.buyer, now)
	}
	if j.tight {
		if until := b.turns.wait(buyer, now, j.trickle); until > 0 {
			b.refused[Industrial-1][DeferredTight]++
			b.mu.Unlock()
			return Lease{}, DeferredTight, until - asked
		}
	}
	provider := b.providers.home(j.provider)
	if provider.key != j.provider {
		provider = b.providers.find(j.provider, now)
	}
	ofBuyer, ofProvider := j.ofBuyer, j.ofProvider
	held, ahead := j.capacity, b.burst // the marks
	if !b.buyers.within(buyer, now, ofBuyer) || !b.providers.within(provider, now, ofProvider) {
		over := int64(0)
		if !b.buyers.within(buyer, now, ofBuyer) {
			over, ofBuyer = over+1, 0
		}
		if !b.providers.within(provider, now, ofProvider) {
			over, ofProvider = over+1, 0
		}
		held, ahead = b.marks(j, over, b.contended(now))
	}
	if b.held()+j.shards <= held && b.total.wait(now, j.cost, ahead) <= 0 {
		if at := b.leases[Industrial-1].take(); at != 0 {
			b.total.take(now, j.cost)
			if j.tight {
				b.turns.take(buyer, now, j.trickle)
			}
			l, h := b.hold(Industrial, at, j, now)
			h.total = j.cost
			h.buyer = buyer.charge(now, ofBuyer)
			h.provider = provider.charge(now, ofProvider)
			b.buyers.count(buyer)
			b.providers.count(provider)
			b.mu.Unlock()
			return l, Admitted, 0
		}
	}
	code, until := b.refuse(j, now, buyer, provider, held, ahead)
	b.mu.Unlock()
	return Lease{}, code, until - asked
}

// findBuyer finds the record of a buyer that does not stand where most do.
func (b *books) findBuyer(key uint64, now int64) *record {
	b.turns.lapse(now)
	b.buyers.waiting = b.turns.first
	return b.buyers.find(key, now)
}

// marks are for a job that is over so many of its shares.
func (b *books) marks(j *job, over int64, contended bool) (held, ahead int64) {
	held, ahead = j.capacity, b.burst-over*(b.burst/4)
	if contended {
		held -= over * (j.capacity / 8)
	}
	return held, ahead
}

// held returns the shards of all leases.
func (b *books) held() int64 { return b.wheel.held[0] + b.wheel.held[1] }

// contended reports whether anybody but one tenant wants shards. While nobody
// does, there is no one to keep the rest free for.
func (b *books) contended(now int64) bool {
	return b.buyers.active > 1 || now < b.wanted
}

// hold takes the job's shards until its deadline, in the place at.
func (b *books) hold(lane Lane, at uint32, j *job, now int64) (Lease, *lease) {
	i := uint(lane-1) % uint(len(Lanes))
	b.admitted[i]++
	ls := &b.leases[i]
	h := &ls.places[at]
	h.end, h.length = now+j.length, j.length
	h.shards = uint32(j.shards)
	h.serial = max(h.serial+1, 1)
	p := placeOf(now, h.end)
	in := b.wheel.add(p, i, j.shards)
	if in.first == 0 {
		b.wheel.begin(p)
	}
	ls.append(in, at)
	return newLease(lane, at, h.serial), h
}

// release ends a lease at now, and gives back what it has not used. It reports
// whether there was such a lease.
func (b *books) release(l Lease, now int64) bool {
	b.mu.Lock()
	now, _ = b.enter(now)
	lane, at := l.place()
	ls := &b.leases[lane]
	h := ls.find(l, at, now)
	if h == nil {
		b.mu.Unlock()
		return false
	}
	b.drop(h, lane, at)
	unused := min(float64(h.end-now)/float64(h.length), 1)
	b.total.give(int64(float64(h.total) * unused))
	b.buyers.give(h.buyer, unused)
	b.providers.give(h.provider, unused)
	h.end = 0
	b.mu.Unlock()
	return true
}

// drop frees the shards and the place of a lease before its deadline.
func (b *books) drop(h *lease, lane uint, at uint32) {
	ls := &b.leases[lane]
	p := placeOf(h.end-h.length, h.end)
	in := b.wheel.add(p, lane, -int64(h.shards))
	ls.remove(in, at)
	ls.append(&ls.free, at)
}
