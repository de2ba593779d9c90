package admission

import (
	"fmt"
	"log/slog"
	"time"
)

// Clock tells the time. Readings with a monotonic part, as those of [time.Now],
// make the controller immune to a wall clock that is set.
type Clock interface{ Now() time.Time }

// Options says how a [Controller] decides. A nil *Options and a zero field mean
// the defaults.
type Options struct {
	// Clock is read by the methods that take no time. Defaults to the system's monotonic
	// clock.
	Clock Clock

	// Logger gets one Info record per decision. Nil discards, and then nothing is
	// built for it.
	Logger *slog.Logger

	// ComfortThreshold is the consumer fee (comfort_threshold_p90) above which
	// industry is held back. Defaults to 0: no fee guard. See
	// [Controller.SetComfortThreshold].
	ComfortThreshold uint64

	// FeeQuantile is the quantile of consumer fees that is held against the
	// threshold, in (0, 1). Defaults to 0.5, as specified; 0.9 is the other usual
	// choice.
	FeeQuantile float64

	// FeeWindow is how many fees are looked at, at most 4096. Defaults to 50.
	FeeWindow int

	// FeeAge is how long a fee counts. Defaults to 5 minutes.
	FeeAge time.Duration

	// MinFees is how many fees it takes to judge; with fewer, fees are calm.
	// Defaults to 10, or FeeWindow if that is smaller.
	MinFees int

	// Dwell is the time between two switches of mode, except that brownout begins
	// at once. Defaults to 10 seconds.
	Dwell time.Duration

	// CapacityWindow is how many samples of capacity are looked at, at most 4096.
	// The estimate is the smaller of their exponentially weighted mean and a low
	// quantile, and lies between the lowest and the highest of them. So n shards
	// reported steadily make it exactly n, whatever was reported before and
	// whatever the weight: after CapacityWindow reports, or as soon as all reports
	// of the last CapacityAge say n. Defaults to 60.
	CapacityWindow int

	// CapacityAge is how long a sample of capacity counts. Without one the signal
	// is stale. Defaults to 30 seconds.
	CapacityAge time.Duration

	// CapacityQuantile is the low quantile that bounds the estimate, in (0, 1).
	// Defaults to 0.1.
	CapacityQuantile float64

	// CapacityWeight is the weight of a new sample in the exponentially weighted
	// mean, in (0, 1]: the larger, the sooner the mean follows. Defaults to 0.2.
	CapacityWeight float64

	// MinCapacity is how many shards there must be for industry to come in at all.
	// Defaults to 1.
	MinCapacity uint64

	// TenantShare is the cap of one buyer's or provider's share of capacity, in
	// (0, 1]. What others leave unused is lent beyond it. Defaults to 0.25.
	TenantShare float64

	// Burst is how far ahead of capacity all admitted work together may run, from
	// 10 milliseconds to 24 hours; one tenant runs half as far ahead of its share.
	// A job of more than capacity times Burst/2 is TooLarge. Defaults to 1 minute.
	Burst time.Duration

	// TrickleShare is the share of capacity that is guaranteed in tight to one
	// waiting buyer after the other, in (0, 1]. Defaults to 0.02.
	TrickleShare float64

	// TricklePeriod is how long a buyer's turn lasts, at least 1 second. Defaults
	// to 10 seconds.
	TricklePeriod time.Duration

	// Tenants is how many buyers, and as many providers, are told apart (about 64
	// bytes each, in powers of two), at most 2^24. Beyond that, those that
	// owe nothing are forgotten. Defaults to 16384.
	Tenants int

	// Leases is how many places for leases each lane has (64 bytes each, rounded up
	// to a power of two), at most 2^24. As it fills up, industry is refused with
	// Capacity, and consumers are admitted with the zero Lease. Defaults to 65536.
	Leases int
}

// withDefaults returns a checked copy of o with every field set.
func (o *Options) withDefaults() (*Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	def(&c.FeeQuantile, 0.5)
	def(&c.FeeWindow, 50)
	def(&c.FeeAge, 5*time.Minute)
	def(&c.MinFees, min(10, c.FeeWindow))
	def(&c.Dwell, 10*time.Second)
	def(&c.CapacityWindow, 60)
	def(&c.CapacityAge, 30*time.Second)
	def(&c.CapacityQuantile, 0.1)
	def(&c.CapacityWeight, 0.2)
	def(&c.MinCapacity, 1)
	def(&c.TenantShare, 0.25)
	def(&c.Burst, time.Minute)
	def(&c.TrickleShare, 0.02)
	def(&c.TricklePeriod, 10*time.Second)
	def(&c.Tenants, 1<<14)
	def(&c.Leases, 1<<16)

	for _, f := range []struct {
		name string
		ok   bool
	}{
		{"FeeQuantile", c.FeeQuantile > 0 && c.FeeQuantile < 1},
		{"FeeWindow", c.FeeWindow > 0 && c.FeeWindow <= 4096},
		{"FeeAge", c.FeeAge > 0 && c.FeeAge <= MaxDuration},
		{"MinFees", c.MinFees > 0 && c.MinFees <= c.FeeWindow},
		{"Dwell", c.Dwell > 0 && c.Dwell <= MaxDuration},
		{"CapacityWindow", c.CapacityWindow > 0 && c.CapacityWindow <= 4096},
		{"CapacityAge", c.CapacityAge > 0 && c.CapacityAge <= MaxDuration},
		{"CapacityQuantile", c.CapacityQuantile > 0 && c.CapacityQuantile < 1},
		{"CapacityWeight", c.CapacityWeight > 0 && c.CapacityWeight <= 1},
		{"MinCapacity", c.MinCapacity <= MaxShards},
		{"TenantShare", c.TenantShare > 0 && c.TenantShare <= 1},
		{"Burst", c.Burst >= 10*time.Millisecond && c.Burst <= 24*time.Hour},
		{"TrickleShare", c.TrickleShare > 0 && c.TrickleShare <= 1},
		{"TricklePeriod", c.TricklePeriod >= time.Second && c.TricklePeriod <= 24*time.Hour},
		{"Tenants", c.Tenants > 0 && c.Tenants <= 1<<24},
		{"Leases", c.Leases > 0 && c.Leases <= 1<<24},
	} {
		if !f.ok {
			return nil, fmt.Errorf("%w: %s is out of range", ErrOptions, f.name)
		}
	}
	return &c, nil
}

// def sets a zero field to its default.
func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
