package admission

import (
	"fmt"
	"math/bits"
	"slices"
	"time"
)

// Limits of one request. What exceeds them is [Invalid].
const (
	MaxID       = 256                 // bytes of a job id, buyer or provider
	MaxShards   = 1<<32 - 1           // shards of one job
	MaxDuration = 30 * 24 * time.Hour // of one job, and so of one lease
)

// Request is what a job asks for. Duration and Demand say the same thing in two
// ways; exactly one of them is set.
type Request struct {
	JobID    string
	Buyer    string
	Provider string
	Lane     Lane
	Shards   uint64        // held at the same time
	Duration time.Duration // how long the shards are held
	Demand   uint64        // micro-shard-seconds; held for Demand/Shards microseconds
}

// Validate returns what makes r [Invalid]: [ErrLane], [ErrID] or [ErrDemand], or
// nil. A controller does so by itself.
func (r *Request) Validate() error {
	_, f := r.check()
	return faults[f]
}

// Decision answers a [Request]. The zero Decision admits nothing.
type Decision struct {
	Code Code
	Mode Mode // of the controller when it decided

	// RetryAfter is the earliest moment at which the cause of the refusal can be
	// gone if nothing else happens. Zero means that trying the same request
	// again does not help (Invalid, TooLarge), or that it was admitted.
	RetryAfter time.Duration

	// Lease is what the admitted job holds, to be given to
	// [Controller.Release] when it ends early. Refusals carry the zero Lease.
	Lease Lease
}

// Code says why. Its text is stable and meant for users.
type Code uint8

const (
	Invalid         Code = iota // the request is malformed; [Request.Validate] says how
	Admitted                    // go ahead
	DeferredTight               // consumer fees are uncomfortable; industry waits for its turn
	Brownout                    // capacity is under its minimum; industry waits
	Capacity                    // too few free shards now
	TooLarge                    // more than the estimated capacity can ever admit at once
	BuyerShare                  // the buyer used its share and nothing is left to borrow
	ProviderShare               // the provider used its share and nothing is left to borrow
	BurstExhausted              // all tenants together used up capacity and burst
	StaleSignal                 // nobody has reported capacity recently; industry waits
	LeasesExhausted             // the lane's places for leases are all taken, see [Options.Leases]
	codes           = iota
)

var codeText = [codes]string{
	"invalid", "admitted", "deferred_tight", "brownout", "capacity", "too_large",
	"buyer_share", "provider_share", "burst_exhausted", "stale_signal",
	"leases_exhausted",
}

// String returns the stable text, such as "buyer_share".
func (c Code) String() string {
	if int(c) < len(codeText) {
		return codeText[c]
	}
	return fmt.Sprintf("code(%d)", uint8(c))
}

// MarshalText implements [encoding.TextMarshaler] with the text of String.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It returns [ErrText] for
// a text that names no code, and leaves c alone.
func (c *Code) UnmarshalText(text []byte) error {
	i := slices.Index(codeText[:], string(text))
	if i < 0 {
		return fmt.Errorf("%w: code %q", ErrText, text)
	}
	*c = Code(i)
	return nil
}

// plain reports whether check would return r.Duration, for requests as they
// usually are; for unusual ones it may say no.
func (r *Request) plain() bool {
	// As MaxID is a power of two, one of three is at least that if their OR is.
	ids := uint(len(r.JobID)-1) | uint(len(r.Buyer)-1) | uint(len(r.Provider)-1)
	return ids < MaxID && r.Lane.Valid() && r.Demand == 0 &&
		r.Shards-1 < usualShards && uint64(r.Duration-1) < usualDuration
}

// Their product is a demand that fits 64 bits of micro-shard-seconds.
const usualShards, usualDuration = 1 << 22, 1 << 51 // 26 days

// check returns for how many nanoseconds the shards are held, or why r is
// malformed.
func (r *Request) check() (int64, flaw) {
	switch {
	case !r.Lane.Valid():
		return 0, noLane
	case uint(len(r.JobID)-1) >= MaxID:
		return 0, badJobID
	case uint(len(r.Buyer)-1) >= MaxID:
		return 0, badBuyer
	case uint(len(r.Provider)-1) >= MaxID:
		return 0, badProvider
	case r.Shards == 0:
		return 0, noShards
	case r.Shards > MaxShards:
		return 0, overflow
	case r.Demand != 0:
		return r.checkDemand()
	case r.Duration == 0:
		return 0, nothing
	case r.Duration < 0:
		return 0, negative
	case r.Duration > MaxDuration:
		return 0, overflow
	}
	if hi, _ := bits.Mul64(r.Shards, uint64(r.Duration)); hi >= 1000 {
		return 0, overflow // the demand does not fit 64 bits of micro-shard-seconds
	}
	return int64(r.Duration), wellFormed
}

func (r *Request) checkDemand() (int64, flaw) {
	if r.Duration != 0 {
		return 0, both
	}
	// Nanoseconds, rounded up: a demand is never held for less than it needs.
	hi, lo := bits.Mul64(r.Demand, 1000)
	if hi >= r.Shards {
		return 0, overflow
	}
	ns, rest := bits.Div64(hi, lo, r.Shards)
	if rest > 0 {
		ns++
	}
	if ns > uint64(MaxDuration) {
		return 0, overflow
	}
	return int64(ns), wellFormed
}
