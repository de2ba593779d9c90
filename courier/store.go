package courier

import (
	"context"
	"fmt"
	"iter"
	"time"
	"unicode/utf8"
)

// Store keeps receipts in three lists: pending, acknowledged and dead. Package
// courierpebble has one, couriertest a model and the tests for others.
//
// Every method is safe for concurrent use. What a method has returned, or shown
// in an iteration, is durable. Values belong to the receiver of them; strings in
// a Receipt are never changed. Beside the errors named below, any method may
// return [ErrPoisoned], [ErrUnknown], [ErrClosed], [ErrCorrupt] or the context's
// error; after the first two the write happened wholly or not at all.
type Store interface {
	// Append stores r as pending, with a Seq greater than any given before,
	// whatever r's own State and Seq, and returns it as stored, which is as Get and
	// List return it: SentAt to the microsecond and in UTC, Since the same, no
	// Cause and no Reason. If the ID is
	// there already, in any state, nothing is written: Append returns the
	// stored receipt, with a nil error if it is the [Receipt.Same], else with
	// ErrConflict. Calls at once with one ID store one receipt. An invalid
	// receipt is refused with ErrInvalid. The ID of a damaged receipt is neither
	// free nor a repetition: ErrCorrupt.
	Append(ctx context.Context, r Receipt) (Receipt, error)

	// Get returns the receipt, or ErrNotFound, or ErrCorrupt if it is damaged.
	Get(ctx context.Context, id ID) (Receipt, error)

	// List yields the receipts of a list with Seq >= from in the order of Seq,
	// in constant memory: those that were in the list when the iteration began,
	// each once. One that leaves the list meanwhile may be shown as it stood, or
	// left out; so may one that a Move brings in. One that is appended meanwhile
	// is not shown. A receipt that is found damaged is kept aside, logged, and
	// stops no other. The first error ends the iteration. Breaking out is allowed
	// at any step, and so is every other method meanwhile, except closing the
	// store.
	List(ctx context.Context, s State, from uint64) iter.Seq2[Receipt, error]

	// Move applies moves in order, all in one atomic write. A move is skipped if
	// its receipt was no longer there with the same ID, State and Seq when Move was
	// called, or if an earlier one of moves took the receipt with that ID: of
	// several moves of one receipt in one call one at most is applied, whatever
	// other calls come at once. Seq stays, and Since is to the microsecond and UTC. Move returns how many were
	// applied. If one of them is no valid [Move], none is, and the error is
	// ErrInvalid.
	Move(ctx context.Context, moves []Move) (applied int, err error)

	// Count returns the lengths of the lists, without walking them.
	Count(ctx context.Context) (Counts, error)
}

// Move takes a receipt, as its store gave it, to another list, or, with To
// being [Gone], out of the store. At becomes its Since; Cause and Reason are
// kept with a dead receipt and are otherwise ignored.
type Move struct {
	Receipt Receipt
	To      State
	At      time.Time
	Cause   Cause
	Reason  string
}

// Validate returns an [ErrInvalid] unless To is a state and, for a move to the
// dead, Cause and Reason are fit to be stored.
func (m Move) Validate() error {
	switch {
	case m.To > Dead:
		return fmt.Errorf("%w: move to %v", ErrInvalid, m.To)
	case m.To != Dead:
		return nil
	case m.Cause < Rejected || m.Cause > Damaged:
		return fmt.Errorf("%w: dead by %v", ErrInvalid, m.Cause)
	case len(m.Reason) > MaxReason || !utf8.ValidString(m.Reason):
		return fmt.Errorf("%w: reason not up to %d bytes of UTF-8", ErrInvalid, MaxReason)
	}
	return nil
}

// Counts are the lengths of a store's lists.
type Counts struct {
	Pending, Acknowledged, Dead uint64
	Aside                       uint64 // found damaged, and in no list
}

// MaxNote is the greatest length of a note, in bytes.
const MaxNote = 4096

// Notebook is what every [Store] has beside its lists: a place where a Courier
// keeps what must outlive the process and is no receipt.
type Notebook interface {
	// Note returns what SetNote stored last, or nothing, and the greatest Seq that
	// the store has given to any receipt, or 0.
	Note(ctx context.Context) (note []byte, last uint64, err error)
	// SetNote stores a note of up to [MaxNote] bytes in place of the one before,
	// durably when it returns nil. One that is longer is ErrInvalid.
	SetNote(ctx context.Context, note []byte) error
}

// BundleIndex is asked of a [Store] when bundles are carried.
type BundleIndex interface {
	// Needs reports whether a pending or dead receipt has the bundle Carried.
	Needs(ctx context.Context, h Hash) (bool, error)
}
