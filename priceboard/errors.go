package priceboard

import (
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/internal/fault"
)

var (
	// ErrOptions reports an option out of its range, or an argument that is
	// missing. It is the caller's mistake; nothing was made.
	ErrOptions = fault.ErrOptions

	// ErrQuantile reports a quantile that is not a number from 0 to 1.
	ErrQuantile = errors.New("priceboard: quantile not within 0 and 1")

	// ErrNoBands reports that the window holds fewer than
	// [Options.MinSamples] prices. Record more and ask again.
	ErrNoBands = errors.New("priceboard: too few prices")

	// ErrNoStore reports the save of a board without a store, and, with
	// ErrOptions, an Open without one.
	ErrNoStore = errors.New("priceboard: no store")

	// ErrClosed reports the use of a board or store after its Close.
	ErrClosed = fault.ErrClosed

	// ErrLocked reports that another board holds the store, in this process or
	// another. It can be opened once that board is closed or its process gone.
	ErrLocked = fault.ErrLocked

	// ErrNoSnapshot reports a store in which nothing has been saved.
	ErrNoSnapshot = errors.New("priceboard: nothing saved")

	// ErrSchema reports a snapshot that a newer version of this package has
	// saved. It is left as it is. Use the newer version again, or another file.
	ErrSchema = fault.ErrSchema

	// ErrCorrupt reports saved bytes that are not a snapshot: damaged, or cut
	// short. See [CorruptError] for where they went.
	ErrCorrupt = fault.ErrCorrupt

	// ErrSnapshot reports a snapshot that cannot be saved: a window of 0, more
	// prices than the window or the format can hold, or more parties than
	// prices. Nothing was written.
	ErrSnapshot = errors.New("priceboard: invalid snapshot")
)

// CorruptError is what [FileStore.Load] returns for a damaged file, once the
// file is out of the way of the next save. It wraps [ErrCorrupt].
type CorruptError struct {
	Aside string // where the file is now
	Err   error  // what is wrong with it
}

func (e *CorruptError) Error() string { return fmt.Sprintf("%v (kept as %s)", e.Err, e.Aside) }

func (e *CorruptError) Unwrap() error { return e.Err }
