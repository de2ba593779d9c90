package priceboard

import "sync/atomic"

// countBits is how much of the head word is the number of prices; MaxWindow
// fits. The bits above it count publications.
const countBits = 30

// published hands the bands from the writers, one at a time under the board's
// lock, to readers that take no lock. It is a sequence lock with two slots: the
// writer fills the slot that nobody is sent to, then turns the head to it, so a
// writer that stops half-way makes no reader wait. A reader that finds the head
// moved meanwhile may have read a slot being filled, and reads again.
//
// Every word is atomic, so this is no data race and the race detector agrees.
// All of it is one cache line, which is all that moves between processors.
type published struct {
	head atomic.Uint64 // publication<<countBits | number of prices
	slot [2][3]atomic.Uint64
	_    uint64 // 64 bytes in all, so the allocator aligns it to a cache line
}

// set publishes values over n prices. The caller holds the board's lock.
func (p *published) set(n int, values *[3]uint64) {
	head := p.head.Load()
	current, next := &p.slot[head>>countBits&1], &p.slot[head>>countBits&1^1]
	if head&(1<<countBits-1) == uint64(n) && current[0].Load() == values[0] &&
		current[1].Load() == values[1] && current[2].Load() == values[2] {
		return
	}
	for i := range next {
		next[i].Store(values[i])
	}
	p.head.Store((head>>countBits+1)<<countBits | uint64(n))
}

// get returns what was published last.
func (p *published) get() (n int, p25, median, p75 uint64) {
	for {
		head := p.head.Load()
		s := &p.slot[head>>countBits&1]
		p25, median, p75 = s[0].Load(), s[1].Load(), s[2].Load()
		if p.head.Load() == head {
			return int(head & (1<<countBits - 1)), p25, median, p75
		}
	}
}
