package market

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/settlement/match"
)

// Options of [New]. The zero value and nil are ready to use: every match is final
// without work, and every receipt a dry run.
type Options struct {
	// Engine settles the receipts; a *settlement.Engine is one. Its mode decides
	// whether they are dry runs. Defaults to none: dry runs.
	Engine match.Engine
	// Work does the work of a match and returns its proof; [Local] makes one of a
	// workload.Runner. It is called from many goroutines, and again for the same
	// slice after a crash or a failure. An error that wraps match.ErrBadBid ends
	// the slice, one that wraps match.ErrBadAsk the offer; after any other the two
	// go back, to match again. Defaults to none: a match is final at once.
	Work func(ctx context.Context, t *Task) (Proof, error)
	// Contents keeps slices larger than [MaxInline]; a *courier.Dir is one.
	// Defaults to none: such slices are refused.
	Contents courier.Bundles
	// Admission is asked for each job, and told of the fees that consumers pay.
	// Defaults to none: every job is admitted.
	Admission *admission.Controller
	// Duration is how long a slice is expected to take at most: admission counts
	// its shard for so long. Defaults to one minute.
	Duration time.Duration

	// Limits bound what one account may have open.
	Limits Limits
	// MaxClasses is how many classes may have open orders at once. Defaults to
	// 1024.
	MaxClasses int
	// Parallel is how many matches of one class are worked on at once. Defaults to
	// 256: work mostly waits.
	Parallel int
	// ReturnAfter is how long a bid waits after a failure that ended neither order.
	// Defaults to one second.
	ReturnAfter time.Duration

	// OnTrade is told of each match whose receipt is durable, one at a time in each
	// class: be short. A price board is wired by it. Defaults to none.
	OnTrade func(Trade)
	// Clock dates orders and ends those that expire. Defaults to the system's.
	Clock Clock
	// Metrics are those of the match loops. Defaults to none.
	Metrics match.Metrics
	// Logger defaults to discarding.
	Logger *slog.Logger
}

// Limits bound what one account may have open. Zero fields have the defaults.
type Limits struct {
	// Orders in the books: a job counts one for each slice. Defaults to 16384.
	Orders int
	// Bytes of the slices of open jobs. Defaults to 1 GiB.
	Bytes int64
}

// Clock tells the time.
type Clock interface{ Now() time.Time }

// Trade is a match that is final.
type Trade struct {
	Bid, Ask        string // ids of the orders
	Buyer, Provider string
	Class           string
	Lane            admission.Lane
	Units, Price    uint64 // of one unit
	DryRun          bool
}

func (o *Options) withDefaults() (Options, error) {
	var d Options
	if o != nil {
		d = *o
	}
	d.Duration = cmp.Or(d.Duration, time.Minute)
	d.Limits.Orders = cmp.Or(d.Limits.Orders, 16384)
	d.Limits.Bytes = cmp.Or(d.Limits.Bytes, 1<<30)
	d.MaxClasses = cmp.Or(d.MaxClasses, 1024)
	d.Parallel = cmp.Or(d.Parallel, 256)
	if d.Clock == nil {
		d.Clock = wallClock{}
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case d.Duration < 0 || d.Duration > admission.MaxDuration:
		return d, fmt.Errorf("market: %w: a duration of %v", ErrOptions, d.Duration)
	case d.Limits.Orders < 0 || d.Limits.Bytes < 0 || d.MaxClasses < 0:
		return d, fmt.Errorf("market: %w: a negative limit", ErrOptions)
	}
	// What the loops take is theirs to check.
	_, err := match.NewLoop(mustBook(), noLog{}, d.loop(nil))
	if err != nil {
		return d, fmt.Errorf("market: %w: %w", ErrOptions, err)
	}
	return d, nil
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }
