package settlement

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Clock tells the time.
type Clock interface{ Now() time.Time }

// Metrics is told of what an operator should see. Implementations are safe for
// concurrent use.
type Metrics interface {
	// Applied: n receipts moved credits. Receipts that had moved them before are
	// not among them.
	Applied(n int)
	// Failed: a receipt went into the archive.
	Failed(reason Reason)
	// ModeChanged: the engine is in another mode.
	ModeChanged(to Mode)
}

// FailurePolicy is what an engine does when a receipt cannot be settled.
type FailurePolicy uint8

const (
	// RevertToDryRun archives the receipt and stops: the engine is in DryRun,
	// and what is owed stays owed until it is Real again.
	RevertToDryRun FailurePolicy = iota
	// Quarantine archives the receipt and goes on, so that one poor buyer cannot
	// stop the market.
	Quarantine
)

// Options of [Open]. The zero value and nil are ready to use.
type Options struct {
	// Start arms an engine that leads for the first time ever, as Arm would: with
	// After(0) the market is Real from the first receipt. It does nothing to an
	// engine that was Armed or Real before, so that a restart brings no market
	// back that has stopped for a reason. Defaults to none: DryRun until Arm.
	Start Activation
	// Leading is what runs only where the engine leads: a match loop, for
	// example, whose receipts say whether they are dry runs. Run calls it when it
	// has the lead, beside settling. Its ctx ends when the lead is lost or Run is
	// to end, and Run waits for its return. An error before that ends Run.
	// Defaults to nothing.
	Leading func(ctx context.Context) error
	// Policy defaults to RevertToDryRun.
	Policy FailurePolicy
	// Interval is how often Run looks for what is owed without being woken. An
	// armed engine looks more often, and one whose lease has a term at least
	// four times in it. Defaults to one second.
	Interval time.Duration
	// BatchSize is how many receipts are posted to the ledger at once. Defaults
	// to 8192.
	BatchSize int
	// Clock measures the delay of After and dates failures. Defaults to time.Now,
	// whose differences a change of the wall clock does not touch. Of a clock
	// without monotonic readings a step of more than a minute between two looks
	// counts only as far as real time has passed too, and so do steps that make good
	// a step back of more than that.
	Clock Clock
	// Logger hears of failures and changes of mode. Defaults to discarding.
	Logger *slog.Logger
	// Metrics defaults to none.
	Metrics Metrics
}

func (o *Options) withDefaults() (Options, error) {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Interval == 0 {
		d.Interval = time.Second
	}
	if d.BatchSize == 0 {
		d.BatchSize = 8192
	}
	if d.Clock == nil {
		d.Clock = wallClock{}
	}
	if d.Leading == nil {
		d.Leading = func(context.Context) error { return nil }
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.Metrics == nil {
		d.Metrics = noMetrics{}
	}
	switch {
	case d.Policy > Quarantine:
		return d, fmt.Errorf("%w: policy %d", ErrOptions, d.Policy)
	case d.Interval < 0:
		return d, fmt.Errorf("%w: interval %v", ErrOptions, d.Interval)
	case d.BatchSize < 0:
		return d, fmt.Errorf("%w: batch size %d", ErrOptions, d.BatchSize)
	case !d.Start.IsZero() && d.Start.check(0) != nil:
		return d, fmt.Errorf("%w: start: %w", ErrOptions, d.Start.check(0))
	}
	return d, nil
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

type noMetrics struct{}

func (noMetrics) Applied(int)      {}
func (noMetrics) Failed(Reason)    {}
func (noMetrics) ModeChanged(Mode) {}
