package settlement

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/computemarket/computemarket/receipt"
)

// State is what an engine remembers. A store keeps it as its JSON, whole, so
// that a field of a later release is not lost on the way.
type State struct {
	Mode       Mode       `json:"mode"`
	Reason     string     `json:"reason,omitempty"` // why the mode is DryRun; empty if it was never another
	Activation Activation `json:"activation"`       // while Armed
	Height     uint64     `json:"height"`           // the greatest the engine was told of
	Cursor     uint64     `json:"cursor"`           // all receipts up to this number are done with
	Applied    uint64     `json:"applied"`          // receipts that were settled, up to the cursor and by Retry
	Failed     uint64     `json:"failed"`           // receipts in the archive
}

// DecodeState reads the JSON of a State. Possible errors: [ErrSchema] for a
// field that this release does not know, [ErrCorrupt].
func DecodeState(data []byte) (State, error) {
	var s State
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		if strings.Contains(err.Error(), "unknown field") {
			return State{}, fmt.Errorf("%w: the engine's state: %w", ErrSchema, err)
		}
		return State{}, fmt.Errorf("%w: the engine's state: %w", ErrCorrupt, err)
	}
	if dec.More() {
		return State{}, fmt.Errorf("%w: the engine's state: more behind its end", ErrCorrupt)
	}
	if s.Mode == Armed && s.Activation.IsZero() {
		s.Activation = After(0) // as the first release wrote a delay that was over
	}
	return s, nil
}

// neverArmed reports whether the engine has been in DryRun all the time.
func (s *State) neverArmed() bool { return s.Mode == DryRun && s.Reason == "" }

// Failure is a receipt that could not be settled, in the archive.
type Failure struct {
	Seq     uint64          `json:"seq"` // of the receipt in the log
	Receipt receipt.Receipt `json:"receipt"`
	Reason  Reason          `json:"reason"`
	Detail  string          `json:"detail"` // the ledger's error
	At      time.Time       `json:"at"`
	Tries   int             `json:"tries"`
}

// A Change is one atomic write to a Store.
type Change struct {
	State State
	Put   []Failure // into the archive, each at its number
	Drop  []uint64  // numbers to be taken out of it
}

// Store is the durable state of one engine, and the lease that says which engine
// that is. Implementations are safe for concurrent use, and pass the suite of
// package settlementtest. They call no method of the engine.
type Store interface {
	Archive

	// Load reads who holds the lease, if anybody does, and the state, which is
	// zero in a new store. It writes nothing and waits for nobody. Possible
	// errors: ErrCorrupt, ErrSchema, ErrPoisoned, ErrClosed, that of ctx.
	Load(ctx context.Context) (Lease, State, error)

	// Acquire makes the caller the engine that may write: it begins a lease with
	// a greater epoch and a new holder, and returns the state. While another
	// holds a lease with a term it answers a *HeldError and changes nothing; it
	// does not wait. A lease without a term is taken over at once. Durable on
	// return. Possible errors: *HeldError, ErrUnknown (call it again), ErrCorrupt,
	// ErrSchema, ErrPoisoned, ErrClosed, that of ctx.
	Acquire(ctx context.Context) (Lease, State, error)

	// Save writes the state and the archive in one atomic write, durable on
	// return, and renews the lease. The Change is not kept. Possible errors:
	// ErrFenced (nothing was written), ErrUnknown (the write may have happened,
	// or may still), ErrPoisoned, ErrClosed, that of ctx (nothing was written).
	Save(ctx context.Context, lease Lease, c Change) error

	// Advance records progress, which need not be durable on return: an engine
	// whose cursor is lost posts again and hears Duplicate. It is never durable
	// before an earlier call. The engine that leads calls it at least four times
	// in a Term, also when nothing has changed: this is what renews the lease.
	// Possible errors: as of Save, but ErrUnknown says nothing about the lease.
	Advance(ctx context.Context, lease Lease, s State) error

	// Release writes the state, durably, and gives the lease up, so that another
	// engine need not wait for its end. Possible errors: as of Save.
	Release(ctx context.Context, lease Lease, s State) error
}

// Archive is what a Store keeps of the receipts that could not be settled.
type Archive interface {
	// Failures yields the archive in order of numbers, from the number given
	// onward. An error ends it: ErrCorrupt, which comes when all sound ones have
	// been shown; ErrPoisoned, ErrClosed, that of ctx.
	Failures(ctx context.Context, from uint64) iter.Seq2[Failure, error]
}
