package priceboard

import (
	"fmt"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Bands are the quartiles of the prices in the window.
type Bands struct {
	P25, Median, P75 uint64
	N                int // prices in the window
}

// Offer is a price and what the caller knows about it.
type Offer struct {
	Price uint64

	// Party is who made the offer, in any form that is the same each time. It
	// matters with [Options.MaxPerParty] only.
	Party string

	// Derived marks a price that was made from this board's own bands. It is
	// not recorded: the bands must not follow themselves.
	Derived bool
}

// Board is a sliding window of prices. Make one with [New] or [Open]; the zero
// Board is what New(nil) makes. All its methods are safe for concurrent use.
type Board struct {
	shown atomic.Pointer[published] // nil until init; written under mu, read without

	mu      sync.Mutex
	opts    Options // with defaults after init, and constant
	prices  *sorted // the window in ascending order; nil until init
	queue   queue   // the window in order of arrival
	ring    *ring   // queue, if it is one
	changes uint64  // how often the window has changed

	keeper // saving.go
}

// queue is a window in order of arrival: a ring, or a roster if the board limits
// what one party may hold.
type queue interface {
	// push puts in a price. If one had to leave for it, push returns that one
	// and true.
	push(price uint64, party string) (left uint64, full bool)
	// restore is push for a price whose party is not known.
	restore(price uint64)
	// appendTo appends the prices to dst, oldest first.
	appendTo(dst []uint64) []uint64
	// appendParties appends the parties of the newest prices to dst, oldest
	// first, as far back as they are known.
	appendParties(dst []string) []string
	reset()
}

// New returns an empty board that lives in memory; nil options take the
// defaults.
//
// Possible errors: [ErrOptions].
func New(opts *Options) (*Board, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	b := new(Board)
	b.init(o)
	return b, nil
}

// init makes b ready with options that are checked. b is new, or the caller holds
// mu.
func (b *Board) init(o Options) {
	b.opts, b.prices, b.keeper = o, newSorted(o.Window), newKeeper()
	if o.MaxPerParty > 0 {
		b.queue = newRoster(o.Window, o.MaxPerParty)
	} else {
		b.ring = newRing(o.Window)
		b.queue = b.ring
	}
	b.shown.Store(new(published)) // last: who sees it sees the options
}

// ready makes the zero Board one. The caller holds mu.
func (b *Board) ready() {
	if b.prices == nil {
		o, _ := (*Options)(nil).withDefaults()
		b.init(o)
	}
}

// Record adds a price that nothing more is known about. Any uint64 is a price.
func (b *Board) Record(price uint64) { b.record(price, "") }

// RecordOffer adds the price of an offer, unless it is derived.
func (b *Board) RecordOffer(o Offer) {
	if !o.Derived {
		b.record(o.Price, o.Party)
	}
}

func (b *Board) record(price uint64, party string) {
	b.mu.Lock()
	if b.prices == nil {
		b.ready()
	}
	var left uint64
	var full bool
	if b.ring != nil { // the usual case, without the cost of an interface
		left, full = b.ring.push(price, party)
	} else {
		left, full = b.queue.push(price, party)
	}
	if full {
		b.prices.replace(left, price)
	} else {
		b.prices.add(price)
	}
	b.changes++
	b.shown.Load().set(b.prices.n, &b.prices.values)
	b.mu.Unlock()
}

// Bands returns the bands as the last completed Record left them. ok is false,
// and the prices are zero, while the window holds fewer than
// [Options.MinSamples] prices; N is set in any case.
//
// Bands takes no lock, allocates nothing and does not wait for writers.
func (b *Board) Bands() (bands Bands, ok bool) {
	shown := b.shown.Load()
	if shown == nil {
		return Bands{}, false
	}
	n, p25, median, p75 := shown.get()
	if n < b.opts.MinSamples {
		return Bands{N: n}, false
	}
	return Bands{p25, median, p75, n}, true
}

// Quantile returns the price at index floor(n·q) of the n sorted prices, and the
// highest at q = 1. q counts as the decimal it is written as: 0.29 of 100 prices
// is index 29, though the nearest float64 is a little less. It takes the board's
// lock, and the time grows with the window: a few microseconds at a million
// prices.
//
// Possible errors: [ErrQuantile], [ErrNoBands].
func (b *Board) Quantile(q float64) (uint64, error) {
	if !(q >= 0 && q <= 1) { // so NaN is refused too
		return 0, fmt.Errorf("%w: %v", ErrQuantile, q)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready()
	if b.prices.n < b.opts.MinSamples {
		return 0, fmt.Errorf("%w: %d of %d", ErrNoBands, b.prices.n, b.opts.MinSamples)
	}
	return b.prices.at(decimalRank(b.prices.n, q)), nil
}

// BacklogAdjustedBid returns median × (1 + backlog/window), rounded up, where
// backlog is the number of jobs waiting and window is [Options.Window]: with a
// window's worth of jobs waiting, the bid is twice the median. A bid beyond
// uint64 is the largest uint64. ok is false when there are no bands.
func (b *Board) BacklogAdjustedBid(backlog uint64) (bid uint64, ok bool) {
	bands, ok := b.Bands()
	if !ok {
		return 0, false
	}
	window := uint64(b.opts.Window)
	hi, lo := bits.Mul64(bands.Median, backlog)
	lo, carry := bits.Add64(lo, window-1, 0) // rounds up
	hi += carry
	if hi >= window {
		return math.MaxUint64, true
	}
	extra, _ := bits.Div64(hi, lo, window)
	bid, carry = bits.Add64(bands.Median, extra, 0)
	if carry > 0 {
		return math.MaxUint64, true
	}
	return bid, true
}

// Reset empties the window. There are no bands until prices are recorded again.
func (b *Board) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready()
	b.prices.reset()
	b.queue.reset()
	b.changes++
	b.shown.Load().set(0, &b.prices.values)
}
