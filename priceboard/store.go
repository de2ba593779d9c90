package priceboard

import (
	"context"
	"fmt"
)

// Snapshot is a board at one moment, as a [Store] keeps it.
type Snapshot struct {
	Window uint64   // of the board that saved it, at least 1
	Prices []uint64 // oldest first, at most Window

	// Parties are who made the newest prices, the last of both being the same
	// offer; who made the older ones is not known. A board that does not limit
	// its parties saves none.
	Parties []string
}

// check returns why s is no snapshot, if it is not.
func (s Snapshot) check() error {
	n := len(s.Prices)
	switch {
	case s.Window == 0:
		return fmt.Errorf("%w: window 0", ErrSnapshot)
	case uint64(n) > s.Window:
		return fmt.Errorf("%w: %d prices in a window of %d", ErrSnapshot, n, s.Window)
	case n > MaxWindow:
		return fmt.Errorf("%w: %d prices, at most %d fit", ErrSnapshot, n, MaxWindow)
	case len(s.Parties) > n:
		return fmt.Errorf("%w: %d parties of %d prices", ErrSnapshot, len(s.Parties), n)
	}
	return nil
}

// newest returns s with at most n prices.
func (s Snapshot) newest(n int) Snapshot {
	s.Prices = s.Prices[max(0, len(s.Prices)-n):]
	s.Parties = s.Parties[max(0, len(s.Parties)-n):]
	return s
}

// Store keeps the latest snapshot of one board. [File] is one; priceboardtest
// has the suite that shows another to keep these promises.
//
// A handle belongs to one board: [Open] loads from it once, and Close ends it.
// All methods are safe for concurrent use, and return ctx's error, with nothing
// done, when ctx is done beforehand. The board waits for each call, so a Store
// must not call the board's Save or Close.
type Store interface {
	// Load claims the store and returns the snapshot saved last. The claim
	// lasts until Close or the end of the process, however it ends. The caller
	// owns the prices and parties.
	//
	// A damaged snapshot is kept, where no later Save overwrites it, before
	// Load returns ErrCorrupt. If that fails, Load returns another error.
	//
	// Possible errors:
	//   - ErrNoSnapshot: nothing has been saved; the store is claimed
	//   - ErrCorrupt: what was saved is damaged; the store is claimed
	//   - ErrLocked: another handle has claimed the store, or this one has, by a
	//     Load or a Save
	//   - ErrSchema: what was saved is of a newer version, and left as it is
	//   - ErrClosed
	//   - any other: the store cannot be read now
	//
	// After all but the first two this call has claimed nothing, and Load may
	// be tried again.
	Load(ctx context.Context) (Snapshot, error)

	// Save replaces what was saved. It is atomic: after an error or a crash,
	// Load gives the snapshot before or the new one, whole; an error does not
	// say which. On nil the new one is durable. Save claims the store if Load
	// has not. It does not keep or change the prices and parties after it
	// returns.
	//
	// Possible errors:
	//   - ErrSnapshot: s cannot be saved; nothing was written
	//   - ErrLocked: another handle has claimed the store
	//   - ErrClosed
	//   - any other: the store cannot be written now; Save may be tried again
	Save(ctx context.Context, s Snapshot) error

	// Close releases the claim. It is idempotent; later calls of the other
	// methods return ErrClosed.
	Close() error
}
