package match

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
)

// Log is where receipts become durable. A receipt.Store is one, and its
// contract is what counts here: all statuses returned are durable, and with an
// error but no statuses the receipts may or may not have been recorded.
type Log interface {
	Append(ctx context.Context, receipts []receipt.Receipt) ([]receipt.Status, error)
}

// Engine is what the loop needs of a *settlement.Engine. Both methods are safe
// for concurrent use and return at once.
type Engine interface {
	Mode() settlement.Mode
	// Wake tells the engine that the log has grown.
	Wake()
}

// Clock tells the time. Nothing but expiry, delays, the age of orders and a
// receipt's IssuedAt depends on it. Expiry follows its wall clock, wherever that
// is set; delays follow the time that passes by it. For these a step of more than
// a minute, or one that only makes good a step back, counts no further than time
// passes by the process's own clock, unless the readings are monotonic: a clock
// that is set makes nothing early and nothing late. A clock that is moved by hand
// is moved in steps of a minute at most. The Loop looks at it once a second at
// least while anything waits for it. A year before 1 or after 9999, which no
// receipt can hold, is a reading that failed.
type Clock interface {
	Now() time.Time
}

// Metrics is told what an operator should know. Implementations are safe for
// concurrent use.
type Metrics interface {
	// Matched: a match became final, and its receipt durable, so long after it
	// was proposed.
	Matched(dryRun bool, took time.Duration)

	// PersistFailed: an append to the log failed, or refused one receipt.
	PersistFailed()
}

// FailurePolicy says what becomes of the bid when its match is not final.
type FailurePolicy uint8

const (
	// ReturnBid puts the units back where they were, and has the whole bid wait
	// for [LoopOptions.ReturnAfter].
	ReturnBid FailurePolicy = iota
	// DropBid cancels the bid, as if every failure were an [ErrBadBid].
	DropBid
)

// LoopOptions tune a [Loop]. The zero value is ready to use: every match is
// final at once, and every receipt a dry run.
type LoopOptions struct {
	// Finalize runs the work of a match, verifies it, and returns nil if the
	// match is final. It is called from many goroutines, for the lanes' matches
	// in turn. When its ctx ends, the node is shutting down: return soon; after
	// an error the orders are as if they had never met. An error that wraps
	// [ErrBadBid] or [ErrBadAsk] drops that order. A panic is caught, and is
	// that match's failure, see [PanicError]; so are a runtime.Goexit and an
	// error value that cannot be asked for its text. Defaults to nil: no work.
	Finalize func(ctx context.Context, m Match) error

	// Parallel is the most Finalize calls at a time, up to 1<<20. Defaults to
	// GOMAXPROCS.
	Parallel int

	// Batch is the most receipts in one append, up to 1<<20. While as many wait
	// for the log, nothing new is proposed. Defaults to 1024.
	Batch int

	// OnFailure says what becomes of the bid when Finalize fails. The ask
	// always goes back. Defaults to ReturnBid.
	OnFailure FailurePolicy

	// ReturnAfter is how long a returned bid waits, so that two orders that
	// fail together do not do so in a tight loop. All of the bid waits, not only
	// the units that failed. It does not wait if the ask was dropped, since the
	// two cannot meet again. Defaults to 1 s.
	ReturnAfter time.Duration

	// IndustrialEvery is how often industry has its turn while consumers could
	// take everything: one match in so many, up to 1<<20. Defaults to 8.
	IndustrialEvery int

	// StarveAfter is how long a lane that could match may get nothing before
	// the loop warns. Defaults to 1 min.
	StarveAfter time.Duration

	// RetryMin and RetryMax bound the pause after a failed append; it doubles
	// from one to the other. An engine that cannot tell its mode is asked again
	// after RetryMin. Default to 50 ms and 5 s, or both to the one that is set
	// where the other's default would not fit.
	RetryMin, RetryMax time.Duration

	// Grace is how long Run may still take to append receipts of finished work
	// after ctx has ended and the last Finalize has returned. Defaults to 5 s.
	Grace time.Duration

	// Engine settles the receipts. Its mode is asked when matches are proposed:
	// what it is then decides whether their receipts are dry runs. When it
	// cannot tell, nothing is proposed until it can. Defaults to nil: every
	// receipt is a dry run.
	Engine Engine

	// OnFinal, OnFailed and OnExpired are told what became of orders. They are
	// called one at a time, for Run, which waits: be short. They may call the
	// Book and the Loop. A price board is wired by an OnFinal that records
	// m.Price. OnFailed gets an error that wraps [ErrBadBid] if the bid was
	// dropped and [ErrBadAsk] if the ask was; an order that was not goes on, and
	// may fail again. A panic or a runtime.Goexit in one of them is logged, and
	// that call is over: nothing of book and log depends on it. Optional.
	OnFinal   func(m Match, r receipt.Receipt)
	OnFailed  func(m Match, err error)
	OnExpired func(r Resting)

	// Clock, Metrics and Logger are not called under any lock, and a panic or a
	// runtime.Goexit in one of them is that call's failure: a reading of the
	// Clock is then the last one that it gave.
	Clock   Clock        // defaults to the system's
	Metrics Metrics      // defaults to none
	Logger  *slog.Logger // defaults to discarding
}

const most = 1 << 20 // of whatever a loop counts

func (o *LoopOptions) defaults() error {
	for _, d := range []*time.Duration{&o.ReturnAfter, &o.StarveAfter, &o.RetryMin, &o.RetryMax, &o.Grace} {
		if *d < 0 {
			return fmt.Errorf("%w: negative duration %v", ErrOptions, *d)
		}
	}
	for _, n := range []int{o.Parallel, o.Batch, o.IndustrialEvery} {
		if n < 0 || n > most {
			return fmt.Errorf("%w: a count of %d, allowed are up to %d", ErrOptions, n, most)
		}
	}
	if o.OnFailure > DropBid {
		return fmt.Errorf("%w: failure policy %d", ErrOptions, o.OnFailure)
	}
	o.Parallel = cmp.Or(o.Parallel, runtime.GOMAXPROCS(0))
	o.Batch = cmp.Or(o.Batch, 1024)
	o.ReturnAfter = cmp.Or(o.ReturnAfter, time.Second)
	o.IndustrialEvery = cmp.Or(o.IndustrialEvery, 8)
	o.StarveAfter = cmp.Or(o.StarveAfter, time.Minute)
	o.RetryMin = cmp.Or(o.RetryMin, min(50*time.Millisecond, cmp.Or(o.RetryMax, math.MaxInt64)))
	o.RetryMax = max(o.RetryMin, cmp.Or(o.RetryMax, 5*time.Second))
	o.Grace = cmp.Or(o.Grace, 5*time.Second)
	return nil
}
