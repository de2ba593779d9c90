package courier

import (
	"errors"

	"github.com/computemarket/computemarket/internal/fault"
)

var (
	// ErrOptions reports options that cannot be used, or a required argument that
	// is nil. Nothing was done; correct the call.
	ErrOptions = fault.ErrOptions

	// ErrInvalid reports a receipt, ID or hash that cannot be used. Nothing was
	// written.
	ErrInvalid = errors.New("courier: invalid")

	// ErrTooLarge reports a bundle over the limit. Nothing was kept of it.
	ErrTooLarge = errors.New("courier: bundle too large")

	// ErrMismatch reports a bundle that is not what its receipt says: another
	// hash, or another size. Nothing was kept of it.
	ErrMismatch = errors.New("courier: bundle differs from its receipt")

	// ErrConflict reports an ID that already stands for other content. The
	// stored receipt is unchanged; use another ID.
	ErrConflict = errors.New("courier: ID in use for another bundle or sender")

	// ErrNotFound reports a receipt or a bundle that is not there.
	ErrNotFound = errors.New("courier: not found")

	// ErrRejected is what a [Forwarder] or a [Rewarder] returns, wrapped or
	// not, for a receipt that it will never take. The receipt becomes [Dead].
	ErrRejected = errors.New("courier: rejected")

	// ErrPeerDown reports that [Courier.Flush] stopped early, since the peer
	// took nothing. What was not forwarded is still pending: flush again when
	// the peer is back.
	ErrPeerDown = errors.New("courier: the peer takes nothing")

	// ErrBusy reports a receipt that this carrier has, and is handing to somebody
	// else at this moment: it can neither be taken nor called known. Ask again.
	ErrBusy = errors.New("courier: in hand, ask again")

	// ErrPoisoned reports a store in which a write failed. What was answered
	// before is safe; close the store and open it again.
	ErrPoisoned = fault.ErrPoisoned

	// ErrUnknown reports that a remote store did not answer in time, and may
	// have written. Read what is there, or call it again: an Append of the same
	// receipt and a Move of what has moved do nothing.
	ErrUnknown = fault.ErrUnknown

	// ErrClosed reports the use of a store after its Close.
	ErrClosed = fault.ErrClosed

	// ErrCorrupt reports stored data that fails its checksum or cannot be read.
	ErrCorrupt = fault.ErrCorrupt

	// ErrLocked reports that somebody else has the store or directory open.
	ErrLocked = fault.ErrLocked

	// ErrSchema reports data written by a newer release.
	ErrSchema = fault.ErrSchema
)
