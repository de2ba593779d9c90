package verify

import (
	"bytes"
	"fmt"

	"github.com/computemarket/computemarket/workload"
)

// Evidence shows that a worker lied, to somebody who believes neither the market
// nor the auditor. It has everything that [VerifyEvidence] looks at, and stands in
// JSON as it is.
type Evidence struct {
	Task     Task     `json:"task"`
	Worker   string   `json:"worker"`
	Standing Standing `json:"standing"` // Wrong or Copied
	// Commitment is the worker's, and Signature what it gave with it. That the
	// commitment is the worker's is for the reader to check, by the worker's key;
	// all else follows from it.
	Commitment Commitment `json:"commitment"`
	Signature  []byte     `json:"signature,omitempty"`
	// Opener is who the commitment names and who opened it: the worker itself where
	// it is Wrong, and whom it copied from where it is Copied.
	Opener string        `json:"opener"`
	Result workload.Hash `json:"result"`
	Salt   Salt          `json:"salt"`
	// Audit is what the market's auditor found, where the worker is Wrong.
	Audit workload.Hash `json:"audit,omitzero"`
}

func (r *state) evidence(rep *replica, s Standing) *Evidence {
	opener := rep
	e := &Evidence{Task: r.task, Worker: rep.who.Worker, Standing: s, Commitment: rep.commitment, Signature: bytes.Clone(rep.signature)}
	if s == Copied {
		opener = r.owner(rep)
	} else {
		e.Audit = r.audit
	}
	e.Opener, e.Result, e.Salt = opener.who.Worker, opener.result, opener.salt
	return e
}

// VerifyEvidence returns nil if e shows that its worker is at fault, and an error
// that wraps [ErrEvidence] otherwise. It needs nothing but e and the truth:
//
//   - Of a worker that is Wrong it checks that the commitment binds that worker to
//     e.Result, and that this is not the truth. The truth is what the task gives:
//     execute it on a machine of its class, and hash what comes out. Do not pass
//     e.Audit, unless you believe the auditor.
//   - Of one that is Copied it checks that the commitment names somebody else, who
//     opened it. The truth does not matter.
//
// Check beforehand that the worker made the commitment: that its key signed
// e.Commitment, say. Whoever can write a commitment in the worker's name can make
// evidence.
func VerifyEvidence(e Evidence, truth workload.Hash) error {
	if err := e.Task.validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrEvidence, err)
	}
	if e.Commitment != Commit(e.Task, e.Opener, e.Result, e.Salt) {
		return fmt.Errorf("%w: the commitment was not opened", ErrEvidence)
	}
	switch {
	case e.Standing == Wrong && e.Opener != e.Worker:
		return fmt.Errorf("%w: somebody else opened the commitment", ErrEvidence)
	case e.Standing == Wrong && truth.IsZero():
		return fmt.Errorf("%w: nothing to compare with", ErrEvidence)
	case e.Standing == Wrong && e.Result == truth:
		return fmt.Errorf("%w: the result is right", ErrEvidence)
	case e.Standing == Copied && e.Opener == e.Worker:
		return fmt.Errorf("%w: the worker opened its own commitment", ErrEvidence)
	case !e.Standing.Fined():
		return fmt.Errorf("%w: %v is no fault", ErrEvidence, e.Standing)
	}
	return nil
}
