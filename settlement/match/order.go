package match

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/computemarket/computemarket/admission"
)

const (
	// MaxID is the longest order id in bytes. A job id names both orders of a
	// match and must itself fit into the 256 bytes of a receipt.
	MaxID = 100

	// MaxAccount is the longest account in bytes, as in a receipt.
	MaxAccount = 256

	// MaxUnits is the most units of one order, so that the sum over a full lane
	// still fits into a uint64.
	MaxUnits = 1 << 40
)

// Side says whether an order buys or sells. The zero Side is neither.
type Side uint8

const (
	Bid Side = iota + 1 // a buyer's: Price is the most it pays for a unit
	Ask                 // a provider's: Price is the least it takes for a unit
)

// String returns "bid" or "ask"; anything else prints as "side(n)".
func (s Side) String() string {
	switch s {
	case Bid:
		return "bid"
	case Ask:
		return "ask"
	}
	return fmt.Sprintf("side(%d)", uint8(s))
}

// Order is what a buyer or a provider sends.
type Order struct {
	// ID names the order: 1 to [MaxID] bytes of UTF-8 without '|', never used
	// for another order, not even after this one has gone.
	ID string

	// Account is the buyer of a bid, the provider of an ask: 1 to [MaxAccount]
	// bytes of UTF-8.
	Account string

	Lane admission.Lane
	Side Side

	// Units still wanted, beyond those in Filled: 1 to [MaxUnits].
	Units uint64

	// Price of one unit, in credits. A bid's Units times Price must fit into a
	// uint64.
	Price uint64

	// Expires is when the order leaves by itself, an instant on the wall clock;
	// zero means never.
	Expires time.Time

	// Filled counts the units that durable receipts name. It is zero in a new
	// order. Units plus Filled is what the order wants in all: a match moves
	// units from one to the other, and only [Book.Replace] changes the sum.
	Filled uint64
}

// Resting is an order as it stands in the book. Its Order can be kept, and given
// to [Resume] after a restart, whatever is in flight.
type Resting struct {
	Order

	Seq uint64 // its place in time; a replaced order may get a new one

	// InFlight counts the units that are reserved for a match: its work is under
	// way, or its receipt is on its way to the log, or in doubt. They still
	// belong to Units, and not to Filled. They may be more than Units, because a
	// replace recalls nothing.
	InFlight uint64

	// Waiting says that a match of the bid has failed, and that it matches
	// nothing until [LoopOptions.ReturnAfter] is over.
	Waiting bool

	Since time.Time // when it was submitted or got its new place, by the caller's clock
}

// Open returns the units that can match now.
func (r *Resting) Open() uint64 {
	if r.Waiting {
		return 0
	}
	return open(r.Units, r.InFlight)
}

// open is what an order can still give to a match. In-flight units can exceed
// those left: a cancel or a replace does not recall what is in flight.
func open(left, held uint64) uint64 {
	if held >= left {
		return 0
	}
	return left - held
}

// validate checks an order. plain says that its id is known to be ASCII without
// a separator.
func (o *Order) validate(plain bool) error {
	switch {
	case o.ID == "":
		return fmt.Errorf("%w: empty", ErrID)
	case len(o.ID) > MaxID:
		return fmt.Errorf("%w: %d bytes, the most is %d", ErrID, len(o.ID), MaxID)
	case !plain && strings.IndexByte(o.ID, separator) >= 0:
		return fmt.Errorf("%w: %q contains %q", ErrID, o.ID, separator)
	case !plain && !utf8.ValidString(o.ID):
		return fmt.Errorf("%w: %q is not UTF-8", ErrID, o.ID)
	case o.Account == "":
		return fmt.Errorf("%w: empty", ErrAccount)
	case len(o.Account) > MaxAccount:
		return fmt.Errorf("%w: %d bytes, the most is %d", ErrAccount, len(o.Account), MaxAccount)
	case !utf8.ValidString(o.Account):
		return fmt.Errorf("%w: %q is not UTF-8", ErrAccount, o.Account)
	case !o.Lane.Valid():
		return fmt.Errorf("match: order %q: %w: %v", o.ID, admission.ErrLane, o.Lane)
	case o.Side != Bid && o.Side != Ask:
		return fmt.Errorf("%w: %v", ErrSide, o.Side)
	case o.Filled > math.MaxUint64/2: // the numbers of its next units must not overflow
		return fmt.Errorf("%w: %d filled", ErrUnits, o.Filled)
	}
	return validTerms(o.Side, o.Units, o.Price)
}

func validTerms(s Side, units, price uint64) error {
	if units == 0 || units > MaxUnits {
		return fmt.Errorf("%w: %d, allowed are 1 to %d", ErrUnits, units, uint64(MaxUnits))
	}
	// A match takes at most the bid's units at no more than the bid's price, so
	// this check on the bid covers every receipt.
	if hi, _ := bits.Mul64(units, price); s == Bid && hi != 0 {
		return fmt.Errorf("%w: %d units at %d", ErrPrice, units, price)
	}
	return nil
}
