package courier

import "time"

// Metrics hears what [Courier.Flush] does, from several goroutines at once.
// Package courierprom has one for Prometheus.
type Metrics interface {
	// Attempt: a receipt is about to be given to the forwarder.
	Attempt()
	// Failure: such an attempt failed, for now or for good.
	Failure()
	// Dead: a receipt was moved to the dead ones.
	Dead(Cause)
}

type noMetrics struct{}

func (noMetrics) Attempt()   {}
func (noMetrics) Failure()   {}
func (noMetrics) Dead(Cause) {}

// Clock tells the time for receipts. It may jump; nothing is ordered by it.
type Clock interface{ Now() time.Time }

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }
