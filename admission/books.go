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
	refused  [codes]uint64 // industrial
}

func (b *books) init(o *Options) {
	b.burst = int64(o.Burst)
	b.buyers.init(o)
	b.providers.init(o)
	b.turns.period, b.turns.inverse = int64(o.TricklePeriod), 1/o.TrickleShare
	for i := range b.leases {
		b.leases[i] = newLeases(o.Leases)
	}
}

// enter brings the books to now, and returns it or what they have seen already.
func (b *books) enter(now int64) int64 {
	if now>>tickBits == b.tick {
		return now
	}
	return b.turn(now)
}

func (b *books) turn(now int64) int64 {
	if now>>tickBits < b.tick {
		return b.tick << tickBits
	}
	b.tick = now >> tickBits
	b.wheel.sweep(now)
	b.buyers.pass(now)
	b.providers.pass(now)
	return now
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

// consumer admits. What the job holds and costs is what industry does not get.
func (b *books) consumer(j *job, now int64) (l Lease) {
	b.mu.Lock()
	now = b.enter(now)
	b.admitted[Consumer-1]++
	total := b.total.fill(now, j.cost, b.burst)
	if place, ok := b.leases[Consumer-1].find(now); ok {
		h := b.hold(Consumer, place, j, now)
		h.total, h.buyer, h.provider = total, claim{}, claim{}
		l = newLease(Consumer, place, h.serial)
	}
	b.mu.Unlock()
	return l
}

// industrial charges the job to its buyer and provider as far as it lies within
// their shares, and to all together.
//
// Work beyond a share is borrowed: it costs its tenant nothing later, but it may
// fill the burst and the shards only up to a mark that leaves room for those who
// stay within their shares. As the shares of all tenants sum to the capacity,
// that room is there for them however much the others ask for.
func (b *books) industrial(j *job, now int64) (l Lease, code Code, wait int64) {
	b.mu.Lock()
	now = b.enter(now)
	buyer, ok := b.buyers.home(j.buyer)
	if !ok {
		buyer = b.buyers.find(j.buyer, now)
	}
	if j.tight {
		if wait := b.turns.wait(&b.buyers.records[buyer], now, j.trickle); wait > 0 {
			b.refused[DeferredTight]++
			b.mu.Unlock()
			return Lease{}, DeferredTight, wait
		}
	}
	provider, ok := b.providers.home(j.provider)
	if !ok {
		provider = b.providers.find(j.provider, now)
	}
	ofBuyer, ofProvider := j.ofBuyer, j.ofProvider
	held, ahead := j.capacity, b.burst // the marks
	if !b.buyers.within(&b.buyers.records[buyer], now, ofBuyer) ||
		!b.providers.within(&b.providers.records[provider], now, ofProvider) {
		held, ahead, ofBuyer, ofProvider = b.borrow(j, now, buyer, provider)
	}
	if b.wheel.held+j.shards <= held && b.total.wait(now, j.cost, ahead) <= 0 {
		if place, ok := b.leases[Industrial-1].find(now); ok {
			b.admitted[Industrial-1]++
			b.total.take(now, j.cost)
			if j.tight {
				b.turns.take(now, j.trickle)
			}
			h := b.hold(Industrial, place, j, now)
			h.total = j.cost
			h.buyer = b.buyers.charge(buyer, now, ofBuyer)
			h.provider = b.providers.charge(provider, now, ofProvider)
			b.buyers.count(buyer)
			b.providers.count(provider)
			l = newLease(Industrial, place, h.serial)
			b.mu.Unlock()
			return l, Admitted, 0
		}
	}
	code, wait = b.why(j, now, buyer, provider, held, ahead)
	b.refused[code]++
	b.mu.Unlock()
	return Lease{}, code, wait
}

// borrow returns the marks up to which a job may fill the shards and the burst if
// it is not within both shares, and what it is charged within each.
func (b *books) borrow(j *job, now int64, buyer, provider uint32) (held, ahead, ofBuyer, ofProvider int64) {
	over := int64(0)
	ofBuyer, ofProvider = j.ofBuyer, j.ofProvider
	if !b.buyers.within(&b.buyers.records[buyer], now, ofBuyer) {
		over, ofBuyer = over+1, 0
	}
	if !b.providers.within(&b.providers.records[provider], now, ofProvider) {
		over, ofProvider = over+1, 0
	}
	held, ahead = j.capacity, b.burst-over*(b.burst/4)
	if b.contended(now) {
		held -= over * (j.capacity / 8)
	}
	return held, ahead, ofBuyer, ofProvider
}

// why explains the refusal of a job that does not fit under the marks.
func (b *books) why(j *job, now int64, buyer, provider uint32, held, ahead int64) (code Code, wait int64) {
	code, share := BurstExhausted, int64(never) // until the job would be within its shares
	if r := &b.providers.records[provider]; !b.providers.within(r, now, j.ofProvider) {
		code, share = ProviderShare, b.providers.wait(r, now, j.ofProvider)
	}
	if r := &b.buyers.records[buyer]; !b.buyers.within(r, now, j.ofBuyer) {
		code, share = BuyerShare, min(share, b.buyers.wait(r, now, j.ofBuyer))
	}
	if missing := b.wheel.held + j.shards - held; missing > 0 {
		wait = b.wheel.next(now) - now
		if missing <= j.capacity-held {
			return code, min(wait, share)
		}
		if share == never {
			b.note(now, &b.buyers.records[buyer])
		}
		return Capacity, wait
	}
	if wait = b.total.wait(now, j.cost, ahead); wait > 0 {
		return code, min(wait, share)
	}
	return Capacity, b.wheel.next(now) - now // no place for a lease
}

// contended reports whether anybody but one tenant wants shards. While nobody
// does, there is no one to keep the rest free for.
func (b *books) contended(now int64) bool {
	return b.buyers.active > 1 || now < b.wanted
}

// note remembers for half a burst that a newcomer within its shares found no free
// shards: someone who waits is not active yet.
func (b *books) note(now int64, buyer *record) {
	if b.buyers.idle(buyer) {
		b.wanted = max(b.wanted, now+b.burst/2)
	}
}

// hold takes the job's shards until its deadline.
func (b *books) hold(lane Lane, place uint32, j *job, now int64) *lease {
	h := &b.leases[lane-1].places[place]
	h.end, h.length = now+j.length, j.length
	h.shards = uint32(j.shards)
	h.serial = max(h.serial+1, 1)
	b.wheel.add(placeOf(now, h.end), j.shards)
	return h
}

// release ends a lease at now, and gives back what it has not used. It reports
// whether there was such a lease.
func (b *books) release(l Lease, now int64) bool {
	b.mu.Lock()
	now = b.enter(now)
	h := b.find(l, now)
	if h == nil {
		b.mu.Unlock()
		return false
	}
	b.wheel.remove(placeOf(h.end-h.length, h.end), int64(h.shards))
	unused := min(float64(h.end-now)/float64(h.length), 1)
	part := func(cost int64) int64 { return int64(float64(cost) * unused) }
	b.total.give(part(h.total))
	b.buyers.give(h.buyer, part(h.buyer.cost))
	b.providers.give(h.provider, part(h.provider.cost))
	h.end = 0
	b.mu.Unlock()
	return true
}

// find returns what l stands for, or nil if that is over.
func (b *books) find(l Lease, now int64) *lease {
	lane, place := Lane(l.id>>laneShift), l.id&(1<<laneShift-1)
	if !lane.Valid() || place >= uint64(len(b.leases[lane-1].places)) {
		return nil
	}
	held := &b.leases[lane-1].places[place]
	if held.serial != uint32(l.id>>serialShift) || held.end <= now {
		return nil
	}
	return held
}
