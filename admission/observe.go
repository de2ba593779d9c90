package admission

import "time"

// ObserveConsumerFee is [Controller.ObserveConsumerFeeAt] at the time that the
// clock tells.
func (c *Controller) ObserveConsumerFee(fee uint64) { c.observeFee(fee, c.now()) }

// ObserveConsumerFeeAt reports the fee that a consumer paid. Whoever settles
// consumers' jobs calls it for each.
func (c *Controller) ObserveConsumerFeeAt(fee uint64, now time.Time) { c.observeFee(fee, c.at(now)) }

func (c *Controller) observeFee(fee uint64, now int64) { c.signals.observeFee(fee, now) }

// ObserveCapacity is [Controller.ObserveCapacityAt] at the time that the clock
// tells.
func (c *Controller) ObserveCapacity(shards uint64) { c.observeCapacity(shards, c.now()) }

// ObserveCapacityAt reports how many shards the market has in all, leased or not.
// More than [MaxShards] count as MaxShards. Call it more often than every
// [Options.CapacityAge], or the signal gets stale. How the reports become an
// estimate is told at [Options.CapacityWindow].
func (c *Controller) ObserveCapacityAt(shards uint64, now time.Time) {
	c.observeCapacity(shards, c.at(now))
}

func (c *Controller) observeCapacity(shards uint64, now int64) {
	c.signals.observeCapacity(min(shards, MaxShards), now)
}

// SetComfortThreshold is [Controller.SetComfortThresholdAt] at the time that the
// clock tells.
func (c *Controller) SetComfortThreshold(fee uint64) { c.setThreshold(fee, c.now()) }

// SetComfortThresholdAt changes [Options.ComfortThreshold]. Zero removes the
// guard.
func (c *Controller) SetComfortThresholdAt(fee uint64, now time.Time) {
	c.setThreshold(fee, c.at(now))
}

func (c *Controller) setThreshold(fee uint64, now int64) { c.signals.setThreshold(fee, now) }
