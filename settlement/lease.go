package settlement

import (
	"fmt"
	"time"
)

// A Lease is the right to write: what [Store.Acquire] gives to one engine, and
// what that engine shows with everything it writes, in the state and in the
// ledger. A write under a lease that is not the latest is refused with
// [ErrFenced], so an engine that was paused and wakes up late changes nothing.
//
// The zero Lease is none. A [Ledger] takes it from callers who are no engine:
// who issue credits, for example.
type Lease struct {
	// Epoch is greater than that of every lease before.
	Epoch uint64
	// Holder is unlike that of every other lease. It begins with whatever name
	// for people the store was given.
	Holder string
	// Term is how long the lease lasts after Acquire, Save and Advance. Zero
	// means until the next Acquire, however soon that comes.
	Term time.Duration
}

// IsZero reports whether l is no lease.
func (l Lease) IsZero() bool { return l.Epoch == 0 && l.Holder == "" }

// Is reports whether both are the same lease. Epoch and holder count: a database
// that lost its last writes in a failover gives the same epoch a second time.
func (l Lease) Is(other Lease) bool { return l.Epoch == other.Epoch && l.Holder == other.Holder }

// A HeldError is the answer of [Store.Acquire] while another engine holds the
// lease. Try again after Wait, or earlier: the lease may be given up.
type HeldError struct {
	Holder string
	Wait   time.Duration
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("settlement: %q holds the lease for another %v", e.Holder, e.Wait)
}

// Check is the fence: it returns nil when l is the latest lease, and otherwise an
// error that wraps [ErrFenced]. latest is zero when the lease was given up.
// Stores and ledgers call Check where they write, under the lock that Acquire
// takes.
func (l Lease) Check(latest Lease) error {
	if l.Is(latest) && l.Holder != "" {
		return nil
	}
	return fmt.Errorf("%w: the lease of epoch %d by %q, the latest is %d by %q",
		ErrFenced, l.Epoch, l.Holder, latest.Epoch, latest.Holder)
}
