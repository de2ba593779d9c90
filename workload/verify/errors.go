package verify

import (
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/internal/fault"
)

// Refused arguments. Nothing has changed.
var (
	// ErrInvalid: an argument cannot be meant, such as an empty name, a result that
	// is not set, or a worker that was not assigned. Mend the call.
	ErrInvalid = errors.New("verify: invalid argument")
	// ErrOptions: the policy contradicts itself, or a Round that [New] did not make.
	ErrOptions = fmt.Errorf("verify: %w", fault.ErrOptions)
	// ErrTooFew: fewer distinct parties are eligible than replicas are wanted. Wait
	// for more providers, or want fewer replicas.
	ErrTooFew = errors.New("verify: too few distinct providers")
	// ErrOverflow: the amount is beyond 2^64-1.
	ErrOverflow = errors.New("verify: amount overflows")
)

// Answers to a message. None of them says anything of a result, not even whether
// two are equal.
var (
	// ErrCommitted: this worker has committed to something else before. The first
	// commitment stands.
	ErrCommitted = errors.New("verify: committed before")
	// ErrEarly: reveals open when the last worker has committed or the deadline is
	// over. The reveal was not kept; send it again then.
	ErrEarly = errors.New("verify: reveals are not open yet")
	// ErrLate: the deadline for this message is over. See [Standing] for what
	// follows.
	ErrLate = errors.New("verify: too late")
	// ErrReveal: the result and the salt do not open this worker's commitment. Send
	// the right ones before the deadline; see [Misopened] for what follows if none
	// come.
	ErrReveal = errors.New("verify: the reveal does not open the commitment")
	// ErrNoAudit: the round is not waiting for an audit.
	ErrNoAudit = errors.New("verify: no audit is wanted")
	// ErrClass: the work was done on another class of machine than the task names,
	// so that its result says nothing.
	ErrClass = errors.New("verify: another class of machine")
)

// What a check by somebody else finds.
var (
	// ErrEvidence: the evidence does not show that the worker is at fault.
	ErrEvidence = errors.New("verify: the evidence does not hold")
	// ErrDraw: the secret is not the one that was published, or an audit that it
	// draws was left out.
	ErrDraw = errors.New("verify: the draw was not as published")
	// ErrAuditor: the auditor's answer to a known case is wrong.
	ErrAuditor = errors.New("verify: the auditor was wrong about a known case")
	// ErrCorrupt: stored data is not what was written.
	ErrCorrupt = fmt.Errorf("verify: %w", fault.ErrCorrupt)
	// ErrSchema: a newer release wrote the data.
	ErrSchema = fmt.Errorf("verify: %w", fault.ErrSchema)
	// ErrText: a text that names no value of its type.
	ErrText = errors.New("verify: unknown text")
)
