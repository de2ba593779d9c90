package receipt

import (
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/internal/fault"
)

// Rejected input. Each of these wraps [ErrInvalid]; nothing has been written,
// and the same receipt will be rejected again.
var (
	ErrInvalid    = errors.New("receipt: invalid")
	ErrEmptyID    = fmt.Errorf("%w: an id is empty", ErrInvalid)
	ErrLongID     = fmt.Errorf("%w: an id is longer than %d bytes", ErrInvalid, MaxIDBytes)
	ErrUTF8       = fmt.Errorf("%w: an id is not UTF-8", ErrInvalid)
	ErrSelfDeal   = fmt.Errorf("%w: buyer and provider are the same", ErrInvalid)
	ErrVersion    = fmt.Errorf("%w: unknown version", ErrInvalid)
	ErrKey        = fmt.Errorf("%w: the key does not belong to the content", ErrInvalid)
	ErrIssuedAt   = fmt.Errorf("%w: issued_at is not between the years 1 and 9999", ErrInvalid)
	ErrKeySyntax  = fmt.Errorf("%w: a key is 64 hexadecimal digits", ErrInvalid)
	ErrJSONSyntax = fmt.Errorf("%w: not a receipt in JSON", ErrInvalid)
)

// Answers of a store.
var (
	// ErrNotFound: no receipt has this key.
	ErrNotFound = errors.New("receipt: not found")
	// ErrConflict: another receipt has this key. Ids that run into one another
	// can do that, such as ("ab", "c") and ("a", "bc"); rename the job.
	ErrConflict = errors.New("receipt: another receipt has this key")
	// ErrCorrupt: what is stored under this key is damaged. The key stays
	// blocked: nobody can tell whether the receipt was settled.
	ErrCorrupt = fault.ErrCorrupt
	// ErrPoisoned: a write failed, and the store refuses all further calls. What
	// was not acknowledged is there wholly or not at all. Mend the disk, open
	// the store again and send it again.
	ErrPoisoned = fault.ErrPoisoned
	// ErrUnknown: a remote store did not answer in time, and the receipts may
	// have been recorded. Ask for their keys, or append them again.
	ErrUnknown = fault.ErrUnknown
	// ErrClosed: the store has been closed.
	ErrClosed = fault.ErrClosed
	// ErrLocked: another process, or this one, has the store open.
	ErrLocked = fault.ErrLocked
	// ErrSchema: a newer release of this library wrote the store.
	ErrSchema = fault.ErrSchema
	// ErrOptions: what a store is made of is missing or makes no sense, such as a
	// nil database. Mend the call.
	ErrOptions = fault.ErrOptions
)
