package courier

import (
	"encoding/hex"
	"fmt"
	"time"
	"unicode/utf8"
)

// MaxSender is the greatest length of a sender's name, in bytes.
const MaxSender = 256

// ID names a receipt: 128 random bits, or what the caller of [Courier.SendAs]
// chose.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what [ID.String] wrote. The error is [ErrInvalid].
func ParseID(s string) (ID, error) {
	var id ID
	err := parseHex(id[:], s)
	return id, err
}

// Hash is the BLAKE3-256 of a bundle.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads what [Hash.String] wrote. The error is [ErrInvalid].
func ParseHash(s string) (Hash, error) {
	var h Hash
	err := parseHex(h[:], s)
	return h, err
}

// parseHex accepts lower case alone: one value has one spelling.
func parseHex(dst []byte, s string) error {
	if len(s) == 2*len(dst) {
		if _, err := hex.Decode(dst, []byte(s)); err == nil && hex.EncodeToString(dst) == s {
			return nil
		}
	}
	return fmt.Errorf("%w: want %d lower-case hex digits", ErrInvalid, 2*len(dst))
}

// State is where a receipt stands.
type State uint8

const (
	// Pending: to be forwarded.
	Pending State = iota + 1
	// Acknowledged: forwarded, rewarded, done.
	Acknowledged
	// Dead: will not be forwarded, unless somebody requeues it.
	Dead

	// Gone is no state of a stored receipt. A [Move] to it deletes.
	Gone State = 0
)

func (s State) String() string {
	switch s {
	case Gone:
		return "gone"
	case Pending:
		return "pending"
	case Acknowledged:
		return "acknowledged"
	case Dead:
		return "dead"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Cause is why a receipt is [Dead].
type Cause uint8

const (
	// Rejected: the peer or the ledger refused it for good.
	Rejected Cause = iota + 1
	// Expired: it waited longer than [Options.Lifetime].
	Expired
	// Damaged: its bundle is missing, or not what was sent.
	Damaged
)

func (c Cause) String() string {
	switch c {
	case Rejected:
		return "rejected"
	case Expired:
		return "expired"
	case Damaged:
		return "damaged"
	}
	return fmt.Sprintf("cause %d", uint8(c))
}

// Receipt says that a bundle was taken in. What comes before State never changes;
// the rest is kept by the [Store].
type Receipt struct {
	ID      ID
	Bundle  Hash
	Size    int64 // of the bundle, in bytes
	Sender  string
	SentAt  time.Time // to the microsecond, UTC
	Carried bool      // the bundle itself is kept in [Options.Bundles]
	Seq     uint64    // place in the order of sending, given by the store

	State State
	Since time.Time // when it came into that state

	// Of dead receipts.
	Cause  Cause
	Reason string // at most [MaxReason] bytes
}

// MaxReason is the greatest length of a reason, in bytes. Flush cuts longer ones.
const MaxReason = 512

// Acknowledged reports whether the receipt was forwarded and rewarded.
func (r Receipt) Acknowledged() bool { return r.State == Acknowledged }

// Age returns how long before now the receipt was sent.
func (r Receipt) Age(now time.Time) time.Duration { return now.Sub(r.SentAt) }

// Same reports whether r and other record the same: ID, bundle, size and
// sender. A retry of Send comes at another time, and perhaps with other options,
// so the rest does not count.
func (r Receipt) Same(other Receipt) bool {
	return r.ID == other.ID && r.Bundle == other.Bundle && r.Size == other.Size && r.Sender == other.Sender
}

// Validate returns an [ErrInvalid] unless the sender is 1 to [MaxSender] bytes
// of UTF-8 and the size is not negative.
func (r Receipt) Validate() error {
	switch {
	case r.Sender == "":
		return fmt.Errorf("%w: no sender", ErrInvalid)
	case len(r.Sender) > MaxSender:
		return fmt.Errorf("%w: a sender of %d bytes", ErrInvalid, len(r.Sender))
	case !utf8.ValidString(r.Sender):
		return fmt.Errorf("%w: the sender is not UTF-8", ErrInvalid)
	case r.Size < 0:
		return fmt.Errorf("%w: size %d", ErrInvalid, r.Size)
	}
	return nil
}

// cut shortens a reason to MaxReason bytes of valid UTF-8.
func cut(reason string) string {
	if len(reason) > MaxReason {
		reason = reason[:MaxReason]
	}
	for !utf8.ValidString(reason) && len(reason) > 0 {
		reason = reason[:len(reason)-1]
	}
	return reason
}

// micros is the precision of every time a receipt carries.
func micros(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }
