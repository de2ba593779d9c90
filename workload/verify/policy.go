package verify

import (
	"fmt"
	"time"
)

// Defaults of a [Policy].
const (
	// DefaultNewcomer is the score below which a worker is a newcomer. BOINC trusts
	// a host with unreplicated work from ten consecutive valid results on.
	DefaultNewcomer = 10
	// DefaultWindow is the time for each step.
	DefaultWindow = time.Hour
)

// A Policy says how one task is verified. What it costs is known beforehand:
// Replicas executions, and one more where there is an audit.
type Policy struct {
	// Replicas is how many workers do the task. Defaults to 1.
	Replicas int
	// Trust is how sure an agreement has to be: a result is believed without an
	// audit if its credibility is above 1 - 1/Trust. See [Identities] for how many
	// fresh names reach it. Defaults to 1, which any result reaches.
	Trust uint64
	// Audit is the probability that replicas that agree are audited all the same,
	// as [AuditProbability] gives it for the price. Newcomers, replicas that remain
	// alone and disputes are audited always. Defaults to [Floor], which is also the
	// least.
	Audit Probability
	// NoAudits says that nobody can execute the task again. Then the weights decide
	// alone: a result that has the trust is accepted, and without one the round is
	// Indeterminate. Nobody is ever fined for a wrong result, so there is no bond
	// that makes lying a loss: a collusion that reaches Trust is believed.
	NoAudits bool
	// Newcomer is the score below which a worker is a newcomer. Defaults to
	// [DefaultNewcomer].
	Newcomer uint64
	// CommitWithin, RevealWithin and AuditWithin are the times for each step, from
	// the moment at which it opens. Default to [DefaultWindow].
	CommitWithin, RevealWithin, AuditWithin time.Duration
}

// filled returns p with its defaults, or an error that wraps [ErrOptions].
func (p Policy) filled() (Policy, error) {
	setDefault(&p.Replicas, 1)
	setDefault(&p.Trust, 1)
	setDefault(&p.Newcomer, DefaultNewcomer)
	for _, d := range [...]*time.Duration{&p.CommitWithin, &p.RevealWithin, &p.AuditWithin} {
		setDefault(d, DefaultWindow)
		if *d < 0 {
			return p, fmt.Errorf("%w: a step of %v", ErrOptions, *d)
		}
	}
	switch {
	case p.Replicas < 1 || p.Replicas > MaxReplicas:
		return p, fmt.Errorf("%w: %d replicas, from 1 to %d", ErrOptions, p.Replicas, MaxReplicas)
	case p.NoAudits && p.Audit != 0:
		return p, fmt.Errorf("%w: NoAudits, and audits with a probability of %v", ErrOptions, p.Audit)
	case p.NoAudits:
		return p, nil
	}
	setDefault(&p.Audit, Floor)
	if p.Audit < Floor || p.Audit > Certain {
		return p, fmt.Errorf("%w: audits with a probability of %v, from %v to %v", ErrOptions, p.Audit, Floor, Certain)
	}
	return p, nil
}

func setDefault[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}
