package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/computemarket/computemarket/workload"
)

var (
	epoch        = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	right, wrong = workload.Hash{1}, workload.Hash{2}
)

// A table is a round with what its workers know.
type table struct {
	*testing.T
	*Round
	now time.Time
}

// seat starts a round of established workers a, b, c … whose ticket draws nothing.
func seat(t *testing.T, p Policy, scores ...uint64) *table {
	t.Helper()
	p.Replicas = len(scores)
	var chosen []Candidate
	for i, score := range scores {
		chosen = append(chosen, Candidate{Worker: string(rune('a' + i)), Score: score})
	}
	r, err := New(theTask, chosen, p, math.MaxUint64, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return &table{t, r, epoch}
}

func saltOf(worker string) Salt { return Salt{worker[0]} }

func (r *table) commit(worker string, result workload.Hash, want error) {
	r.Helper()
	r.put(worker, Commit(theTask, worker, result, saltOf(worker)), want)
}

func (r *table) put(worker string, c Commitment, want error) {
	r.Helper()
	if err := r.Round.Commit(worker, c, []byte("by "+worker), r.now); !errors.Is(err, want) {
		r.Errorf("commit by %s: %v, want %v", worker, err, want)
	}
}

func (r *table) reveal(worker string, result workload.Hash, want error) {
	r.Helper()
	if err := r.Round.Reveal(worker, result, saltOf(worker), r.now); !errors.Is(err, want) {
		r.Errorf("reveal by %s: %v, want %v", worker, err, want)
	}
}

func (r *table) found(result workload.Hash, want error) {
	r.Helper()
	if err := r.Round.Audit(result, "", r.now); !errors.Is(err, want) {
		r.Errorf("audit: %v, want %v", err, want)
	}
}

// expire lets the present step run out.
func (r *table) expire() {
	r.Helper()
	by, ok := r.Round.Deadline()
	if !ok {
		r.Fatal("nothing to wait for")
	}
	before := r.Round.State()
	if r.Tick(by.Add(-1)) != before {
		r.Errorf("%v ended before its deadline", before)
	}
	r.now = by
	r.Tick(by)
}

func (r *table) state(want State) {
	r.Helper()
	if got := r.Round.State(); got != want {
		r.Errorf("%v, want %v", got, want)
	}
}

func (r *table) verdict(state State, result workload.Hash, reason Reason, standings ...Standing) Verdict {
	r.Helper()
	v, ok := r.Verdict()
	if !ok {
		r.Fatalf("no verdict, state %v", r.Round.State())
	}
	if v.State != state || v.Result != result || v.Reason != reason || len(v.Workers) != len(standings) {
		r.Errorf("verdict %v %v %v, want %v %v %v", v.State, v.Result, v.Reason, state, result, reason)
	}
	for i, w := range v.Workers {
		if w.Standing != standings[i] {
			r.Errorf("%s: %v, want %v", w.Worker, w.Standing, standings[i])
		}
		if (w.Evidence != nil) != w.Standing.Fined() {
			r.Errorf("%s is %v with evidence %v", w.Worker, w.Standing, w.Evidence)
		}
		if w.Evidence != nil {
			if err := VerifyEvidence(*w.Evidence, result); err != nil {
				r.Errorf("evidence against %s: %v", w.Worker, err)
			}
			if string(w.Evidence.Signature) != "by "+w.Worker {
				r.Errorf("signature %q", w.Evidence.Signature)
			}
		}
	}
	return v
}

func TestAgreement(t *testing.T) {
	r := seat(t, Policy{}, 30, 30)
	r.state(Assigned)
	r.commit("a", right, nil)
	r.state(Committing)
	r.reveal("a", right, ErrEarly)
	r.commit("b", right, nil)
	r.state(Revealing)
	r.reveal("a", right, nil)
	r.state(Revealing)
	r.reveal("b", right, nil)
	v := r.verdict(Accepted, right, NoReason, Agreed, Agreed)
	if !v.Workers[0].Confirmed || v.Audited {
		t.Errorf("%+v", v)
	}
	// Everything once more: the same answers, and nothing changes.
	r.commit("a", right, nil)
	r.commit("a", wrong, ErrCommitted)
	r.reveal("a", right, nil)
	r.reveal("a", wrong, ErrLate)
	r.found(right, ErrNoAudit)
	r.verdict(Accepted, right, NoReason, Agreed, Agreed)
}

func TestLoneWorkOfOneIsNotConfirmed(t *testing.T) {
	r := seat(t, Policy{}, 30)
	r.commit("a", right, nil)
	r.reveal("a", right, nil)
	if v := r.verdict(Accepted, right, NoReason, Agreed); v.Workers[0].Confirmed {
		t.Error("confirmed by nobody")
	}
}

func TestDisputeIsAudited(t *testing.T) {
	r := seat(t, Policy{}, 3000, 3000, 30)
	r.commit("a", wrong, nil)
	r.commit("b", wrong, nil)
	r.commit("c", right, nil)
	r.reveal("a", wrong, nil)
	r.reveal("b", wrong, nil)
	r.reveal("c", right, nil)
	r.state(Auditing)
	if _, ok := r.Verdict(); ok {
		t.Error("a verdict before the audit")
	}
	request, ok := r.AuditRequest()
	if !ok || request.Task != theTask || len(request.Claims) != 2 || request.Claims[0] != right || request.Claims[1] != wrong {
		t.Errorf("%+v, %v", request, ok)
	}
	r.found(right, nil)
	v := r.verdict(Accepted, right, Disputed, Wrong, Wrong, Agreed)
	if !v.Workers[2].Confirmed || !v.Audited {
		t.Errorf("%+v", v)
	}
	r.found(right, nil)
	r.found(wrong, ErrNoAudit)
	if _, ok := r.AuditRequest(); ok {
		t.Error("an audit is wanted after the end")
	}
}

func TestAllWrongIsRejected(t *testing.T) {
	r := seat(t, Policy{Audit: Certain}, 30, 30)
	for _, w := range []string{"a", "b"} {
		r.commit(w, wrong, nil)
	}
	for _, w := range []string{"a", "b"} {
		r.reveal(w, wrong, nil)
	}
	r.state(Auditing)
	r.found(right, nil)
	r.verdict(Rejected, right, Drawn, Wrong, Wrong)
}

// What nobody can decide fines nobody.
func TestNoAuditCameIsIndeterminate(t *testing.T) {
	end := map[string]func(r *table){
		"deadline":  (*table).expire,
		"unaudited": func(r *table) { must(0, r.Unaudited(r.now)) },
	}
	for name, end := range end {
		t.Run(name, func(t *testing.T) {
			r := seat(t, Policy{}, 30, 30, 30)
			c := Commit(theTask, "a", right, saltOf("a"))
			r.put("b", c, nil) // b copies a
			r.commit("a", right, nil)
			r.commit("c", wrong, nil)
			r.reveal("a", right, nil)
			r.reveal("c", wrong, nil)
			r.expire()
			r.state(Auditing)
			end(r)
			r.verdict(Indeterminate, workload.Hash{}, Disputed, Undecided, Missing, Undecided)
			if err := r.Unaudited(r.now); !errors.Is(err, ErrNoAudit) {
				t.Error(err)
			}
			r.found(right, ErrNoAudit)
		})
	}
}

func TestReasonsForAnAudit(t *testing.T) {
	for name, c := range map[string]struct {
		policy   Policy
		scores   []uint64
		ticket   Ticket
		revealed int
		want     Reason
	}{
		"nothing":             {Policy{}, []uint64{10, 10}, math.MaxUint64, 2, NoReason},
		"newcomer":            {Policy{}, []uint64{9, 1000}, math.MaxUint64, 2, Newcomer},
		"newcomer alone":      {Policy{}, []uint64{9}, math.MaxUint64, 1, Newcomer},
		"stricter":            {Policy{Newcomer: 50}, []uint64{49, 1000}, math.MaxUint64, 2, Newcomer},
		"newcomer was silent": {Policy{}, []uint64{1000, 1000, 0}, math.MaxUint64, 2, NoReason},
		"lone":                {Policy{}, []uint64{1000, 1000}, math.MaxUint64, 1, Lone},
		"one was asked":       {Policy{}, []uint64{1000}, math.MaxUint64, 1, NoReason},
		"weak":                {Policy{Trust: 5}, []uint64{10, 10}, math.MaxUint64, 2, Weak},
		"strong":              {Policy{Trust: 4}, []uint64{10, 10}, math.MaxUint64, 2, NoReason},
		"drawn":               {Policy{}, []uint64{10, 10}, 0, 2, Drawn},
		"floor":               {Policy{}, []uint64{10, 10}, math.MaxUint64 / 101, 2, Drawn},
		"above the floor":     {Policy{}, []uint64{10, 10}, math.MaxUint64 / 99, 2, NoReason},
		"always":              {Policy{Audit: Certain}, []uint64{1000, 1000}, math.MaxUint64, 2, Drawn},
		"no audits":           {Policy{NoAudits: true}, []uint64{0, 0}, 0, 2, NoReason},
		"nobody revealed":     {Policy{}, []uint64{0, 0}, 0, 0, NoReason},
	} {
		t.Run(name, func(t *testing.T) {
			r := seat(t, c.policy, c.scores...)
			r.ticket = c.ticket
			for i := range c.scores {
				r.commit(string(rune('a'+i)), right, nil)
			}
			for i := range c.revealed {
				r.reveal(string(rune('a'+i)), right, nil)
			}
			if c.revealed < len(c.scores) {
				r.expire()
			}
			if got := r.reason(); got != c.want || (c.want != NoReason) != (r.Round.State() == Auditing) {
				t.Errorf("%v in state %v, want %v", got, r.Round.State(), c.want)
			}
		})
	}
}

// Without audits the weights decide, and nobody is fined for a result.
func TestNoAudits(t *testing.T) {
	r := seat(t, Policy{NoAudits: true, Trust: 10}, 0, 60, 60)
	for i, result := range []workload.Hash{wrong, right, right} {
		r.commit(string(rune('a'+i)), result, nil)
	}
	for i, result := range []workload.Hash{wrong, right, right} {
		r.reveal(string(rune('a'+i)), result, nil)
	}
	r.verdict(Accepted, right, NoReason, Outvoted, Agreed, Agreed) // 361·10 > 364·9

	r = seat(t, Policy{NoAudits: true, Trust: 10}, 0, 0, 0)
	for i, result := range []workload.Hash{wrong, right, right} {
		r.commit(string(rune('a'+i)), result, nil)
	}
	for i, result := range []workload.Hash{wrong, right, right} {
		r.reveal(string(rune('a'+i)), result, nil)
	}
	r.verdict(Indeterminate, workload.Hash{}, NoReason, Undecided, Undecided, Undecided) // 4·10 ≤ 7·9
}

// Each way to fail has its own consequence.
func TestConsequences(t *testing.T) {
	r := seat(t, Policy{Audit: Certain}, 30, 30, 30, 30, 30, 30)
	r.commit("a", right, nil)
	r.put("b", Commit(theTask, "a", right, saltOf("a")), nil) // a copy
	r.commit("c", right, nil)
	r.commit("d", right, nil)
	r.commit("e", right, nil)
	r.expire()
	r.state(Revealing)
	r.commit("f", right, ErrLate)
	r.reveal("f", right, ErrLate)
	r.reveal("a", right, nil)
	r.reveal("b", right, ErrReveal) // it cannot open a's commitment in its own name
	r.reveal("c", wrong, ErrReveal) // garbled
	r.expire()
	r.state(Auditing)
	r.reveal("e", right, ErrLate)
	r.reveal("c", wrong, ErrLate)
	r.found(right, nil)
	v := r.verdict(Accepted, right, Lone, Agreed, Copied, Misopened, Missing, Late, Absent)
	if !v.Workers[0].Confirmed || v.Workers[4].Confirmed {
		t.Errorf("%+v", v.Workers)
	}
	if v.Workers[1].Evidence.Opener != "a" {
		t.Errorf("%+v", v.Workers[1].Evidence)
	}
}

// A garbled reveal can be mended in time.
func TestRevealAgainAfterMisopening(t *testing.T) {
	r := seat(t, Policy{}, 30, 30)
	r.commit("a", right, nil)
	r.commit("b", right, nil)
	r.reveal("a", wrong, ErrReveal)
	r.reveal("a", right, nil)
	r.reveal("a", wrong, ErrReveal) // and not be spoilt again
	r.reveal("b", right, nil)
	r.verdict(Accepted, right, NoReason, Agreed, Agreed)
}

// Whoever puts a stolen commitment in first does not keep its owner out.
func TestStolenCommitmentFirst(t *testing.T) {
	r := seat(t, Policy{}, 30, 30, 30)
	c := Commit(theTask, "b", right, saltOf("b"))
	r.put("a", c, nil)
	r.put("b", c, nil)
	r.commit("c", right, nil)
	r.reveal("b", right, nil)
	r.reveal("c", right, nil)
	r.expire()
	r.verdict(Accepted, right, NoReason, Copied, Agreed, Agreed)
}

// A liar cannot wait for the others' results and then keep silent for nothing; and
// one who comes late with a wrong result is at fault like any other.
func TestLateAndWrong(t *testing.T) {
	r := seat(t, Policy{}, 30, 30)
	r.commit("a", right, nil)
	r.commit("b", wrong, nil)
	r.reveal("a", right, nil)
	r.expire()
	r.reveal("b", wrong, ErrLate)
	r.found(right, nil)
	r.verdict(Accepted, right, Lone, Agreed, Wrong)
}

func TestNobodyCommits(t *testing.T) {
	r := seat(t, Policy{}, 30, 30)
	r.expire()
	r.verdict(Indeterminate, workload.Hash{}, NoReason, Absent, Absent)
	r.commit("a", right, ErrLate)
	r.reveal("a", right, ErrLate)
	if _, ok := r.Round.Deadline(); ok {
		t.Error("it waits for something")
	}
}

func TestNobodyReveals(t *testing.T) {
	r := seat(t, Policy{}, 30, 30)
	r.commit("a", right, nil)
	r.commit("b", right, nil)
	r.expire()
	r.verdict(Indeterminate, workload.Hash{}, NoReason, Missing, Missing)
}

func TestClassOfMachine(t *testing.T) {
	task := theTask
	task.Class = "gpu"
	if _, err := New(task, []Candidate{{Worker: "a", Class: "cpu"}}, Policy{}, 0, epoch); !errors.Is(err, ErrClass) {
		t.Error(err)
	}
	r, err := New(task, []Candidate{{Worker: "a", Class: "gpu"}}, Policy{}, 0, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Commit("a", Commit(theTask, "a", right, Salt{}), nil, epoch); err != nil {
		t.Fatal(err)
	}
	if err := r.Reveal("a", right, Salt{}, epoch); !errors.Is(err, ErrReveal) {
		t.Errorf("a commitment for another class was opened: %v", err)
	}
	r, _ = New(task, []Candidate{{Worker: "a", Class: "gpu"}}, Policy{}, 0, epoch)
	if err := errors.Join(r.Commit("a", Commit(task, "a", right, Salt{}), nil, epoch), r.Reveal("a", right, Salt{}, epoch)); err != nil {
		t.Fatal(err)
	}
	for _, class := range []string{"", "cpu"} {
		if err := r.Audit(wrong, class, epoch); !errors.Is(err, ErrClass) {
			t.Errorf("an audit on %q: %v", class, err)
		}
	}
	if err := r.Audit(right, "gpu", epoch); err != nil || r.State() != Accepted {
		t.Error(err, r.State())
	}
}

func TestNewRefuses(t *testing.T) {
	two := []Candidate{{Worker: "a"}, {Worker: "b"}}
	for name, c := range map[string]struct {
		task   Task
		chosen []Candidate
		policy Policy
		want   error
	}{
		"no task":       {Task{}, two[:1], Policy{}, ErrInvalid},
		"nobody":        {theTask, nil, Policy{}, ErrInvalid},
		"too many":      {theTask, two, Policy{}, ErrInvalid},
		"too few":       {theTask, two, Policy{Replicas: 3}, ErrInvalid},
		"twice":         {theTask, []Candidate{{Worker: "a"}, {Worker: "a", Owner: "b"}}, Policy{Replicas: 2}, ErrInvalid},
		"one owner":     {theTask, []Candidate{{Worker: "a", Owner: "c"}, {Worker: "b", Owner: "c"}}, Policy{Replicas: 2}, ErrInvalid},
		"an owner's":    {theTask, []Candidate{{Worker: "a"}, {Worker: "b", Owner: "a"}}, Policy{Replicas: 2}, ErrInvalid},
		"no name":       {theTask, []Candidate{{}}, Policy{}, ErrInvalid},
		"negative":      {theTask, two, Policy{Replicas: -1}, ErrOptions},
		"65":            {theTask, two, Policy{Replicas: MaxReplicas + 1}, ErrOptions},
		"below floor":   {theTask, two[:1], Policy{Audit: Floor - 1}, ErrOptions},
		"above all":     {theTask, two[:1], Policy{Audit: Certain + 1}, ErrOptions},
		"contradiction": {theTask, two[:1], Policy{NoAudits: true, Audit: Floor}, ErrOptions},
		"time":          {theTask, two[:1], Policy{RevealWithin: -1}, ErrOptions},
	} {
		if r, err := New(c.task, c.chosen, c.policy, 0, epoch); !errors.Is(err, c.want) || r != nil {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

func TestBadMessages(t *testing.T) {
	r := seat(t, Policy{}, 30)
	before := must(r.MarshalBinary())
	for _, err := range []error{
		r.Round.Commit("x", Commitment{1}, nil, epoch),
		r.Round.Commit("a", Commitment{}, nil, epoch),
		r.Round.Commit("a", Commitment{1}, make([]byte, MaxSignature+1), epoch),
		r.Round.Reveal("x", right, Salt{}, epoch),
		r.Round.Reveal("a", workload.Hash{}, Salt{}, epoch),
		r.Round.Audit(workload.Hash{}, "", epoch),
	} {
		if !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
	}
	if !bytes.Equal(before, must(r.MarshalBinary())) {
		t.Error("something changed")
	}
}

func TestZeroRound(t *testing.T) {
	var r Round
	_, marshal := r.MarshalBinary()
	for _, err := range []error{
		r.Commit("a", Commitment{1}, nil, epoch), r.Reveal("a", right, Salt{}, epoch),
		r.Audit(right, "", epoch), r.Unaudited(epoch), marshal,
	} {
		if !errors.Is(err, ErrOptions) {
			t.Error(err)
		}
	}
	if _, ok := r.Deadline(); ok || r.Tick(epoch) != Assigned {
		t.Error(r.State())
	}
	if _, ok := r.Verdict(); ok {
		t.Error("a verdict")
	}
	if _, ok := r.AuditRequest(); ok {
		t.Error("an audit")
	}
	_ = r.View()
	_ = fmt.Sprintf("%v %#v", r, &r)
	must(json.Marshal(r))
	if err := json.Unmarshal([]byte("{}"), &r); !errors.Is(err, ErrText) {
		t.Error(err)
	}
}

// The caller's slices stay the caller's.
func TestSignatureIsCopied(t *testing.T) {
	r := seat(t, Policy{}, 30, 30)
	signature := []byte("mine")
	if err := r.Round.Commit("a", Commitment{1}, signature, epoch); err != nil {
		t.Fatal(err)
	}
	signature[0] = 'X'
	if string(r.replicas[0].signature) != "mine" {
		t.Error("kept the caller's slice")
	}
}
