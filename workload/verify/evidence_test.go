package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/computemarket/computemarket/workload"
)

// Evidence that was changed in any way convinces nobody.
func TestVerifyEvidence(t *testing.T) {
	lie := Evidence{
		Task: theTask, Worker: "a", Standing: Wrong, Commitment: Commit(theTask, "a", wrong, Salt{1}),
		Opener: "a", Result: wrong, Salt: Salt{1}, Audit: right,
	}
	stolen := Evidence{
		Task: theTask, Worker: "a", Standing: Copied, Commitment: Commit(theTask, "b", right, Salt{2}),
		Opener: "b", Result: right, Salt: Salt{2},
	}
	nameless := lie
	nameless.Task.ID = ""
	nameless.Commitment = Commit(nameless.Task, "a", wrong, Salt{1})
	for name, c := range map[string]struct {
		e     Evidence
		spoil func(e *Evidence)
		truth workload.Hash
		ok    bool
	}{
		"lie":                 {lie, nil, right, true},
		"of no task":          {nameless, nil, right, false},
		"the auditor lied":    {lie, nil, wrong, false},
		"no truth":            {lie, nil, workload.Hash{}, false},
		"another task":        {lie, func(e *Evidence) { e.Task.ID = "x" }, right, false},
		"another class":       {lie, func(e *Evidence) { e.Task.Class = "gpu" }, right, false},
		"another input":       {lie, func(e *Evidence) { e.Task.Input[0]++ }, right, false},
		"no task":             {lie, func(e *Evidence) { e.Task = Task{} }, right, false},
		"another result":      {lie, func(e *Evidence) { e.Result = workload.Hash{3} }, right, false},
		"another salt":        {lie, func(e *Evidence) { e.Salt[0]++ }, right, false},
		"another commitment":  {lie, func(e *Evidence) { e.Commitment[0]++ }, right, false},
		"somebody else's":     {lie, func(e *Evidence) { e.Worker = "b" }, right, false},
		"in another's name":   {lie, func(e *Evidence) { e.Worker, e.Opener = "b", "b" }, right, false},
		"only late":           {lie, func(e *Evidence) { e.Standing = Late }, right, false},
		"pending":             {lie, func(e *Evidence) { e.Standing = Pending }, right, false},
		"its own copy":        {lie, func(e *Evidence) { e.Standing = Copied }, right, false},
		"stolen":              {stolen, nil, right, true},
		"stolen, no truth":    {stolen, nil, workload.Hash{}, true},
		"stolen from itself":  {stolen, func(e *Evidence) { e.Worker = "b" }, right, false},
		"stolen and wrong":    {stolen, func(e *Evidence) { e.Standing = Wrong }, wrong, false},
		"stolen, not opened":  {stolen, func(e *Evidence) { e.Salt[0]++ }, right, false},
		"stolen, other owner": {stolen, func(e *Evidence) { e.Opener = "c" }, right, false},
	} {
		e := c.e
		if c.spoil != nil {
			c.spoil(&e)
		}
		err := VerifyEvidence(e, c.truth)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrEvidence) {
			t.Errorf("%s: %v", name, err)
		}
		var back Evidence
		if err := json.Unmarshal(must(json.Marshal(e)), &back); err != nil && e.Standing.Fined() || !reflect.DeepEqual(back, e) {
			t.Errorf("%s: came back as %+v, %v", name, back, err)
		}
	}
}

// A verdict's evidence does not share the round's memory.
func TestEvidenceIsTheCallers(t *testing.T) {
	r := seat(t, Policy{Audit: Certain}, 30)
	r.commit("a", wrong, nil)
	r.reveal("a", wrong, nil)
	r.found(right, nil)
	v, _ := r.Verdict()
	v.Workers[0].Evidence.Signature[0] = 'X'
	if r.replicas[0].signature[0] == 'X' {
		t.Error("it does")
	}
}

func TestDecoy(t *testing.T) {
	d, err := NewDecoy(Secret{1}, theTask, right)
	if err != nil {
		t.Fatal(err)
	}
	claim := d.Request().Claims[0]
	if claim == right || claim.IsZero() || d.Request().Task != theTask {
		t.Errorf("%+v", d.Request())
	}
	for result, ok := range map[workload.Hash]bool{right: true, claim: false, wrong: false, {}: false} {
		if err := d.Judge(result); (err == nil) != ok || err != nil && !errors.Is(err, ErrAuditor) {
			t.Errorf("%v: %v", result, err)
		}
	}
	d.Request().Claims[0] = right
	if err := d.Judge(right); err != nil || d.Request().Claims[0] != claim {
		t.Error("the caller's change counts", err)
	}
	if again := must(NewDecoy(Secret{1}, theTask, right)); !reflect.DeepEqual(again, d) {
		t.Error("another decoy from the same arguments")
	}
	if other := must(NewDecoy(Secret{2}, theTask, right)); other.Request().Claims[0] == claim {
		t.Error("the claim can be foreseen without the secret")
	}
	if _, err := NewDecoy(Secret{1}, Task{}, right); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if _, err := NewDecoy(Secret{1}, theTask, workload.Hash{}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if err := (Decoy{}).Judge(right); !errors.Is(err, ErrOptions) {
		t.Error(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, v := range []any{d, &d, Secret{0xab, 0xcd}, &Secret{0xab, 0xcd}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, right.String()) || strings.Contains(s, "abcd") || strings.Contains(s, "171 205") || strings.Contains(s, "0xab") {
				t.Errorf("%s prints %s", verb, s)
			}
		}
	}
	if s := fmt.Sprintf("%+v %#v", struct{ d Decoy }{d}, struct{ d Decoy }{d}); strings.Contains(s, "1, 0x0") || strings.Contains(s, "job-7") || strings.Contains(s, "[1 0 0") {
		t.Error(s)
	}
	if s, err := json.Marshal(Secret{1}); !errors.Is(err, ErrText) {
		t.Errorf("%s, %v", s, err)
	}
	_ = fmt.Sprint(Decoy{}, Decoy{}.Request())
}

func TestTexts(t *testing.T) {
	for s := Assigned; s <= Indeterminate; s++ {
		var back State
		if err := back.UnmarshalText(must(s.MarshalText())); err != nil || back != s || s.Over() != (s >= Accepted) {
			t.Errorf("%v: %v, %v", s, back, err)
		}
	}
	for s := Pending; s <= Undecided; s++ {
		var back Standing
		if err := back.UnmarshalText(must(s.MarshalText())); err != nil || back != s {
			t.Errorf("%v: %v, %v", s, back, err)
		}
	}
	for r := NoReason; r <= Drawn; r++ {
		var back Reason
		if err := back.UnmarshalText(must(r.MarshalText())); err != nil || back != r {
			t.Errorf("%v: %v, %v", r, back, err)
		}
	}
	s, r, st := Auditing, Weak, Missing
	salt, c := Salt{1}, Commitment{1}
	_, e1 := State(7).MarshalText()
	_, e2 := Standing(10).MarshalText()
	_, e3 := Reason(6).MarshalText()
	for _, err := range []error{
		s.UnmarshalText([]byte("Accepted")), st.UnmarshalText(nil), r.UnmarshalText([]byte("5")), e1, e2, e3,
		salt.UnmarshalText([]byte("01")), c.UnmarshalText([]byte(strings.Repeat("g", 64))),
	} {
		if !errors.Is(err, ErrText) {
			t.Error(err)
		}
	}
	if s != Auditing || r != Weak || st != Missing || salt != (Salt{1}) || c != (Commitment{1}) || State(200).String() != "unknown(200)" {
		t.Error("a receiver changed")
	}
}
