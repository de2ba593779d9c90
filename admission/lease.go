package admission

// Invariant: a lease is found by at most one release, and by none past its
// deadline. A place is free, or stands in one list of the wheel: none is lost,
// and none is given away twice.

// Lease is a handle on what an admitted job holds: its shards until now+duration,
// and its claims on the shares it was charged to. Copies are the same lease. The
// zero Lease holds nothing. A lease means something only to its controller.
type Lease struct {
	// serial, 32 bits, then lane, 4 bits, then place, 28 bits.
	id uint64
}

const laneShift, serialShift = 28, 32

func newLease(lane Lane, place, serial uint32) Lease {
	return Lease{uint64(serial)<<serialShift | uint64(lane)<<laneShift | uint64(place)}
}

// place returns the table of l and the place in it. For the zero Lease it is one
// that is never held.
func (l Lease) place() (lane uint, at uint32) {
	return uint(l.id>>laneShift-1) % uint(len(Lanes)), uint32(l.id & (1<<laneShift - 1))
}

// leases is the fixed table of one lane.
type leases struct {
	places []lease // the first stands for none
	links  []link  // of the list in which a place stands
	used   uint32  // places behind it were never taken
	free   list    // places that came back, in their order
}

// lease is one cache line.
type lease struct {
	end      int64
	length   int64
	shards   uint32
	serial   uint32 // of the lease that was here last; never 0 when in use
	total    int64  // charged to all together
	buyer    claim
	provider claim
}

type link struct{ before, after uint32 }

// list is a chain of places. The zero list is empty.
type list struct{ first, last uint32 }

func newLeases(n int) leases {
	return leases{places: make([]lease, n+1), links: make([]link, n+1)}
}

// find returns what l, whose place is at, stands for, or nil if that is over.
func (ls *leases) find(l Lease, at uint32, now int64) *lease {
	if int(at) >= len(ls.places) {
		return nil // of another controller
	}
	if h := &ls.places[at]; h.serial == uint32(l.id>>serialShift) && h.end > now {
		return h
	}
	return nil
}

// any reports whether a place is free.
func (ls *leases) any() bool { return ls.free.first != 0 || int(ls.used) < len(ls.places)-1 }

// take returns a free place, or 0 if there is none. Places that are in use again
// and again stay in the cache; but the first few are all used before, and then the
// one that is free for the longest time, so that serial numbers last.
func (ls *leases) take() uint32 {
	place := ls.free.first
	if place == 0 || ls.used < few {
		if int(ls.used) < len(ls.places)-1 {
			ls.used++
			return ls.used
		}
		if place == 0 {
			return 0
		}
	}
	if ls.free.first = ls.links[place].after; ls.free.first == 0 {
		ls.free.last = 0
	}
	return place
}

const few = 256

// append puts a place at the end of l.
func (ls *leases) append(l *list, place uint32) {
	ls.links[place] = link{before: l.last}
	if l.last == 0 {
		l.first = place
	} else {
		ls.links[l.last].after = place
	}
	l.last = place
}

// remove takes a place out of l.
func (ls *leases) remove(l *list, place uint32) {
	at := ls.links[place]
	if at.before == 0 {
		l.first = at.after
	} else {
		ls.links[at.before].after = at.after
	}
	if at.after == 0 {
		l.last = at.before
	} else {
		ls.links[at.after].before = at.before
	}
}

// join frees all places of l.
func (ls *leases) join(l *list) {
	if l.first == 0 {
		return
	}
	if ls.free.last == 0 {
		ls.free.first = l.first
	} else {
		ls.links[ls.free.last].after = l.first
	}
	ls.free.last = l.last
}
