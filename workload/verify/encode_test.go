package verify

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/computemarket/computemarket/workload"
)

// someRounds has a round in each step.
func someRounds(t testing.TB) map[string]*Round {
	start := func(p Policy) *Round {
		p.Replicas = 2
		return must(New(theTask, []Candidate{{Worker: "a", Owner: "o", Score: 30}, {Worker: "b"}}, p, 5, epoch))
	}
	send := func(r *Round, reveals int) *Round {
		for i, w := range []string{"a", "b"} {
			must(0, r.Commit(w, Commit(theTask, w, right, Salt{9}), []byte{byte(i + 1)}, epoch))
		}
		for _, w := range []string{"a", "b"}[:reveals] {
			must(0, r.Reveal(w, right, Salt{9}, epoch))
		}
		return r
	}
	late := send(start(Policy{}), 1)
	late.Tick(epoch.Add(2 * time.Hour))
	if err := late.Reveal("b", right, Salt{9}, epoch); !errors.Is(err, ErrLate) {
		t.Fatal(err)
	}
	audited := send(start(Policy{}), 2)
	must(0, audited.Audit(right, "", epoch))
	return map[string]*Round{
		"assigned": start(Policy{Trust: 100, Audit: 50_000}), "revealing": send(start(Policy{}), 1),
		"auditing": send(start(Policy{}), 2), "late": late, "audited": audited,
		"accepted": send(start(Policy{NoAudits: true}), 2),
	}
}

func TestRoundTrip(t *testing.T) {
	for name, r := range someRounds(t) {
		data := must(r.MarshalBinary())
		var back Round
		if err := back.UnmarshalBinary(data); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(must(back.MarshalBinary()), data) || back.View().State != r.State() || !back.deadline.Equal(r.deadline) {
			t.Errorf("%s came back as something else", name)
		}
		if got, want := must(json.Marshal(*r)), must(json.Marshal(r.View())); !bytes.Equal(got, want) {
			t.Errorf("%s in JSON: %s, want %s", name, got, want)
		}
		prefix := must(r.AppendBinary([]byte("before")))
		if string(prefix) != "before"+string(data) {
			t.Errorf("%s: AppendBinary does not append", name)
		}
		var wire bytes.Buffer
		var viaGob Round
		if err := errors.Join(gob.NewEncoder(&wire).Encode(r), gob.NewDecoder(&wire).Decode(&viaGob)); err != nil || viaGob.State() != r.State() {
			t.Errorf("%s: gob: %v", name, err)
		}
	}
}

// The forms in testdata were put together by a script, from the layout as encode.go
// tells it, with b3sum for the commitments.
func TestGoldenForms(t *testing.T) {
	rounds := someRounds(t)
	for name, form := range map[string]interface{ MarshalBinary() ([]byte, error) }{
		"round_assigned": rounds["assigned"], "round_late": rounds["late"], "record": &Record{
			Score: 1, Since: epoch, Assigned: 2, Agreed: 3, Confirmed: 4, Wrong: 5, Copied: 6, Misopened: 7,
			Missing: 8, Late: 9, Absent: 10, Outvoted: 11, Undecided: 12,
		},
	} {
		file := "testdata/" + name + ".hex"
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(must(form.MarshalBinary())); got != strings.Join(strings.Fields(string(want)), "") {
			t.Errorf("%s: got %s", file, got)
		}
	}
}

// Every bit that flips is found.
func TestDamageIsFound(t *testing.T) {
	forms := map[string][]byte{"record": must((&Record{Score: 3, Since: epoch}).MarshalBinary())}
	for name, r := range someRounds(t) {
		forms[name] = must(r.MarshalBinary())
	}
	read := func(name string, data []byte) error {
		if name == "record" {
			return new(Record).UnmarshalBinary(data)
		}
		return new(Round).UnmarshalBinary(data)
	}
	for name, data := range forms {
		for i := range len(data) * 8 {
			bad := bytes.Clone(data)
			bad[i/8] ^= 1 << (i % 8)
			if err := read(name, bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s, bit %d: %v", name, i, err)
			}
		}
		for i := range data {
			if err := read(name, data[:i]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s, %d bytes: %v", name, i, err)
			}
		}
		if err := read(name, resum(append(bytes.Clone(data), 0, 0, 0, 0))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s, longer: %v", name, err)
		}
		newer := bytes.Clone(data)
		newer[0] = 2
		if err := read(name, resum(newer)); !errors.Is(err, ErrSchema) {
			t.Errorf("%s of another version: %v", name, err)
		}
	}
}

// resum puts the right checksum under what was changed.
func resum(data []byte) []byte {
	body := data[:len(data)-4]
	return binary.BigEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

// What has a checksum and yet no Round encodes to is refused, and the receiver left
// as it was.
func TestImpossibleRounds(t *testing.T) {
	for name, spoil := range map[string]func(r *Round){
		"not opened by what it has":    func(r *Round) { r.replicas[0].result = wrong },
		"opened without a commitment":  func(r *Round) { r.replicas[0].commitment = Commitment{} },
		"signature without commitment": func(r *Round) { r.replicas[1] = replica{who: r.replicas[1].who, signature: []byte{1}} },
		"opened as nothing":            func(r *Round) { r.replicas[1].opened = 4 },
		"opened while committing":      func(r *Round) { r.step = stepCommit },
		"committing with all there": func(r *Round) {
			r.step = stepCommit
			for i := range r.replicas {
				r.replicas[i].opened = notOpened
			}
		},
		"a step that is none":         func(r *Round) { r.step = 9 },
		"the zero step":               func(r *Round) { r.step = 255 },
		"revealing with all revealed": func(r *Round) { r.replicas[1] = replica{who: r.replicas[1].who} },
		"audited while revealing":     func(r *Round) { r.audit = right },
		"audited for no reason": func(r *Round) {
			r.audit, r.step, r.replicas[0].who.Score = right, stepOver, 30
			r.policy.NoAudits, r.policy.Audit = true, 0
		},
		"auditing for no reason": func(r *Round) { r.step = stepAudit; r.policy.NoAudits, r.policy.Audit = true, 0 },
		"late while revealing":   func(r *Round) { r.replicas[0].opened = openedLate },
		"late without an audit":  func(r *Round) { r.replicas[0].opened = openedLate; r.step = stepOver },
		"no default":             func(r *Round) { r.policy.Trust = 0 },
		"no policy":              func(r *Round) { r.policy.Audit = 1 },
		"negative time":          func(r *Round) { r.policy.AuditWithin = -1 },
		"no task":                func(r *Round) { r.task.ID = "" },
		"no input":               func(r *Round) { r.task.Input = workload.Hash{} },
		"one party":              func(r *Round) { r.replicas[1].who.Owner = "o" },
		"no replicas":            func(r *Round) { r.policy.Replicas = 0; r.replicas = nil },
		"fewer replicas":         func(r *Round) { r.policy.Replicas = 1 },
		"more replicas":          func(r *Round) { r.policy.Replicas = 65 },
		"long signature":         func(r *Round) { r.replicas[0].signature = make([]byte, MaxSignature+1) },
	} {
		r := someRounds(t)["revealing"]
		spoil(r)
		got := *someRounds(t)["assigned"]
		if err := got.UnmarshalBinary(must(r.MarshalBinary())); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if got.State() != Assigned {
			t.Errorf("%s: the receiver changed", name)
		}
	}
}

func TestRecordRoundTrip(t *testing.T) {
	for _, r := range []Record{{}, {Score: 7, Since: epoch, Absent: 1<<64 - 1}} {
		data := must(r.MarshalBinary())
		var back Record
		if err := back.UnmarshalBinary(data); err != nil || back != r {
			t.Errorf("%+v came back as %+v, %v", r, back, err)
		}
	}
	r := Record{Since: time.Unix(1<<40, 0)}
	if b, err := r.AppendBinary([]byte("x")); !errors.Is(err, ErrInvalid) || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	unset := must((&Record{}).MarshalBinary())
	unset[9] = 1
	neither := must((&Record{}).MarshalBinary())
	neither[1] = 2
	for _, data := range [][]byte{unset, neither} {
		if err := new(Record).UnmarshalBinary(resum(data)); !errors.Is(err, ErrCorrupt) {
			t.Error(err)
		}
	}
}

func FuzzDecodeRound(f *testing.F) {
	for _, r := range someRounds(f) {
		f.Add(must(r.MarshalBinary()), byte(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, then byte) {
		if len(data) >= 4 {
			data = resum(bytes.Clone(data)) // a checksum is no hurdle to who writes it
		}
		var r Round
		if err := r.UnmarshalBinary(data); err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrSchema) || r.state != nil {
				t.Fatalf("%v, and the receiver is %v", err, r)
			}
			return
		}
		if again := must(r.MarshalBinary()); !bytes.Equal(again, data) {
			t.Fatalf("%x encodes as %x", data, again)
		}
		// And what decodes goes on like any other.
		now, open := r.Deadline()
		for range then % 4 {
			_ = r.Reveal(r.replicas[0].who.Worker, right, Salt{9}, now)
			_ = r.Audit(right, r.task.Class, now)
			r.Tick(now.Add(time.Nanosecond))
			now, open = r.Deadline()
		}
		if v, over := r.Verdict(); over == open || over && len(v.Workers) != len(r.replicas) {
			t.Fatalf("%+v, %v, %v", v, over, open)
		}
		if err := new(Round).UnmarshalBinary(must(r.MarshalBinary())); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(must((&Record{}).MarshalBinary()))
	f.Add(must((&Record{Score: 9, Since: epoch}).MarshalBinary()))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= 4 {
			data = resum(bytes.Clone(data))
		}
		var r Record
		if err := r.UnmarshalBinary(data); err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrSchema) || r != (Record{}) {
				t.Fatal(err)
			}
			return
		}
		if again := must(r.MarshalBinary()); !bytes.Equal(again, data) {
			t.Fatalf("%x encodes as %x", data, again)
		}
	})
}

// FuzzTransitions sends random messages to a round of up to eight workers, stores
// it after each, and holds it to what is promised.
func FuzzTransitions(f *testing.F) {
	f.Add(byte(3), []byte{0, 0, 1, 0, 2, 0, 0, 3, 1, 3, 2, 3, 5, 0})
	f.Add(byte(2), []byte{0, 0, 1, 1, 4, 0, 0, 3, 1, 3, 6, 0})
	f.Add(byte(4), []byte{0, 2, 1, 0, 2, 2, 3, 0, 1, 3, 0, 3, 4, 0, 4, 0})
	f.Fuzz(func(t *testing.T, n byte, script []byte) {
		n = n%8 + 1
		var chosen []Candidate
		for i := range n {
			chosen = append(chosen, Candidate{Worker: string(rune('a' + i)), Score: uint64(i) * 5})
		}
		r := must(New(theTask, chosen, Policy{Replicas: int(n), Trust: uint64(n)}, Ticket(n)<<60, epoch))
		now, last, sent := epoch, r.State(), map[byte]workload.Hash{}
		for i := 0; i+1 < len(script); i += 2 {
			w := script[i] % (n + 4)
			name, what := string(rune('a'+w)), script[i+1]%5
			switch {
			case w == n:
				now, _ = r.Deadline()
				r.Tick(now)
			case w == n+1:
				_ = r.Audit(right, "", now)
			case w == n+2:
				_ = r.Audit(wrong, "", now)
			case w == n+3:
				_ = r.Unaudited(now)
			case what < 2:
				result := []workload.Hash{right, wrong}[what]
				if r.Commit(name, Commit(theTask, name, result, Salt{w}), nil, now) == nil {
					sent[w] = result
				}
			case what == 2:
				other := (w + 1) % n
				if r.Commit(name, Commit(theTask, string(rune('a'+other)), right, Salt{other}), nil, now) == nil && n > 1 {
					delete(sent, w)
				}
			case what == 3:
				_ = r.Reveal(name, sent[w], Salt{w}, now)
			default:
				_ = r.Reveal(name, wrong, Salt{99}, now)
			}
			if r.State() < last {
				t.Fatalf("from %v back to %v", last, r.State())
			}
			last = r.State()
			data := must(r.MarshalBinary())
			r = new(Round)
			if err := r.UnmarshalBinary(data); err != nil {
				t.Fatal(err)
			}
		}
		verdict, _ := r.Verdict()
		for i, w := range verdict.Workers {
			if w.Standing.Fined() && (verdict.State == Indeterminate || VerifyEvidence(*w.Evidence, r.audit) != nil) {
				t.Fatalf("fined without evidence: %+v", w)
			}
			if w.Standing.Paid() && sent[byte(i)] != verdict.Result {
				t.Fatalf("paid for another result: %+v", w)
			}
		}
	})
}
