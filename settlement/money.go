package settlement

import (
	"errors"
	"fmt"
	"math"
)

// Move is the rule of money: what t does to the balances of its two accounts,
// in a ledger with the given issuer. Every ledger calls it, so that none decides
// by itself. The issuer's balance is what is outstanding: it grows by what the
// issuer gives and shrinks by what it takes.
//
// Possible errors, with nothing moved: [ErrInsufficient], [ErrOverflow],
// [ErrCorrupt] (more is burned than is outstanding, though an account has it).
// Move does not call Validate.
func (t *Transfer) Move(issuer string, from, to uint64) (fromAfter, toAfter uint64, err error) {
	n := t.Amount
	issues, burns := t.From == issuer, t.To == issuer
	switch {
	case issues && n > math.MaxUint64-from:
		return 0, 0, fmt.Errorf("%w: %d are outstanding, %d more", ErrOverflow, from, n)
	case !issues && n > from:
		return 0, 0, fmt.Errorf("%w: %q has %d, %d are asked", ErrInsufficient, t.From, from, n)
	case burns && n > to:
		return 0, 0, fmt.Errorf("%w: %d to be burned, %d outstanding", ErrCorrupt, n, to)
	case !burns && n > math.MaxUint64-to:
		return 0, 0, fmt.Errorf("%w: %q has %d, %d more", ErrOverflow, t.To, to, n)
	}
	if issues {
		return from + n, to + n, nil
	}
	if burns {
		return from - n, to - n, nil
	}
	return from - n, to + n, nil
}

// Again is the answer to t when old, with the same ID, was applied before:
// Duplicate, or an error that wraps [ErrConflict]. The content is the same when
// every field is.
func (t *Transfer) Again(old *Transfer) (Result, error) {
	if *old != *t {
		return 0, fmt.Errorf("%w: %s moved %d from %q to %q", ErrConflict, old.ID, old.Amount, old.From, old.To)
	}
	return Duplicate, nil
}

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

// ReasonOf tells a transfer that cannot be applied from a ledger that cannot
// answer now. ok is true when err is a ledger's refusal of that one transfer.
func ReasonOf(err error) (reason Reason, ok bool) {
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
