package admission

// Invariant: a refusal names what keeps the job out at that moment, and the first
// moment at which nothing of that kind would, if until then nobody asks, releases
// or reports.

// refuse says why a job does not fit under the marks, and when it would.
func (b *books) refuse(j *job, now int64, buyer, provider uint32, held, ahead int64) (code Code, until int64) {
	code = b.why(j, now, buyer, provider, held, ahead)
	if j.tight {
		b.turns.pass(&b.buyers.records[buyer], now)
	}
	b.refused[Industrial-1][code]++
	return code, b.when(j, now, buyer, provider)
}

func (b *books) why(j *job, now int64, buyer, provider uint32, held, ahead int64) Code {
	share := Admitted // the code of a share that the job is not within
	if !b.providers.within(&b.providers.records[provider], now, j.ofProvider) {
		share = ProviderShare
	}
	if !b.buyers.within(&b.buyers.records[buyer], now, j.ofBuyer) {
		share = BuyerShare
	}
	missing := b.held() + j.shards - held
	switch {
	case missing > j.capacity-held:
		if share == Admitted {
			b.note(now, &b.buyers.records[buyer])
		}
		return Capacity
	case share != Admitted && (missing > 0 || b.total.wait(now, j.cost, ahead) > 0):
		return share
	case b.total.wait(now, j.cost, ahead) > 0:
		return BurstExhausted
	}
	return LeasesExhausted
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
func (b *books) when(j *job, now int64, buyer, provider uint32) int64 {
	free := now
	if ls := &b.leases[Industrial-1]; !ls.any() {
		free = b.wheel.placeAt(int(Industrial-1), now)
	}
	for from := now; ; {
		at, until := max(free, b.fits(j, now, from, buyer, provider)), b.change(from)
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

// fits returns when from on shards and burst have room for the job, under the
// marks for who is within both shares, one, or none, whatever comes first.
func (b *books) fits(j *job, now, from int64, buyer, provider uint32) int64 {
	one := b.buyers.withinAt(&b.buyers.records[buyer], b.buyers.scaleBy(j.cost, b.buyers.factorAt(from)))
	both := b.providers.withinAt(&b.providers.records[provider], b.providers.scaleBy(j.cost, b.providers.factorAt(from)))
	one, both = min(one, both), max(one, both)
	// What comes later, or has less room from now on, need not be looked at.
	first := b.under(j, now, max(from, both), 0, from)
	if one < first && both > from {
		first = min(first, b.under(j, now, max(from, one), 1, from))
	}
	if from < first && one > from {
		first = min(first, b.under(j, now, from, 2, from))
	}
	return first
}

// under returns when from start on the job fits under the marks for who is over
// so many shares, as the marks are at from.
func (b *books) under(j *job, now, start, over, from int64) int64 {
	held, ahead := b.marks(j, over, b.buyers.activeAt(from) > 1 || from < b.wanted)
	return max(start, b.total.tat+j.cost-ahead, b.wheel.freeAt(b.held()+j.shards-held, now))
}
