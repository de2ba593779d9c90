package verify

import (
	"bytes"
	"math/big"
	"slices"

	"github.com/computemarket/computemarket/workload"
)

// State returns where the round stands: [Assigned] for the zero Round.
func (r *Round) State() State {
	if r.state == nil {
		return Assigned
	}
	switch r.step {
	case stepReveal:
		return Revealing
	case stepAudit:
		return Auditing
	case stepOver:
		result, ok := r.result()
		switch {
		case !ok:
			return Indeterminate
		case slices.ContainsFunc(r.replicas, func(rep replica) bool { return rep.opened == openedTime && rep.result == result }):
			return Accepted
		}
		return Rejected
	}
	if slices.ContainsFunc(r.replicas, func(rep replica) bool { return !rep.commitment.IsZero() }) {
		return Committing
	}
	return Assigned
}

// A Verdict is the outcome of a round.
type Verdict struct {
	State State `json:"state"` // Accepted, Rejected or Indeterminate
	// Result is what was accepted, or what the audit found where all workers were
	// rejected. It is zero where nobody can tell.
	Result  workload.Hash `json:"result,omitzero"`
	Reason  Reason        `json:"reason"`  // why an audit was called for
	Audited bool          `json:"audited"` // whether one came
	// Workers are those who were assigned, in the order of [New].
	Workers []WorkerVerdict `json:"workers"`
}

// A WorkerVerdict is what the outcome means for one worker.
type WorkerVerdict struct {
	Worker   string   `json:"worker"`
	Standing Standing `json:"standing"`
	// Confirmed says that an audit or another party found the same result. Only
	// such work makes a worker more credible.
	Confirmed bool `json:"confirmed,omitempty"`
	// Evidence is there where Standing is fined.
	Evidence *Evidence `json:"evidence,omitempty"`
}

// Verdict returns the outcome, and whether there is one yet.
func (r *Round) Verdict() (Verdict, bool) {
	if r.state == nil || r.step != stepOver {
		return Verdict{}, false
	}
	v := Verdict{State: r.State(), Reason: r.reason(), Audited: !r.audit.IsZero()}
	v.Result, _ = r.result()
	agreed := 0
	for i := range r.replicas {
		if rep := &r.replicas[i]; rep.opened == openedTime && rep.result == v.Result {
			agreed++
		}
	}
	for i := range r.replicas {
		w := WorkerVerdict{Worker: r.replicas[i].who.Worker, Standing: r.standing(&r.replicas[i], &v)}
		w.Confirmed = w.Standing == Agreed && (v.Audited || agreed > 1)
		if w.Standing.Fined() {
			w.Evidence = r.evidence(&r.replicas[i], w.Standing)
		}
		v.Workers = append(v.Workers, w)
	}
	return v, true
}

func (r *state) standing(rep *replica, v *Verdict) Standing {
	decided := v.State != Indeterminate
	switch {
	case rep.commitment.IsZero():
		return Absent
	case decided && r.owner(rep) != nil:
		return Copied
	case rep.opened == notOpened:
		return Missing
	case rep.opened == misopened:
		return Misopened
	case v.Audited && rep.result != r.audit:
		return Wrong
	case rep.opened == openedLate:
		return Late
	case !decided:
		return Undecided
	case rep.result != v.Result:
		return Outvoted
	}
	return Agreed
}

// owner returns who opened the commitment that rep has too and did not open.
func (r *state) owner(rep *replica) *replica {
	if rep.opened >= openedTime {
		return nil
	}
	for i := range r.replicas {
		if o := &r.replicas[i]; o.opened >= openedTime && o.commitment == rep.commitment {
			return o
		}
	}
	return nil
}

// result is what the round found, if it found anything.
func (r *state) result() (workload.Hash, bool) {
	switch {
	case !r.audit.IsZero():
		return r.audit, true
	case r.reason() != NoReason: // an audit was called for, and none came
		return workload.Hash{}, false
	}
	groups := r.groups()
	for _, g := range groups {
		if trusted(r.policy.Trust, g.weight, groups) {
			return g.result, true
		}
	}
	return workload.Hash{}, false
}

// reason says why the reveals that came in time call for an audit.
func (r *state) reason() Reason {
	groups := r.groups()
	if r.policy.NoAudits || len(groups) == 0 {
		return NoReason
	}
	revealed, newcomer := 0, false
	for i := range r.replicas {
		if rep := &r.replicas[i]; rep.opened == openedTime {
			revealed++
			newcomer = newcomer || rep.who.Score < r.policy.Newcomer
		}
	}
	switch {
	case len(groups) > 1:
		return Disputed
	case revealed == 1 && r.policy.Replicas > 1:
		return Lone
	case newcomer:
		return Newcomer
	case !trusted(r.policy.Trust, groups[0].weight, groups):
		return Weak
	case r.ticket.Hits(r.policy.Audit):
		return Drawn
	}
	return NoReason
}

// A group is those who revealed one result in time.
type group struct {
	result workload.Hash
	weight *big.Int
}

// groups returns the groups in the order of their results' bytes.
func (r *state) groups() []group {
	var groups []group
	for i := range r.replicas {
		rep := &r.replicas[i]
		if rep.opened != openedTime {
			continue
		}
		w := new(big.Int).SetUint64(Weight(rep.who.Score))
		j := slices.IndexFunc(groups, func(g group) bool { return g.result == rep.result })
		if j < 0 {
			groups = append(groups, group{rep.result, w})
		} else {
			groups[j].weight.Mul(groups[j].weight, w)
		}
	}
	slices.SortFunc(groups, func(a, b group) int { return bytes.Compare(a.result[:], b.result[:]) })
	return groups
}
