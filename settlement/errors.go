package settlement

import (
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/internal/fault"
)

// Why a ledger refuses a transfer. Nothing of it has moved.
var (
	// ErrInsufficient: the account has fewer credits than the transfer asks.
	ErrInsufficient = errors.New("settlement: insufficient funds")
	// ErrOverflow: the sum would not fit 64 bits.
	ErrOverflow = errors.New("settlement: the balance would overflow")
	// ErrConflict: a transfer of other content has this ID.
	ErrConflict = errors.New("settlement: another transfer has this id")
	// ErrCorrupt: what is stored of an account, a transfer or the engine's state
	// is damaged. It is never guessed at: restore it from a backup.
	ErrCorrupt = fault.ErrCorrupt

	// ErrInvalid: the transfer can never be applied. The three errors behind it
	// wrap it.
	ErrInvalid      = errors.New("settlement: invalid transfer")
	ErrAccount      = fmt.Errorf("%w: an account is empty, longer than %d bytes or not UTF-8", ErrInvalid, MaxAccountBytes)
	ErrSelfTransfer = fmt.Errorf("%w: both accounts are the same", ErrInvalid)
	ErrTag          = fmt.Errorf("%w: a tag is longer than %d bytes or not UTF-8", ErrInvalid, MaxTagBytes)

	// ErrIssuer: a receipt names the issuing account as buyer or provider, and
	// would make or destroy credits.
	ErrIssuer = errors.New("settlement: a receipt names the issuing account")
)

// Answers of an engine.
var (
	// ErrMode: the call does not fit the mode the engine is in.
	ErrMode = errors.New("settlement: not in this mode")
	// ErrActivation: the delay is negative, the height is 0 or has passed
	// already, or it is the zero Activation.
	ErrActivation = errors.New("settlement: invalid activation")
	// ErrNotArchived: no failure of this receipt is in the archive.
	ErrNotArchived = errors.New("settlement: not in the archive")
	// ErrOptions: a required argument is nil, or an option has a value that
	// makes no sense.
	ErrOptions = fault.ErrOptions
	// ErrStandby: another engine leads, or none does yet, so this one may not
	// write. Wait with [Engine.Lead], or ask the one that Status names.
	ErrStandby = errors.New("settlement: the engine is on standby")
	// ErrLedger: the ledger broke its contract; the engine stops.
	ErrLedger = errors.New("settlement: the ledger broke its contract")
)

// Answers of ledgers and stores. The engine hands them on as they are.
var (
	// ErrPoisoned: a write failed, and every further call is refused. What was
	// not acknowledged is there wholly or not at all. Mend the disk and open
	// the store again.
	ErrPoisoned = fault.ErrPoisoned
	// ErrUnknown: a remote ledger or store did not answer in time, and may have
	// written, or may still. Post a transfer again: a Duplicate tells that it was
	// applied. An engine to which this happens with a change of its state goes
	// on standby; when it leads again it has read what became of it.
	ErrUnknown = fault.ErrUnknown
	// ErrFenced: another engine has taken over. Nothing was written.
	ErrFenced = errors.New("settlement: another engine has taken over")
	// ErrClosed: the store has been closed.
	ErrClosed = fault.ErrClosed
	// ErrLocked: another process, or this one, has the store open.
	ErrLocked = fault.ErrLocked
	// ErrSchema: a newer release of this library wrote the store, or it is for
	// another issuing account.
	ErrSchema = fault.ErrSchema
)

// IsFinal reports whether err ends an engine for good: a call that was made again
// would meet it again, until store, log or ledger are opened anew. [Engine.Run]
// returns such errors, and backs off and goes on after all others. ErrFenced is
// one of them only where a lease has no term; where it has one, Run stands by.
func IsFinal(err error) bool {
	for _, final := range []error{
		ErrFenced, ErrPoisoned, ErrClosed, ErrSchema, ErrLedger, ErrOptions,
	} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}
