package verify

import (
	"fmt"
	"slices"
)

// A State is where a round stands. It only goes forward.
type State uint8

// The states of a round.
const (
	Assigned      State = iota // given out; nobody has committed
	Committing                 // somebody has committed; reveals are refused
	Revealing                  // commitments are refused; reveals are kept and not shown
	Auditing                   // waits for what a trusted runner finds
	Accepted                   // there is a result, and who gave it is paid
	Rejected                   // an audit found another result than every worker's
	Indeterminate              // nobody can tell: money released, nobody fined
)

var stateNames = []string{"assigned", "committing", "revealing", "auditing", "accepted", "rejected", "indeterminate"}

// Over reports whether s is final.
func (s State) Over() bool { return s >= Accepted }

// String returns the state's name in small letters.
func (s State) String() string { return nameOf(stateNames, int(s)) }

// MarshalText implements [encoding.TextMarshaler]; [ErrText] for no state.
func (s State) MarshalText() ([]byte, error) { return textOf(stateNames, int(s)) }

// UnmarshalText implements [encoding.TextUnmarshaler]; [ErrText] for no state.
func (s *State) UnmarshalText(text []byte) error { return fromText(stateNames, text, s) }

// A Standing is what a round says of one worker, and what follows from it:
//
//	standing    paid  fined  score       when
//	Agreed      yes   no     +1, see (1) revealed in time, and it is the result
//	Wrong       no    yes    0           an audit found another result
//	Copied      no    yes    0           committed another worker's commitment, which that worker opened
//	Misopened   no    no     two thirds  committed; reveals came, none opened the commitment
//	Missing     no    no     two thirds  committed, and revealed nothing
//	Late        no    no     as it was   revealed after the deadline, while an audit was under way
//	Absent      no    no     as it was   never committed, or too late
//	Outvoted    no    no     as it was   another result had the weight, and nobody can audit
//	Undecided   no    no     as it was   revealed, and nobody can tell
//
// (1) only if somebody else agreed, or an audit did.
//
// A failure is not a lie: whoever is slow, away or garbled is not fined. Fined are
// those alone of whom a stranger can be shown that they lied ([Evidence]). And
// after an outcome of [Indeterminate] nobody is: a copy counts as Missing then.
type Standing uint8

// The standings of a worker.
const (
	Pending Standing = iota // the round is not over
	Agreed
	Wrong
	Copied
	Misopened
	Missing
	Late
	Absent
	Outvoted
	Undecided
)

var standingNames = []string{"pending", "agreed", "wrong", "copied", "misopened", "missing", "late", "absent", "outvoted", "undecided"}

// Paid reports whether the worker is owed its price.
func (s Standing) Paid() bool { return s == Agreed }

// Fined reports whether the worker's bond is drawn.
func (s Standing) Fined() bool { return s == Wrong || s == Copied }

// String returns the standing's name in small letters.
func (s Standing) String() string { return nameOf(standingNames, int(s)) }

// MarshalText implements [encoding.TextMarshaler]; [ErrText] for no standing.
func (s Standing) MarshalText() ([]byte, error) { return textOf(standingNames, int(s)) }

// UnmarshalText implements [encoding.TextUnmarshaler]; [ErrText] for no standing.
func (s *Standing) UnmarshalText(text []byte) error { return fromText(standingNames, text, s) }

// A Reason is why a round called for an audit.
type Reason uint8

// The reasons, in the order in which they are looked for.
const (
	NoReason Reason = iota // the replicas decide by themselves
	Disputed               // they revealed different results
	Lone                   // several were asked, and one revealed
	Newcomer               // one of those who revealed is a newcomer
	Weak                   // they agree, and their weight is below the trust that is asked for
	Drawn                  // they agree, and the ticket drew an audit
)

var reasonNames = []string{"none", "disputed", "lone", "newcomer", "weak", "drawn"}

// String returns the reason's name in small letters.
func (r Reason) String() string { return nameOf(reasonNames, int(r)) }

// MarshalText implements [encoding.TextMarshaler]; [ErrText] for no reason.
func (r Reason) MarshalText() ([]byte, error) { return textOf(reasonNames, int(r)) }

// UnmarshalText implements [encoding.TextUnmarshaler]; [ErrText] for no reason.
func (r *Reason) UnmarshalText(text []byte) error { return fromText(reasonNames, text, r) }

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown(%d)", i)
}

func textOf(names []string, i int) ([]byte, error) {
	if i < len(names) {
		return []byte(names[i]), nil
	}
	return nil, fmt.Errorf("%w: value %d", ErrText, i)
}

func fromText[T ~uint8](names []string, text []byte, v *T) error {
	i := slices.Index(names, string(text))
	if i < 0 {
		return fmt.Errorf("%w: %.20q", ErrText, text)
	}
	*v = T(i)
	return nil
}
