package verify

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"testing"

	"github.com/computemarket/computemarket/workload"
	"lukechampine.com/blake3"
)

// The known answers were made with b3sum --derive-key over bytes that a script
// put together. The test puts them together once more, without the package.
func TestCommitKnownAnswers(t *testing.T) {
	data, err := os.ReadFile("testdata/commitments.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		ID, Class, Worker string
		Input, Result     workload.Hash
		Salt              Salt
		Commitment        Commitment
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		var b []byte
		for _, part := range []string{c.ID, c.Class, string(c.Input[:]), c.Worker, string(c.Result[:]), string(c.Salt[:])} {
			b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
			b = append(b, part...)
		}
		var plain Commitment
		blake3.DeriveKey(plain[:], "computemarket 2026-11-26 workload/verify commitment v1", b)
		got := Commit(Task{ID: c.ID, Class: c.Class, Input: c.Input}, c.Worker, c.Result, c.Salt)
		if got != c.Commitment || plain != c.Commitment {
			t.Errorf("%.20s %s %.20s: %v, by hand %v, want %v", c.ID, c.Class, c.Worker, got, plain, c.Commitment)
		}
	}
}

// Every part of a commitment binds, and no two parts run into one another.
func TestCommitBindsEachPart(t *testing.T) {
	base := Task{ID: "ab", Class: "c", Input: workload.Hash{1}}
	seen := map[Commitment]int{}
	for i, c := range []Commitment{
		Commit(base, "de", workload.Hash{1}, Salt{1}),
		Commit(Task{ID: "a", Class: "bc", Input: workload.Hash{1}}, "de", workload.Hash{1}, Salt{1}),
		Commit(Task{ID: "abc", Input: workload.Hash{1}}, "de", workload.Hash{1}, Salt{1}),
		Commit(Task{ID: "ab", Class: "c", Input: workload.Hash{2}}, "de", workload.Hash{1}, Salt{1}),
		Commit(base, "df", workload.Hash{1}, Salt{1}),
		Commit(base, "de", workload.Hash{2}, Salt{1}),
		Commit(base, "de", workload.Hash{1}, Salt{2}),
	} {
		if j, ok := seen[c]; ok {
			t.Errorf("cases %d and %d have one commitment", i, j)
		}
		seen[c] = i
	}
}

func TestSaltsDiffer(t *testing.T) {
	if a, b := NewSalt(), NewSalt(); a == b || a.IsZero() {
		t.Errorf("%v, %v", a, b)
	}
}
