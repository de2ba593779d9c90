package settlement

import (
	"errors"
	"fmt"
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
	ErrCorrupt = errors.New("settlement: stored data is damaged")

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
	// ErrActivation: the delay is negative, or the height has passed already.
	ErrActivation = errors.New("settlement: invalid activation")
	// ErrNotArchived: no failure of this receipt is in the archive.
	ErrNotArchived = errors.New("settlement: not in the archive")
	// ErrOptions: an option has a value that makes no sense.
	ErrOptions = errors.New("settlement: invalid option")
	// ErrStale: the store could not tell whether it has written a failure or a
	// change of mode, so the engine may know less than the store. It does
	// nothing more; open it again.
	ErrStale = errors.New("settlement: the engine's state is uncertain; open it again")
	// ErrLedger: the ledger broke its contract; the engine stops.
	ErrLedger = errors.New("settlement: the ledger broke its contract")
)

// Answers of ledgers and stores, of which the engine tells nobody more than
// they say.
var (
	// ErrPoisoned: a write failed, and every further call is refused. What was
	// not acknowledged is there wholly or not at all. Mend the disk and open
	// the store again.
	ErrPoisoned = errors.New("settlement: a write failed; open the store again")
	// ErrUnknown: a remote ledger did not answer in time, and the transfer may
	// have been applied. Post it again: a Duplicate tells that it was.
	ErrUnknown = errors.New("settlement: the outcome is unknown; post it again")
	// ErrFenced: another engine has taken over; this one must stop.
	ErrFenced = errors.New("settlement: another engine has taken over")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("settlement: closed")
	// ErrLocked: another process, or this one, has the store open.
	ErrLocked = errors.New("settlement: the store is in use")
	// ErrSchema: a newer release of this library wrote the store, or it is for
	// another issuing account.
	ErrSchema = errors.New("settlement: the store has another format")
)

// Reason is why a receipt could not be settled: a closed set, fit for a label.
type Reason string

const (
	ReasonInsufficient Reason = "insufficient_funds"
	ReasonOverflow     Reason = "overflow"
	ReasonConflict     Reason = "conflict"
	ReasonCorrupt      Reason = "corrupt"
	ReasonInvalid      Reason = "invalid"
	ReasonIssuer       Reason = "issuer"
)

// Reasons lists all of them.
var Reasons = [...]Reason{
	ReasonInsufficient, ReasonOverflow, ReasonConflict, ReasonCorrupt, ReasonInvalid, ReasonIssuer,
}

// reasonOf tells a receipt that cannot be settled from a ledger that cannot
// answer now.
func reasonOf(err error) (Reason, bool) {
	for _, r := range [...]struct {
		err    error
		reason Reason
	}{
		{ErrInsufficient, ReasonInsufficient},
		{ErrOverflow, ReasonOverflow},
		{ErrConflict, ReasonConflict},
		{ErrCorrupt, ReasonCorrupt},
		{ErrInvalid, ReasonInvalid},
		{ErrIssuer, ReasonIssuer},
	} {
		if errors.Is(err, r.err) {
			return r.reason, true
		}
	}
	return "", false
}
