package settlement

import (
	"context"
	"iter"
	"time"

	"github.com/computemarket/computemarket/receipt"
)

// State is what an engine remembers.
type State struct {
	Epoch      uint64     `json:"epoch"` // given by Store.Acquire
	Mode       Mode       `json:"mode"`
	Reason     string     `json:"reason,omitempty"` // why the mode is DryRun
	Activation Activation `json:"activation"`       // while Armed
	Height     uint64     `json:"height"`           // the greatest the engine was told of
	Cursor     uint64     `json:"cursor"`           // all receipts up to this number are done with
	Applied    uint64     `json:"applied"`          // receipts that were settled, up to the cursor and by Retry
	Failed     uint64     `json:"failed"`           // receipts in the archive
}

// Failure is a receipt that could not be settled, in the archive.
type Failure struct {
	Seq     uint64          `json:"seq"` // of the receipt in the log
	Receipt receipt.Receipt `json:"receipt"`
	Reason  Reason          `json:"reason"`
	Detail  string          `json:"detail"` // the ledger's error
	At      time.Time       `json:"at"`
	Tries   int             `json:"tries"`
}

// Store is the durable state of one engine. Implementations are safe for
// concurrent use, and pass the suite of package settlementtest.
type Store interface {
	// Acquire makes the caller the engine that may write. It starts the next
	// epoch and returns the state with it; the state of a new store is zero but
	// for the epoch. A store for several nodes waits until the engine before has
	// stopped renewing. Durable on return. Possible errors: ErrCorrupt,
	// ErrPoisoned, ErrClosed, that of ctx.
	Acquire(ctx context.Context) (State, error)

	// Save writes the state, puts failures into the archive, each at its number,
	// and drops the failures with the numbers given, all in one atomic write
	// that is durable on return. A Save of an epoch that is not the latest is
	// refused with ErrFenced. Other errors: ErrPoisoned, ErrUnknown, ErrClosed,
	// that of ctx.
	Save(ctx context.Context, state State, put []Failure, drop []uint64) error

	// Advance is a Save of progress that need not be durable on return: an
	// engine whose cursor is lost posts again and hears Duplicate. It is never
	// durable before an earlier call. An open engine calls it at least once in
	// Options.Interval while it runs, so a store may renew a lease on it.
	Advance(ctx context.Context, state State) error

	// Failure returns the failure with the number, or ErrNotArchived.
	Failure(ctx context.Context, seq uint64) (Failure, error)

	// Failures yields the archive in order of numbers. An error ends it:
	// ErrCorrupt, ErrPoisoned, ErrClosed, that of ctx.
	Failures(ctx context.Context) iter.Seq2[Failure, error]
}
