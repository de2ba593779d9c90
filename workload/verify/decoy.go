package verify

import (
	"fmt"

	"github.com/computemarket/computemarket/workload"
)

const contextDecoy = "computemarket 2026-11-26 workload/verify decoy v1"

// A Decoy is an audit whose answer is known: a task that was decided before, with
// a claim that is wrong. An auditor that says what it is shown, or what a worker
// whispers, or anything at all without executing, is wrong about it. Truebit calls
// it a forced error, and has it for the same reason: nobody goes on looking where
// nothing is ever found.
//
// Send decoys among real requests, which they look like. An auditor that can tell
// them apart is not watched: give the task a new ID, and an input that the auditor
// cannot know from elsewhere, such as one whose result was never published.
//
// Like [Secret] it does not print what it knows.
type Decoy struct {
	*decoy
}

type decoy struct {
	request AuditRequest
	known   workload.Hash
}

// NewDecoy makes a decoy of t, whose result is known. The wrong claim comes from
// the secret: the same arguments give the same decoy, so it need not be stored.
func NewDecoy(secret Secret, t Task, known workload.Hash) (Decoy, error) {
	if err := t.validate(); err != nil {
		return Decoy{}, err
	}
	if known.IsZero() {
		return Decoy{}, fmt.Errorf("%w: no known result", ErrInvalid)
	}
	claim := workload.Hash(derive(contextDecoy, secret[:], []byte(t.ID), []byte(t.Class), t.Input[:], known[:]))
	return Decoy{&decoy{AuditRequest{Task: t, Claims: []workload.Hash{claim}}, known}}, nil
}

// Request returns what the auditor is asked: nothing for the zero Decoy.
func (d Decoy) Request() AuditRequest {
	if d.decoy == nil {
		return AuditRequest{}
	}
	return AuditRequest{Task: d.request.Task, Claims: append([]workload.Hash(nil), d.request.Claims...)}
}

// Judge returns nil if the auditor's answer is the known result, and an error that
// wraps [ErrAuditor] otherwise. Believe no audit of an auditor that was wrong: have
// what it audited audited again.
func (d Decoy) Judge(result workload.Hash) error {
	switch {
	case d.decoy == nil:
		return fmt.Errorf("%w: a Decoy that NewDecoy did not make", ErrOptions)
	case result == d.known:
		return nil
	case result == d.request.Claims[0]:
		return fmt.Errorf("%w: it repeated the claim", ErrAuditor)
	}
	return fmt.Errorf("%w: it found something else", ErrAuditor)
}

// String hides the answer.
func (d Decoy) String() string { return fmt.Sprintf("verify.Decoy(%q)", d.Request().Task.ID) }

// Format hides the answer, whatever the verb.
func (d Decoy) Format(f fmt.State, _ rune) { fmt.Fprint(f, d.String()) }
