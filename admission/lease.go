package admission

// Invariant: a lease is found by at most one release, and by none past its
// deadline.

// Lease is a handle on what an admitted job holds: its shards until now+duration,
// and its claims on the shares it was charged to. Copies are the same lease. The
// zero Lease holds nothing. A lease means something only to its controller.
type Lease struct {
	// serial, 32 bits, then lane, 8 bits, then place, 24 bits.
	id uint64
}

const laneShift, serialShift = 24, 32

func newLease(lane Lane, place, serial uint32) Lease {
	return Lease{uint64(serial)<<serialShift | uint64(lane)<<laneShift | uint64(place)}
}

// leases is the fixed table of one lane. A place is free when it has no end or
// the end has passed, so that lost leases need no sweeping.
type leases struct {
	places []lease
	next   uint32 // where to look first
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

const probes = 32

func newLeases(n int) leases {
	size := probes
	for size < n {
		size *= 2
	}
	return leases{places: make([]lease, size)}
}

// find returns a free place, or false if all places it looked at are taken. It
// looks in turn, so that leases of like length leave free what comes next.
func (ls *leases) find(now int64) (place uint32, ok bool) {
	for range probes {
		place = ls.next & uint32(len(ls.places)-1)
		ls.next++
		if ls.places[place].end <= now {
			return place, true
		}
	}
	return 0, false
}
