package admission

import (
	"fmt"
	"math/bits"
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

	// Err says what is wrong with an Invalid request: [ErrLane], [ErrID] or
	// [ErrDemand]. It is nil for every other code.
	Err error
}

// Code says why. Its text is stable and meant for users.
type Code uint8

const (
	Invalid        Code = iota // the request is malformed; see Decision.Err
	Admitted                   // go ahead
	DeferredTight              // consumer fees are uncomfortable; industry waits for its turn
	Brownout                   // capacity is under its minimum; industry waits
	Capacity                   // too few free shards now, or no place for a lease
	TooLarge                   // more than the estimated capacity can ever admit at once
	BuyerShare                 // the buyer used its share and nothing is left to borrow
	ProviderShare              // the provider used its share and nothing is left to borrow
	BurstExhausted             // all tenants together used up capacity and burst
	StaleSignal                // nobody has reported capacity recently; industry waits
	codes          = iota
)

var codeText = [codes]string{
	"invalid", "admitted", "deferred_tight", "brownout", "capacity", "too_large",
	"buyer_share", "provider_share", "burst_exhausted", "stale_signal",
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

// check returns why r is malformed, or how long its shards are held.
func (r *Request) check() (time.Duration, error) {
	switch {
	case !r.Lane.Valid():
		return 0, errLane
	case uint(len(r.JobID)-1) >= MaxID:
		return 0, errJobID
	case uint(len(r.Buyer)-1) >= MaxID:
		return 0, errBuyer
	case uint(len(r.Provider)-1) >= MaxID:
		return 0, errProvider
	case r.Shards == 0:
		return 0, errShards
	case r.Shards > MaxShards:
		return 0, errOverflow
	case r.Demand == 0:
		return r.hold()
	case r.Duration != 0:
		return 0, errBoth
	}
	// Nanoseconds, rounded up: a demand is never held for less than it needs.
	hi, lo := bits.Mul64(r.Demand, 1000)
	if hi >= r.Shards {
		return 0, errOverflow
	}
	ns, rest := bits.Div64(hi, lo, r.Shards)
	if rest > 0 {
		ns++
	}
	if ns > uint64(MaxDuration) {
		return 0, errOverflow
	}
	return time.Duration(ns), nil
}

func (r *Request) hold() (time.Duration, error) {
	switch {
	case r.Duration == 0:
		return 0, errNothing
	case r.Duration < 0:
		return 0, errNegative
	case r.Duration > MaxDuration:
		return 0, errOverflow
	}
	if hi, _ := bits.Mul64(r.Shards, uint64(r.Duration)); hi >= 1000 {
		return 0, errOverflow // the demand does not fit 64 bits of micro-shard-seconds
	}
	return r.Duration, nil
}
