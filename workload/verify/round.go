package verify

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/computemarket/computemarket/workload"
)

// A Round verifies one task: it gathers commitments, then reveals, has the result
// audited where that is called for, and says whom to believe. [New] makes one; the
// zero Round answers every message with [ErrOptions].
//
// A Round is memory without locks, clocks or I/O: give each message to it under a
// lock of your own, then store it ([Round.MarshalBinary]) in the same atomic write
// as what follows from the message. A copy of a Round is the same round. Messages
// that come twice are answered as the first time.
//
// Every method that takes a time first does what time has done, as [Round.Tick]
// does, and that stays done even when the message itself is refused. The times
// may come from any clock. One that goes back undoes nothing. A clock that jumps
// forward ends a step early, and one that runs while the market is down ends it
// before workers had their time; a market that wants neither gives times of a
// clock that counts only while it serves.
//
// A Round says nothing of a result before it is over: not in what it prints,
// whatever the verb and wherever it stands, nor in its JSON, its errors or its
// [View]. Two calls know
// more: [Round.AuditRequest], which is for the auditor, and the binary form, which
// is for the market's own store. Neither has any result before all have committed,
// since a Round does not take one before that.
type Round struct {
	*state // behind a pointer, so that fmt does not print it out of another struct either
}

type state struct {
	task     Task
	policy   Policy
	ticket   Ticket
	step     step
	deadline time.Time // of the step; zero when over
	audit    workload.Hash
	replicas []replica
}

// A step is what a Round waits for.
type step uint8

const (
	stepCommit step = iota + 1
	stepReveal
	stepAudit
	stepOver
)

type replica struct {
	who        Candidate
	commitment Commitment // zero: none came
	signature  []byte
	opened     opened
	result     workload.Hash
	salt       Salt
}

// opened is what became of a commitment.
type opened uint8

const (
	notOpened  opened = iota
	misopened         // reveals came, none that opens it
	openedTime        // in time
	openedLate        // after the deadline
)

// New starts a round of t by the chosen workers, as [Choose] picks them, at now.
// The ticket is that of [Secret.Ticket]. Scores and classes are taken as the
// candidates have them.
//
// Possible errors: [ErrOptions] (the policy), [ErrInvalid] (names, as many workers
// as the policy wants, two of one party), [ErrClass].
func New(t Task, chosen []Candidate, policy Policy, ticket Ticket, now time.Time) (*Round, error) {
	policy, err := policy.filled()
	if err != nil {
		return nil, err
	}
	if len(chosen) != policy.Replicas {
		return nil, fmt.Errorf("%w: %d workers for %d replicas", ErrInvalid, len(chosen), policy.Replicas)
	}
	r := &state{task: t, policy: policy, ticket: ticket}
	for _, c := range chosen {
		r.replicas = append(r.replicas, replica{who: c})
	}
	if err := r.validateWho(); err != nil {
		return nil, err
	}
	r.enter(stepCommit, now)
	return &Round{r}, nil
}

// validateWho checks the task and those who do it.
func (r *state) validateWho() error {
	if err := r.task.validate(); err != nil {
		return err
	}
	taken := make(map[string]bool)
	for i := range r.replicas {
		c := &r.replicas[i].who
		if err := c.validate(); err != nil {
			return err
		}
		if !c.does(&r.task) {
			return fmt.Errorf("%w: a worker of class %q for a task of class %q", ErrClass, c.Class, r.task.Class)
		}
		if taken["w"+c.Worker] || taken["p"+c.party()] {
			return fmt.Errorf("%w: two replicas for one party", ErrInvalid)
		}
		taken["w"+c.Worker], taken["p"+c.party()] = true, true
	}
	return nil
}

// Commit takes worker's commitment. The market has to know that the message is
// worker's. The signature is what convinces others of that, such as one of the 32
// bytes of the commitment under the worker's key, or nothing: it is kept as it is,
// and stands in the [Evidence] against the worker.
//
// A commitment that equals another worker's is taken like any other, and nobody is
// told: whoever sent it first may be the thief. Only the worker that it names can
// open it, and when that one does, the other is [Copied].
//
// Possible errors: [ErrInvalid], [ErrCommitted], [ErrLate].
func (r *Round) Commit(worker string, c Commitment, signature []byte, now time.Time) error {
	rep, err := r.replica(worker, now)
	switch {
	case err != nil:
		return err
	case c.IsZero():
		return fmt.Errorf("%w: no commitment", ErrInvalid)
	case len(signature) > MaxSignature:
		return fmt.Errorf("%w: a signature of %d bytes, at most %d", ErrInvalid, len(signature), MaxSignature)
	case rep.commitment == c && bytes.Equal(rep.signature, signature):
		return nil
	case !rep.commitment.IsZero():
		return ErrCommitted
	case r.step != stepCommit:
		return ErrLate
	}
	rep.commitment, rep.signature = c, bytes.Clone(signature)
	r.proceed(now, false)
	return nil
}

// Reveal takes the result and the salt of worker's commitment. The market has to
// know that the message is worker's.
//
// A reveal that does not open the commitment is refused, and another may follow
// until the deadline; if none opens it, the worker is [Misopened]. One that comes
// late is refused as well. While an audit is under way it makes the worker [Late]
// instead of [Missing], and [Wrong] if the audit finds another result.
//
// Possible errors: [ErrInvalid], [ErrEarly], [ErrLate], [ErrReveal].
func (r *Round) Reveal(worker string, result workload.Hash, salt Salt, now time.Time) error {
	rep, err := r.replica(worker, now)
	switch {
	case err != nil:
		return err
	case result.IsZero():
		return fmt.Errorf("%w: no result", ErrInvalid)
	case r.step == stepCommit:
		return ErrEarly
	case rep.commitment.IsZero():
		return ErrLate
	}
	opens := Commit(r.task, worker, result, salt) == rep.commitment
	switch {
	case opens && rep.opened == openedTime:
		return nil
	case opens && r.step == stepReveal:
		rep.opened, rep.result, rep.salt = openedTime, result, salt
		r.proceed(now, false)
		return nil
	case opens && r.step == stepAudit:
		rep.opened, rep.result, rep.salt = openedLate, result, salt
		return ErrLate
	case r.step != stepReveal:
		return ErrLate
	case rep.opened == notOpened:
		rep.opened = misopened
	}
	return ErrReveal
}

// An AuditRequest is what an auditor is asked. Those of a round and those of a
// [Decoy] look alike.
type AuditRequest struct {
	Task Task `json:"task"`
	// Claims are the results that workers gave, in order of their bytes. The auditor
	// does not need them: it executes the task and says what comes out.
	Claims []workload.Hash `json:"claims"`
}

// AuditRequest returns what to ask the auditor, and whether the round waits for an
// audit. Show it to the auditor alone.
func (r *Round) AuditRequest() (AuditRequest, bool) {
	if r.state == nil || r.step != stepAudit {
		return AuditRequest{}, false
	}
	var claims []workload.Hash
	for _, g := range r.groups() {
		claims = append(claims, g.result)
	}
	return AuditRequest{Task: r.task, Claims: claims}, true
}

// Audit takes what a trusted runner found when it executed the task on a machine
// of the given class, and decides the round: whoever revealed that result agreed,
// whoever revealed another is [Wrong]. A runner whose result stands against all
// workers should execute once more, on another machine of the class, before it
// says so.
//
// Possible errors: [ErrInvalid], [ErrClass], [ErrNoAudit].
func (r *Round) Audit(result workload.Hash, class string, now time.Time) error {
	if r.state == nil {
		return errZero
	}
	r.Tick(now)
	switch {
	case result.IsZero():
		return fmt.Errorf("%w: no result", ErrInvalid)
	case r.task.Class != "" && class != r.task.Class:
		return fmt.Errorf("%w: an audit on %.256q", ErrClass, class)
	case r.audit == result:
		return nil
	case r.step != stepAudit:
		return ErrNoAudit
	}
	r.audit = result
	r.enter(stepOver, now)
	return nil
}

// Unaudited says that no audit will come, such as when the runner found two
// different results itself. The round is [Indeterminate].
//
// Possible errors: [ErrNoAudit].
func (r *Round) Unaudited(now time.Time) error {
	if r.state == nil {
		return errZero
	}
	r.Tick(now)
	if r.step != stepAudit {
		return ErrNoAudit
	}
	r.enter(stepOver, now)
	return nil
}

// Tick does what time has done by now, and returns the state. Call it when
// [Round.Deadline] is reached.
func (r *Round) Tick(now time.Time) State {
	if r.state != nil && r.step != stepOver && !now.Before(r.deadline) {
		r.proceed(now, true)
	}
	return r.State()
}

// Deadline returns when the present step ends, and whether there is one: a round
// that is over waits for nothing.
func (r *Round) Deadline() (time.Time, bool) {
	if r.state == nil || r.step == stepOver {
		return time.Time{}, false
	}
	return r.deadline, true
}

var errZero = fmt.Errorf("%w: a Round that New did not make", ErrOptions)

// replica does what time has done, and returns what worker has to do here.
func (r *Round) replica(worker string, now time.Time) (*replica, error) {
	if r.state == nil {
		return nil, errZero
	}
	r.Tick(now)
	i := slices.IndexFunc(r.replicas, func(rep replica) bool { return rep.who.Worker == worker })
	if i < 0 {
		return nil, fmt.Errorf("%w: not a worker of this task", ErrInvalid)
	}
	return &r.replicas[i], nil
}

// proceed goes on to the next step if this one has nothing left to wait for, or
// its time is over. One call goes one step: the time of the next one begins now,
// however late it is.
func (r *state) proceed(now time.Time, over bool) {
	waiting, committed, revealed := 0, 0, 0
	for i := range r.replicas {
		rep := &r.replicas[i]
		switch {
		case rep.commitment.IsZero():
			waiting++
		case rep.opened == openedTime:
			committed++
			revealed++
		default:
			committed++
		}
	}
	switch r.step {
	case stepCommit:
		switch {
		case committed > 0 && (over || waiting == 0):
			r.enter(stepReveal, now)
		case over:
			r.enter(stepOver, now)
		}
	case stepReveal:
		switch {
		case !over && revealed < committed:
		case r.reason() != NoReason:
			r.enter(stepAudit, now)
		default:
			r.enter(stepOver, now)
		}
	case stepAudit:
		if over {
			r.enter(stepOver, now)
		}
	}
}

func (r *state) enter(s step, now time.Time) {
	r.step = s
	switch s {
	case stepCommit:
		r.deadline = later(now, r.policy.CommitWithin)
	case stepReveal:
		r.deadline = later(now, r.policy.RevealWithin)
	case stepAudit:
		r.deadline = later(now, r.policy.AuditWithin)
	default:
		r.deadline = time.Time{}
	}
}

var (
	firstInstant = time.Unix(0, math.MinInt64).UTC()
	lastInstant  = time.Unix(0, math.MaxInt64).UTC()
)

// later is now + d as it comes back from a store. It saturates: within the years
// that 64 bits of nanoseconds can count.
func later(now time.Time, d time.Duration) time.Time {
	now = now.UTC() // and without its monotonic reading
	switch {
	case now.Before(firstInstant):
		now = firstInstant
	case now.After(lastInstant.Add(-d)):
		return lastInstant
	}
	return now.Add(d)
}
