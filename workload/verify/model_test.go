package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/computemarket/computemarket/workload"
)

// The model of a round of three workers: what each has sent, and what the auditor
// said. It is written apart from the code, as a reader of the documentation would.
type model struct {
	step  string // "commit", "reveal", "audit", "over"
	w     [3]modelWorker
	audit string // what the auditor found, if it said something
}

type modelWorker struct {
	sent   string // the commitment: none, to "right" or "wrong", or a "copy" of the next worker's to "right"
	reveal string // "", "bad", "ok", "late"
}

// A setting is what the rules of a model depend on.
type setting struct {
	name     string
	policy   Policy
	scores   [3]uint64
	weights  [3]int
	ticket   Ticket
	drawn    bool
	newcomer [3]bool
}

func (m model) committed() (n int) {
	for _, w := range m.w {
		if w.sent != "" {
			n++
		}
	}
	return n
}

// votes multiplies the weights of those who revealed a result in time; 0 for none.
func (m model) votes(s *setting, result string) int {
	product, any := 1, false
	for i, w := range m.w {
		if w.reveal == "ok" && w.sent == result {
			product, any = product*s.weights[i], true
		}
	}
	if !any {
		return 0
	}
	return product
}

func (m model) enough(s *setting, result string) bool {
	g, all, trust := m.votes(s, result), m.votes(s, "right")+m.votes(s, "wrong"), max(int(s.policy.Trust), 1)
	return g > 0 && g*trust > (1+all)*(trust-1)
}

func (m model) reason(s *setting) Reason {
	ok, newcomer := 0, false
	for i, w := range m.w {
		if w.reveal == "ok" {
			ok++
			newcomer = newcomer || s.newcomer[i]
		}
	}
	switch {
	case s.policy.NoAudits || ok == 0:
		return NoReason
	case m.votes(s, "right") > 0 && m.votes(s, "wrong") > 0:
		return Disputed
	case ok == 1:
		return Lone
	case newcomer:
		return Newcomer
	case !m.enough(s, "right") && !m.enough(s, "wrong"):
		return Weak
	case s.drawn:
		return Drawn
	}
	return NoReason
}

func (m *model) closeReveals(s *setting) {
	m.step = "over"
	if m.reason(s) != NoReason {
		m.step = "audit"
	}
}

// An op is one message, or the end of a step's time.
type op struct {
	kind   string
	worker int
	what   string
}

func ops() []op {
	all := []op{{kind: "expire"}, {kind: "audit", what: "right"}, {kind: "audit", what: "wrong"}, {kind: "unaudited"}}
	for w := range 3 {
		for _, sent := range []string{"right", "wrong", "copy"} {
			all = append(all, op{"commit", w, sent})
		}
		all = append(all, op{"reveal", w, "own"}, op{"reveal", w, "garbage"})
	}
	return all
}

// apply returns the error that the message has to get.
func (m *model) apply(s *setting, o op) error {
	w := &m.w[o.worker]
	switch o.kind {
	case "expire":
		switch {
		case m.step == "commit" && m.committed() > 0:
			m.step = "reveal"
		case m.step == "reveal":
			m.closeReveals(s)
		default:
			m.step = "over"
		}
	case "audit":
		switch {
		case m.audit == o.what:
		case m.step != "audit":
			return ErrNoAudit
		default:
			m.audit, m.step = o.what, "over"
		}
	case "unaudited":
		if m.step != "audit" {
			return ErrNoAudit
		}
		m.step = "over"
	case "commit":
		switch {
		case w.sent == o.what:
		case w.sent != "":
			return ErrCommitted
		case m.step != "commit":
			return ErrLate
		default:
			w.sent = o.what
			if m.committed() == 3 {
				m.step = "reveal"
			}
		}
	case "reveal":
		return m.applyReveal(s, w, o.what == "own" && w.sent != "copy")
	}
	return nil
}

func (m *model) applyReveal(s *setting, w *modelWorker, opens bool) error {
	switch {
	case m.step == "commit":
		return ErrEarly
	case w.sent == "":
		return ErrLate
	case opens && w.reveal == "ok":
		return nil
	case opens && m.step == "audit":
		w.reveal = "late"
		return ErrLate
	case m.step != "reveal":
		return ErrLate
	case !opens:
		if w.reveal == "" {
			w.reveal = "bad"
		}
		return ErrReveal
	}
	w.reveal = "ok"
	for _, w := range m.w {
		if w.sent != "" && w.reveal != "ok" {
			return nil
		}
	}
	m.closeReveals(s)
	return nil
}

// outcome says how the round ended.
func (m model) outcome(s *setting) (State, string) {
	if m.audit != "" {
		if m.votes(s, m.audit) > 0 {
			return Accepted, m.audit
		}
		return Rejected, m.audit
	}
	if m.reason(s) != NoReason {
		return Indeterminate, ""
	}
	for _, result := range []string{"right", "wrong"} {
		if m.enough(s, result) {
			return Accepted, result
		}
	}
	return Indeterminate, ""
}

func (m model) standing(s *setting, i int) Standing {
	w, next := m.w[i], m.w[(i+1)%3]
	state, result := m.outcome(s)
	switch {
	case w.sent == "":
		return Absent
	case w.sent == "copy" && next.sent == "right" && (next.reveal == "ok" || next.reveal == "late") && state != Indeterminate:
		return Copied
	case w.reveal == "":
		return Missing
	case w.reveal == "bad":
		return Misopened
	case m.audit != "" && w.sent != m.audit:
		return Wrong
	case w.reveal == "late":
		return Late
	case state == Indeterminate:
		return Undecided
	case w.sent != result:
		return Outvoted
	}
	return Agreed
}

var settings = []setting{
	{name: "established", scores: [3]uint64{30, 30, 30}, weights: [3]int{9, 9, 9}, ticket: 1<<64 - 1},
	{name: "drawn", scores: [3]uint64{30, 30, 30}, weights: [3]int{9, 9, 9}, drawn: true},
	{name: "newcomer", scores: [3]uint64{0, 30, 30}, weights: [3]int{2, 9, 9}, ticket: 1<<64 - 1, newcomer: [3]bool{true, false, false}},
	{name: "trust", policy: Policy{Trust: 100}, scores: [3]uint64{10, 12, 60}, weights: [3]int{2, 3, 19}, ticket: 1<<64 - 1},
	{name: "no audits", policy: Policy{NoAudits: true, Trust: 10}, scores: [3]uint64{0, 12, 60}, weights: [3]int{2, 3, 19}, ticket: 1<<64 - 1},
}

// A world is a round beside its model.
type world struct {
	*testing.T
	s       *setting
	task    Task
	results map[string]workload.Hash
	salts   [3]Salt
	commits [3]map[string]Commitment
	seen    map[model][]byte  // the round's bytes
	shown   map[string]string // what a round shows, by what anybody may know of it
	edges   int
}

var workerNames = [3]string{"a", "b", "c"}

func newWorld(t *testing.T, s *setting) *world {
	w := &world{T: t, s: s, task: theTask, seen: map[model][]byte{}, shown: map[string]string{}}
	w.results = map[string]workload.Hash{"right": workload.Sum([]byte("right")), "wrong": workload.Sum([]byte("wrong"))}
	for i := range 3 {
		w.salts[i] = Salt(workload.Sum([]byte{byte(i)}))
	}
	for i, name := range workerNames {
		next := (i + 1) % 3
		w.commits[i] = map[string]Commitment{
			"right": Commit(w.task, name, w.results["right"], w.salts[i]),
			"wrong": Commit(w.task, name, w.results["wrong"], w.salts[i]),
			"copy":  Commit(w.task, workerNames[next], w.results["right"], w.salts[next]),
		}
	}
	return w
}

// send does o to r, and returns when it was and the error.
func (w *world) send(r *Round, m model, o op, now time.Time) (time.Time, error) {
	name := workerNames[o.worker]
	switch o.kind {
	case "expire":
		now, _ = r.Deadline()
		r.Tick(now)
		return now, nil
	case "audit":
		return now, r.Audit(w.results[o.what], "", now)
	case "unaudited":
		return now, r.Unaudited(now)
	case "commit":
		return now, r.Commit(name, w.commits[o.worker][o.what], nil, now)
	}
	result, salt := w.results["right"], w.salts[o.worker]
	switch {
	case o.what == "garbage":
		salt[0]++
	case m.w[o.worker].sent == "copy":
		salt = w.salts[(o.worker+1)%3] // all that a copier could know
	case m.w[o.worker].sent == "wrong":
		result = w.results["wrong"]
	}
	return now, r.Reveal(name, result, salt, now)
}

// walk goes through all that can happen from here.
func (w *world) walk(data []byte, m model, now time.Time, path []op) {
	if w.Failed() {
		return
	}
	if was, ok := w.seen[m]; ok {
		if !bytes.Equal(was, data) {
			w.Fatalf("the order of messages counts: %v", path)
		}
		return
	}
	w.seen[m] = data
	w.check(data, m, path)
	for _, o := range ops() {
		if o.kind == "expire" && m.step == "over" {
			continue
		}
		r, next := new(Round), m
		if err := r.UnmarshalBinary(data); err != nil {
			w.Fatalf("%v: %v", path, err)
		}
		want := next.apply(w.s, o)
		then, got := w.send(r, m, o, now)
		if !errors.Is(got, want) {
			w.Fatalf("%v, then %v: %v, want %v", path, o, got, want)
		}
		if got != nil && w.tells(got.Error()) {
			w.Fatalf("an error tells: %v", got)
		}
		after, err := r.MarshalBinary()
		if err != nil {
			w.Fatal(err)
		}
		w.edges++
		w.walk(after, next, then, append(path[:len(path):len(path)], o))
	}
}

// check compares a round with its model, and with what is promised.
func (w *world) check(data []byte, m model, path []op) {
	var r Round
	if err := r.UnmarshalBinary(data); err != nil {
		w.Fatalf("%v: %v", path, err)
	}
	verdict, over := r.Verdict()
	if over != (m.step == "over") || r.State().Over() != over {
		w.Fatalf("%v: state %v, model %+v", path, r.State(), m)
	}
	if !over {
		want := map[string]State{"commit": Committing, "reveal": Revealing, "audit": Auditing}[m.step]
		if m.committed() == 0 {
			want = Assigned
		}
		if r.State() != want {
			w.Fatalf("%v: %v, want %v", path, r.State(), want)
		}
		w.checkSilence(&r, data, m, path)
		return
	}
	state, result := m.outcome(w.s)
	if verdict.State != state || verdict.Result != w.results[result] || verdict.Audited != (m.audit != "") || verdict.Reason != m.reason(w.s) {
		w.Fatalf("%v: %+v, want %v %s", path, verdict, state, result)
	}
	for i, worker := range verdict.Workers {
		if want := m.standing(w.s, i); worker.Standing != want {
			w.Fatalf("%v: %s is %v, want %v", path, worker.Worker, worker.Standing, want)
		}
		w.checkWorker(verdict, worker, m, i, path)
	}
}

// checkWorker holds what is promised of money and evidence, whatever happened.
func (w *world) checkWorker(v Verdict, worker WorkerVerdict, m model, i int, path []op) {
	honest := m.w[i].sent == "right" && m.audit != "wrong" || m.w[i].sent == ""
	fined := worker.Standing.Fined()
	switch {
	case fined && honest:
		w.Fatalf("%v: %s did nothing wrong and is fined", path, worker.Worker)
	case fined && v.State == Indeterminate:
		w.Fatalf("%v: fined where nobody can tell", path)
	case fined && worker.Evidence == nil, !fined && worker.Evidence != nil:
		w.Fatalf("%v: %s is %v with evidence %v", path, worker.Worker, worker.Standing, worker.Evidence)
	case worker.Standing.Paid() && w.results[m.w[i].sent] != v.Result:
		w.Fatalf("%v: %s is paid for another result", path, worker.Worker)
	case fined:
		if err := VerifyEvidence(*worker.Evidence, v.Result); err != nil {
			w.Fatalf("%v: %v", path, err)
		}
	}
}

// checkSilence: what a round shows before its end depends only on who sent which
// kind of message.
func (w *world) checkSilence(r *Round, data []byte, m model, path []op) {
	known := m.step
	for _, worker := range m.w {
		known += fmt.Sprint(" ", worker.sent != "", worker.reveal == "ok")
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})).Info("round", "pointer", r, "value", *r)
	js, err := json.Marshal(struct {
		P *Round
		V Round
	}{r, *r})
	if err != nil {
		w.Fatal(err)
	}
	shown := fmt.Sprintf("%v %+v %#v %s %q %d %x %v %#v %d %s %s %+v", r, r, r, r, r, r, r, *r, *r, *r, js, log.String(), r.View())
	// Within another struct, where fmt asks no method. What it prints is an address.
	if nested := fmt.Sprintf("%+v %#v", struct{ r Round }{*r}, []struct{ r *Round }{{r}}); w.tells(nested) || len(nested) > 300 {
		w.Fatalf("%v: it shows %s", path, nested)
	}
	if was, ok := w.shown[known]; ok && was != shown {
		w.Fatalf("%v: it shows\n%s\nand elsewhere\n%s", path, shown, was)
	}
	w.shown[known] = shown
	if w.tells(shown) {
		w.Fatalf("%v: it shows a secret: %s", path, shown)
	}
	if m.step == "commit" && w.tells(string(data)) {
		w.Fatalf("%v: it has a result before all have committed", path)
	}
}

// tells reports whether s has a result, a salt or a commitment in some form.
func (w *world) tells(s string) bool {
	for _, h := range w.results {
		if strings.Contains(s, h.String()) || strings.Contains(s, string(h[:])) || strings.Contains(s, strings.Trim(fmt.Sprint(h[:8]), "[]")) {
			return true
		}
	}
	for _, h := range w.salts {
		if strings.Contains(s, h.String()) || strings.Contains(s, string(h[:])) {
			return true
		}
	}
	return false
}

// TestModel goes through all that can happen in a round of three workers: every
// order of commitments (right, wrong, stolen), reveals (right, garbled), messages
// that come twice or never, deadlines and audits.
func TestModel(t *testing.T) {
	for i := range settings {
		s := &settings[i]
		t.Run(s.name, func(t *testing.T) {
			if testing.Short() && i > 0 {
				t.Skip("one setting is enough")
			}
			t.Parallel()
			w := newWorld(t, s)
			policy := s.policy
			policy.Replicas = 3
			var chosen []Candidate
			for i, name := range workerNames {
				chosen = append(chosen, Candidate{Worker: name, Score: s.scores[i]})
			}
			r, err := New(w.task, chosen, policy, s.ticket, epoch)
			if err != nil {
				t.Fatal(err)
			}
			w.walk(must(r.MarshalBinary()), model{step: "commit"}, epoch, nil)
			t.Logf("%d states, %d transitions", len(w.seen), w.edges)
			if len(w.seen) < 1000 {
				t.Errorf("only %d states", len(w.seen))
			}
		})
	}
}
