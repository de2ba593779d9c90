package market

import (
	"context"
	"iter"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/match"
)

// Store keeps the market's orders, what became of them, and the assignments that
// are in flight. It stands beside one log of receipts, and writes to both at once:
// a receipt and the progress of its orders are one write, so neither is ever
// there without the other.
//
// Implementations are safe for concurrent use, and pass the suite of package
// markettest. They keep none of the slices that they are given, and what they
// return is the caller's.
type Store interface {
	Reader

	// Acquire makes the caller the one market that may write, and returns the
	// lease that it shows with every Write. The lease before is over at once.
	// Durable on return. Possible errors: ErrUnknown (call it again), ErrCorrupt,
	// ErrSchema, ErrPoisoned, ErrClosed, that of ctx.
	Acquire(ctx context.Context) (settlement.Lease, error)

	// Write carries out a batch.
	//
	// Atomicity: all of it or nothing. Durability: what Written says is durable on
	// return. Order: whoever sees a batch sees all that were written before it. An
	// order whose ID is there already is not written, and Written has the one that
	// is there; all else of the batch is carried out.
	//
	// Possible errors, with nothing written: ErrInvalid, a batch that no store can
	// hold; ErrFenced, the lease is not the latest; receipt.ErrConflict and
	// receipt.ErrCorrupt, where the log refuses a receipt, and Written.Appended says
	// which; ErrPoisoned, ErrClosed, that of ctx. After ErrUnknown the batch may have been written, or may still be; the
	// same batch again is then safe: an order that is there with the same Seq and
	// content is not among the Existing, and a receipt that is there is a Duplicate.
	Write(ctx context.Context, lease settlement.Lease, b *Batch) (Written, error)
}

// Reader is what of a Store can be read by whoever has it open, also where
// another market writes.
type Reader interface {
	// Order returns the order with the ID. Possible errors: ErrNotFound,
	// ErrCorrupt, ErrPoisoned, ErrClosed, that of ctx.
	Order(ctx context.Context, id string) (Order, error)

	// Orders yields the orders that the filter lets through in the order of Seq,
	// in constant memory, as they stood when the iteration came to them. One that
	// is damaged is passed over, logged and counted. An error ends the iteration:
	// ErrPoisoned, ErrClosed, that of ctx. Every method may be called from the body
	// of the loop.
	Orders(ctx context.Context, f Filter) iter.Seq2[Order, error]

	// Assignments yields what is in flight, in any order. Errors as of Orders.
	Assignments(ctx context.Context) iter.Seq2[Assignment, error]

	// Content returns the bytes of an inline slice of an order that is open.
	// Possible errors: ErrNotFound, ErrCorrupt, ErrPoisoned, ErrClosed, that of
	// ctx.
	Content(ctx context.Context, order uint64, slice int) ([]byte, error)
}

// A Batch is one atomic write to a Store.
type Batch struct {
	// Receipts go to the log, as by receipt.Store's Append.
	Receipts []receipt.Receipt
	// Orders are new, each with a Seq above those of all before.
	Orders []NewOrder
	// Updates are of orders that are there, of each the latest that counts.
	Updates []Update
	// Assign adds assignments, Unassign takes them out.
	Assign   []Assignment
	Unassign []match.MatchID
}

// NewOrder is an order with the bytes of its inline slices.
type NewOrder struct {
	Order
	Inline [][]byte // by slice; nil for one that is not inline
}

// Update is the progress of one order. Its Outcomes are those that are new: the
// store adds them to what it has. The inline bytes of a slice with an outcome go.
// An update of an order of the same batch that is not written is none.
type Update struct {
	Seq uint64 // of the order
	Progress
}

// Written is what a Store did with a batch.
type Written struct {
	// Existing has for each of Batch.Orders the order that had its ID before, or
	// nil. It is nil if there was none at all. Of one that is damaged there is the
	// ID alone, without a State: the ID stays blocked.
	Existing []*Order
	// Appended has for each receipt what the log did with it.
	Appended []receipt.Status
}

// Assignment is a match that was handed out: who is to do which work, and by
// when.
type Assignment struct {
	ID       match.MatchID
	Bid, Ask uint64 // Seqs of the orders
	Slice    int    // of the bid; -1 if the bid is no job
	Units    uint64
	Price    uint64 // of one unit
	DryRun   bool   // the mode when they met
	Deadline time.Time
}

// Filter says which orders to list. The zero Filter lists all, oldest first.
type Filter struct {
	Account string     // of this account only
	Side    match.Side // of this side only
	State   State      // in this state only
	From    uint64     // beginning with this Seq; 0: the first, or the last if Newest
	Newest  bool       // the newest first
}
