package admission

// Invariant: a refusal names what keeps the job out at that moment, and the first
// moment at which it would come in, if until then nobody asks, releases or reports.

// refuse says why a job does not fit under the marks, and when it would.
func (b *books) refuse(j *job, now int64, buyer, provider *record, held, ahead int64) (code Code, until int64) {
	ofBuyer, ofProvider := b.buyers.withinAt(buyer, j.ofBuyer), b.providers.withinAt(provider, j.ofProvider)
	code = BurstExhausted
	if ofProvider > now {
		code = ProviderShare
	}
	if ofBuyer > now {
		code = BuyerShare
	}
	missing := b.held() + j.shards - held
	switch {
	case missing > j.capacity-held: // even for who is within its shares
		if code == BurstExhausted {
			b.note(now, buyer)
		}
		code = Capacity
	case missing <= 0 && b.total.wait(now, j.cost, ahead) <= 0:
		code = LeasesExhausted
	}
	if j.tight {
		b.turns.pass(buyer, now)
	}
	b.refused[Industrial-1][code]++
	until = b.fits(j, now, now, ofBuyer, ofProvider, b.contended(now))
	if b.change(now) <= until || !b.leases[Industrial-1].any() {
		until = b.when(j, now, buyer, provider)
	}
	return code, until
}

// note remembers for half a burst that a newcomer within its shares found no free
// shards: someone who waits is not active yet.
func (b *books) note(now int64, buyer *record) {
	if b.buyers.idle(buyer) {
		b.wanted = max(b.wanted, now+b.burst/2)
	}
}

// when returns the first moment at which a job that was refused now would be
// admitted. Shares and marks change only when an epoch ends or wanted has passed:
// so it looks at one stretch of time after the other in which they do not.
func (b *books) when(j *job, now int64, buyer, provider *record) int64 {
	place := now
	if !b.leases[Industrial-1].any() {
		place = b.wheel.placeAt(int(Industrial-1), now)
	}
	for from := now; ; {
		ofBuyer := b.buyers.withinAt(buyer, b.buyers.scaleBy(j.cost, b.buyers.factorAt(from)))
		ofProvider := b.providers.withinAt(provider, b.providers.scaleBy(j.cost, b.providers.factorAt(from)))
		contended := b.buyers.activeAt(from) > 1 || from < b.wanted
		at := max(place, b.fits(j, now, from, ofBuyer, ofProvider, contended))
		until := b.change(from)
		if at < until || until == never {
			return at
		}
		from = until
	}
}

// change returns when shares or marks change next, or never. Both tables have the
// same epochs.
func (b *books) change(now int64) int64 {
	at := int64(never)
	if now < b.wanted {
		at = b.wanted
	}
	switch t := &b.buyers; {
	case now < t.ends:
		at = min(at, t.ends)
	case now < t.ends+t.length:
		at = min(at, t.ends+t.length)
	}
	return at
}

// fits returns when from on shards and burst have room for a job that is within
// the buyer's share from ofBuyer on and within the provider's from ofProvider on.
// It may come in before that, under lower marks: those are tried first, and higher
// ones only if they begin before the answer.
func (b *books) fits(j *job, now, from, ofBuyer, ofProvider int64, contended bool) int64 {
	within := max(from, ofBuyer, ofProvider)
	borrowed := max(from, min(ofBuyer, ofProvider)) // from then on over one share at most
	first := int64(never)
	if from < borrowed {
		first = b.fitsUnder(j, now, from, 2, contended)
	}
	if borrowed < min(within, first) {
		first = min(first, b.fitsUnder(j, now, borrowed, 1, contended))
	}
	if within < first {
		first = min(first, b.fitsUnder(j, now, within, 0, contended))
	}
	return first
}

// fitsUnder returns when from start on there is room under the marks for a job
// that is over so many of its shares.
func (b *books) fitsUnder(j *job, now, start, over int64, contended bool) int64 {
	held, ahead := b.marks(j, over, contended)
	at := max(start, b.total.tat+j.cost-ahead)
	if missing := b.held() + j.shards - held; missing > 0 {
		at = max(at, b.wheel.freeAt(missing, now))
	}
	return at
}
