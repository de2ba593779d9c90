package workload

import (
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/internal/fault"

	"github.com/computemarket/computemarket/internal/callback"
)

var (
	// ErrSlice reports a slice that cannot be run as it stands: an ID that is
	// empty, longer than [MaxID] or not UTF-8, or an input that was never set.
	// Nothing was read.
	ErrSlice = errors.New("workload: invalid slice")

	// ErrKind reports a kind for which the Runner has no job. Nothing was read.
	ErrKind = errors.New("workload: no job for this kind")

	// ErrMismatch reports a slice ID that was run before with another kind or
	// another input. The earlier proof stands. Give other work another ID.
	ErrMismatch = errors.New("workload: slice ID was used for other work")

	// ErrProof reports a [SliceProof] whose output is not its reference. It earns
	// no payout.
	ErrProof = errors.New("workload: output does not match the reference")

	// ErrRange reports a byte range that is empty or does not lie within the
	// slice.
	ErrRange = errors.New("workload: range outside the slice")

	// ErrRangeProof reports a range proof, or an outboard, that does not fit the
	// hash or the range. Ask another holder for it.
	ErrRangeProof = errors.New("workload: invalid range proof")

	// ErrHash reports a text that is not 64 hexadecimal digits.
	ErrHash = errors.New("workload: invalid hash")

	// ErrOptions reports an argument that cannot be meant: options that contradict
	// their documentation, a required argument that is nil, or a Runner that [New]
	// did not make. Nothing was read.
	ErrOptions = fault.ErrOptions
)

// A PanicError is what a call returns when the caller's code in it panicked: a
// Job, or the reader or writer behind an argument. The process and the Runner live
// on.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // of the goroutine that panicked
}

// Error names the panic's value; Stack is for the log.
func (e *PanicError) Error() string { return fmt.Sprintf("workload: panic: %v", e.Value) }

// Unwrap returns the panic's value when that was an error, such as
// [runtime.Error].
func (e *PanicError) Unwrap() error { return (&callback.Panic{Value: e.Value}).Unwrap() }
