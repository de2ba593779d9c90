package market

import (
	"fmt"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

const (
	// MaxID is the longest id of an order, in bytes. A slice's bid is named after
	// its job, with a number behind it, and must fit into [match.MaxID].
	MaxID = 88
	// MaxClass is the longest name of a class, in bytes.
	MaxClass = 128
	// MaxSlices is the most slices of one job.
	MaxSlices = 1 << 16
	// MaxInline is the most bytes of a slice that the store keeps itself, beside
	// the order. What is larger lies in Parts.Contents.
	MaxInline = 64 << 10
)

// Order is a bid or an ask of the market: what was asked for, with the defaults
// filled in, and what has become of it.
type Order struct {
	// Seq is its place in the order in which the market took orders, from 1.
	Seq uint64

	ID      string         // never used twice
	Account string         // the buyer of a bid, the provider of an ask
	Side    match.Side     // Bid or Ask
	Class   string         // the kind of work; orders of different classes never meet
	Lane    admission.Lane // who comes first
	Units   uint64         // in all; of a job, one for each slice
	Price   uint64         // of one unit, in credits: the most a bid pays, the least an ask takes
	Expires time.Time      // on the wall clock; zero: never

	Kind   workload.Kind // of a job: which job runs its slices
	Slices []Slice       // of a job; a plain order has none

	// Asked is the digest of the request as it came, before any default. The same
	// id with the same digest is the same order.
	Asked [32]byte
	At    time.Time // when the market took it

	// Progress is what has become of it so far.
	Progress
}

// Slice is one piece of a job's work. It is bought as one unit.
type Slice struct {
	Content   workload.Hash // BLAKE3-256 of its bytes
	Size      int64         // in bytes
	Inline    bool          // the store keeps the bytes; else Parts.Contents does
	Reference workload.Hash // what the output's hash must be; zero: any
}

// Progress is what has become of an order.
type Progress struct {
	State  State
	Ending State     // what it will be when nothing of it is in flight any more; 0: nobody ended it
	Filled uint64    // units with a durable receipt
	Reason string    // why it ended, where it was not filled
	Ended  time.Time // when it was over; zero while it is open
	// Outcomes are those of a job's slices that are over, by slice.
	Outcomes []Outcome
}

// Outcome is what became of one slice of a job.
type Outcome struct {
	Slice   int         // its place in Order.Slices
	State   State       // Done, Failed, Expired or Cancelled
	Receipt receipt.Key // of a slice that is Done
	Output  workload.Hash
	Reason  string // of one that is not
}

// State is where an order or a slice stands.
type State uint8

const (
	Open      State = iota + 1 // in the book, or in flight
	Done                       // every unit has its receipt
	Failed                     // some unit can never have one; Reason says why
	Expired                    // its time was over first
	Cancelled                  // by its account
)

// Over reports whether nothing more will happen to the order.
func (s State) Over() bool { return s > Open && s <= Cancelled }

var states = [...]string{Open: "open", Done: "done", Failed: "failed", Expired: "expired", Cancelled: "cancelled"}

// String returns the name in lower case; anything else prints as "state(n)".
func (s State) String() string {
	if s >= Open && s <= Cancelled {
		return states[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}
