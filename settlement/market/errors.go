package market

import (
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/internal/fault"
	"github.com/computemarket/computemarket/settlement"
)

var (
	// ErrInvalid: the request can never be carried out as it stands. Mend it. The
	// errors behind it wrap it.
	ErrInvalid = errors.New("market: invalid")
	// ErrNotFound: no order has this id, or no slice of it this content.
	ErrNotFound = errors.New("market: not found")
	// ErrRepeated: the id stands for another order. Ids are never used twice, not
	// even after their order is over.
	ErrRepeated = errors.New("market: the id stands for another order")
	// ErrStandby: another market leads, or none does yet. Ask that one, or wait.
	ErrStandby = errors.New("market: on standby")
	// ErrLimit: the account has as much in the market as one may have.
	ErrLimit = errors.New("market: over the account's limit")
)

// The conditions that all packages share.
var (
	// ErrOptions: a required argument is nil, or an option makes no sense.
	ErrOptions = fault.ErrOptions
	// ErrPoisoned: a write failed, and the store refuses every call. Mend the disk
	// and open it again.
	ErrPoisoned = fault.ErrPoisoned
	// ErrUnknown: a remote store did not answer in time; the write may have
	// happened, or may still. Send it again.
	ErrUnknown = fault.ErrUnknown
	// ErrClosed: the store was closed.
	ErrClosed = fault.ErrClosed
	// ErrCorrupt: what is stored of this order is damaged.
	ErrCorrupt = fault.ErrCorrupt
	// ErrLocked: another process, or this one, has the store open.
	ErrLocked = fault.ErrLocked
	// ErrSchema: a newer release of this library wrote the store.
	ErrSchema = fault.ErrSchema
	// ErrFenced: another market has taken over. Nothing was written.
	ErrFenced = settlement.ErrFenced
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
