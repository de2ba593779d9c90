package match

import (
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/internal/fault"

	"github.com/computemarket/computemarket/internal/callback"
)

// ErrOptions reports a required argument that is nil, an option out of range, or
// a [Book] or [Loop] that is not from [NewBook] or [NewLoop]. It is a mistake in
// the program.
var ErrOptions = fault.ErrOptions

var (
	errNoBook = fmt.Errorf("%w: a Book comes from NewBook", ErrOptions)
	errNoLoop = fmt.Errorf("%w: a Loop comes from NewLoop", ErrOptions)
)

// Errors of orders. Whoever sent the order has to change it; nothing was
// written. A lane that is not declared gives admission.ErrLane.
var (
	// ErrID reports an order id that is empty, longer than [MaxID] bytes, not
	// UTF-8, or that contains '|', which separates the parts of a job id.
	ErrID = errors.New("match: bad order id")

	// ErrAccount reports an account that is empty, longer than [MaxAccount]
	// bytes or not UTF-8.
	ErrAccount = errors.New("match: bad account")

	// ErrSide reports a side that is neither [Bid] nor [Ask].
	ErrSide = errors.New("match: unknown side")

	// ErrUnits reports zero units, more than [MaxUnits], or a count of filled
	// ones that no log can hold.
	ErrUnits = errors.New("match: bad number of units")

	// ErrPrice reports a bid whose units times price overflow a uint64: nobody
	// could owe it.
	ErrPrice = errors.New("match: units times price overflow")

	// ErrExpired reports an order whose time was over when it came.
	ErrExpired = errors.New("match: order already expired")

	// ErrRepeated reports an order id that is in the book, or whose last units
	// are still in flight. Order ids are never used twice: see [Book].
	ErrRepeated = errors.New("match: order id repeated")

	// ErrFull reports a lane that holds as many orders as [Options.Capacity]
	// allows. It passes when orders leave.
	ErrFull = errors.New("match: lane is full")

	// ErrNotFound reports an order id that is not in the book: it was never
	// there, or it was filled, cancelled or has expired. The sender of a cancel
	// that came too late gets it.
	ErrNotFound = errors.New("match: no such order")
)

// ErrEnded reports a [Match] of which the side in question has already been
// committed, released or dropped, or which is of another book. It is a mistake
// of the caller's; the book is as it was.
var ErrEnded = errors.New("match: match already ended")

// Verdicts of [LoopOptions.Finalize]: an error that wraps one of them says whose
// fault it was, and that order is dropped. It may wrap both. And what
// [LoopOptions.OnFailed] is told wraps one of them exactly if that order was
// dropped, whatever the reason: nobody need keep it for [Resume].
var (
	// ErrBadBid: the buyer's order cannot be served by anyone.
	ErrBadBid = errors.New("match: the bid is at fault")

	// ErrBadAsk: the provider did not do the work, or did it wrong.
	ErrBadAsk = errors.New("match: the ask is at fault")
)

// ErrRunning reports a second [Loop.Run] beside the first, of the same Loop or of
// another one of the same [Book]: two would record the units of a bid out of order.
var ErrRunning = errors.New("match: loop is already running")

// A PanicError is the failure of a match whose [LoopOptions.Finalize] panicked.
// OnFailed gets it; nobody is paid, and the loop goes on.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // of the goroutine that panicked
}

// Error names the panic's value; Stack is for the log.
func (e *PanicError) Error() string { return fmt.Sprintf("match: panic in Finalize: %v", e.Value) }

// Unwrap returns the panic's value when that was an error. One that wraps
// [ErrBadBid] or [ErrBadAsk] is a verdict as if it had been returned.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return callback.Usable(err)
}

// ErrMatchID reports a text that is not 32 hexadecimal digits.
var ErrMatchID = errors.New("match: bad match id")
