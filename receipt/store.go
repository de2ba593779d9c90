package receipt

import (
	"context"
	"fmt"
	"iter"
)

// Status is what a [Store] did with one receipt.
type Status uint8

const (
	// Inserted: the receipt is new and has a place at the end of the log. So has
	// one that was there as a dry run and now came for real: it left its old
	// place, is owed from now on, and who reads the log meets it again.
	Inserted Status = iota + 1
	// Duplicate: the same receipt is there already. A dry run of what is there
	// for real is a Duplicate too.
	Duplicate
	// Conflict: another receipt has the key; this one is not recorded.
	Conflict
	// Corrupt: what is stored under the key is damaged; this one is not
	// recorded.
	Corrupt
)

// String returns the name in lower case.
func (s Status) String() string {
	switch s {
	case Inserted:
		return "inserted"
	case Duplicate:
		return "duplicate"
	case Conflict:
		return "conflict"
	case Corrupt:
		return "corrupt"
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// Record is a receipt and its place in the log.
type Record struct {
	Seq uint64
	Receipt
}

// Store is the append-only log of receipts. Implementations are safe for
// concurrent use. They pass the suite of package receipttest.
type Store interface {
	// Append records each receipt that is not there yet, and gives it the next
	// sequence number, in the order of the slice. Numbers start at 1 and grow;
	// there may be gaps.
	//
	// Atomicity: all receipts that are recorded appear at once. Order: when they
	// appear, their numbers are greater than all that ever appeared before, so a
	// consumer that reads on from the last number it saw misses nothing. Durability: when
	// Append returns statuses, one for each receipt, all that they say is
	// durable, also that a Duplicate is there. Concurrency: of equal receipts
	// appended at the same time one is Inserted. The slice is not kept.
	//
	// A receipt in Conflict or Corrupt does not hold up the others; the error
	// then wraps ErrConflict or ErrCorrupt, names the first such receipt, and
	// the statuses tell all. With any other error the statuses are nil:
	// ErrInvalid (nothing was written), ErrPoisoned, ErrUnknown, ErrClosed, or
	// that of ctx (nothing was written).
	Append(ctx context.Context, receipts []Receipt) ([]Status, error)

	// Get returns the receipt with the key, which is durable. Possible errors:
	// ErrNotFound, ErrCorrupt, ErrPoisoned, ErrClosed, that of ctx.
	Get(ctx context.Context, key Key) (Record, error)

	// After yields the records with a sequence number above seq, in its order,
	// as they stood when the iteration began, also those that are promoted
	// meanwhile; all of them are durable. Damaged records are passed over. An error ends the iteration:
	// ErrCorrupt (more than a record is damaged), ErrPoisoned, ErrClosed, that
	// of ctx.
	After(ctx context.Context, seq uint64) iter.Seq2[Record, error]
}

// Refusal returns nil when every status is Inserted or Duplicate, and else the
// error that Append gives with the statuses.
func Refusal(receipts []Receipt, statuses []Status) error {
	for i, s := range statuses {
		switch s {
		case Conflict:
			return fmt.Errorf("%w: %s (receipt %d of %d)", ErrConflict, receipts[i].Key, i+1, len(receipts))
		case Corrupt:
			return fmt.Errorf("%w: %s (receipt %d of %d)", ErrCorrupt, receipts[i].Key, i+1, len(receipts))
		}
	}
	return nil
}

// ValidateAll returns the error of the first receipt that is not valid, with
// its place.
func ValidateAll(receipts []Receipt) error {
	for i := range receipts {
		if err := receipts[i].Validate(); err != nil {
			return fmt.Errorf("%w (receipt %d of %d)", err, i+1, len(receipts))
		}
	}
	return nil
}

// Metrics is told of what an operator should know. Implementations are safe for
// concurrent use.
type Metrics interface {
	// Corrupt: n more damaged records were found. A store counts each once for
	// each time that it is opened.
	Corrupt(n int)
}
