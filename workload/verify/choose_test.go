package verify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/computemarket/computemarket/workload"
)

var theTask = Task{ID: "job-7/0", Input: workload.Hash{7}}

func crowd() []Candidate {
	var all []Candidate
	for i := range 20 {
		all = append(all, Candidate{Worker: fmt.Sprintf("w%02d", i), Class: []string{"", "gpu", "cpu"}[i%3]})
		if i%5 == 0 {
			all[i].Owner = "corp"
		}
	}
	// Of unknown owner, and the owner of another: one party.
	return append(all, Candidate{Worker: "corp"}, Candidate{Worker: "zed", Owner: "w01"})
}

func TestChooseDistinctParties(t *testing.T) {
	all := crowd()
	for i := range 500 {
		seed := Seed{byte(i), byte(i >> 8)}
		got, err := Choose(seed, theTask, 5, all, "w02", "corp", "zed")
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 5 {
			t.Fatalf("%d chosen", len(got))
		}
		parties := map[string]bool{}
		for _, c := range got {
			if parties[c.party()] || c.party() == "corp" || c.Worker == "w02" || c.Worker == "zed" || !slices.Contains(all, c) {
				t.Fatalf("seed %d: %v", i, got)
			}
			parties[c.party()] = true
		}
		shuffled := slices.Clone(all)
		rand.New(rand.NewPCG(1, uint64(i))).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again, err := Choose(seed, theTask, 5, shuffled, "corp", "zed", "w02"); err != nil || !slices.Equal(again, got) {
			t.Fatalf("in another order: %v, %v, %v", got, again, err)
		}
	}
}

func TestChooseClass(t *testing.T) {
	task := theTask
	task.Class = "gpu"
	for i := range 50 {
		got, err := Choose(Seed{byte(i)}, task, 3, crowd())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range got {
			if c.Class != "gpu" {
				t.Fatalf("%v for class gpu", c)
			}
		}
	}
	task.Class = "tpu"
	if _, err := Choose(Seed{}, task, 1, crowd()); !errors.Is(err, ErrTooFew) {
		t.Error(err)
	}
}

// A party with ninety names has the chance of one.
func TestChooseManyNamesDoNotHelp(t *testing.T) {
	var all []Candidate
	for i := range 9 {
		all = append(all, Candidate{Worker: fmt.Sprint("honest", i)})
	}
	for i := range 90 {
		all = append(all, Candidate{Worker: fmt.Sprint("name", i), Owner: "many"})
	}
	const draws = 2000
	hits, first := 0, map[string]int{}
	for i := range draws {
		got, err := Choose(Seed{byte(i), byte(i >> 8)}, theTask, 1, all)
		if err != nil {
			t.Fatal(err)
		}
		if got[0].Owner == "many" {
			hits++
		}
		first[got[0].Worker]++
	}
	if hits < draws/10-60 || hits > draws/10+60 { // four standard deviations and more
		t.Errorf("drawn %d times of %d, a tenth is fair", hits, draws)
	}
	if names := len(first) - 9; names < 70 { // of 90, in some 200 draws
		t.Errorf("only %d of the party's names", names)
	}
	for i := range 9 {
		if n := first[fmt.Sprint("honest", i)]; n < draws/10-60 || n > draws/10+60 {
			t.Errorf("honest%d: %d times of %d", i, n, draws)
		}
	}
}

// The choice depends on the seed and on each part of the task.
func TestChooseDependsOnSeedAndTask(t *testing.T) {
	other := theTask
	other.ID = "job-7/1"
	other2 := theTask
	other2.Input = workload.Hash{8}
	a, _ := Choose(Seed{1}, theTask, 10, crowd())
	for _, b := range [][]Candidate{
		must(Choose(Seed{2}, theTask, 10, crowd())),
		must(Choose(Seed{1}, other, 10, crowd())),
		must(Choose(Seed{1}, other2, 10, crowd())),
	} {
		if slices.Equal(a, b) {
			t.Error("the same ten in the same order")
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestChooseRefuses(t *testing.T) {
	long := strings.Repeat("x", MaxID+1)
	for name, c := range map[string]struct {
		task Task
		n    int
		all  []Candidate
		want error
	}{
		"too few":       {theTask, 3, []Candidate{{Worker: "a"}, {Worker: "b"}}, ErrTooFew},
		"one party":     {theTask, 2, []Candidate{{Worker: "a"}, {Worker: "b", Owner: "a"}}, ErrTooFew},
		"none":          {theTask, 1, nil, ErrTooFew},
		"zero":          {theTask, 0, crowd(), ErrInvalid},
		"negative":      {theTask, -1, crowd(), ErrInvalid},
		"many":          {theTask, MaxReplicas + 1, crowd(), ErrInvalid},
		"twice":         {theTask, 1, []Candidate{{Worker: "a"}, {Worker: "a"}}, ErrInvalid},
		"no name":       {theTask, 1, []Candidate{{}}, ErrInvalid},
		"long name":     {theTask, 1, []Candidate{{Worker: long}}, ErrInvalid},
		"long owner":    {theTask, 1, []Candidate{{Worker: "a", Owner: long}}, ErrInvalid},
		"no text":       {theTask, 1, []Candidate{{Worker: "a", Class: "\xff"}}, ErrInvalid},
		"no task":       {Task{Input: workload.Hash{1}}, 1, crowd(), ErrInvalid},
		"no input":      {Task{ID: "j"}, 1, crowd(), ErrInvalid},
		"no text class": {Task{ID: "j", Input: workload.Hash{1}, Class: "\xff"}, 1, crowd(), ErrInvalid},
	} {
		if got, err := Choose(Seed{}, c.task, c.n, c.all); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestTicketHits(t *testing.T) {
	const all = (1<<64 - 1) / 1_000_000
	for _, c := range []struct {
		ticket Ticket
		p      Probability
		want   bool
	}{
		{0, 0, false}, {0, 1, true}, {1<<64 - 1, Certain, true}, {1<<64 - 1, Certain - 1, false},
		{1 << 63, Certain / 2, false}, {1<<63 - 1, Certain / 2, true}, {Ticket(all), 1, true}, {Ticket(all) + 1, 1, false},
	} {
		if got := c.ticket.Hits(c.p); got != c.want {
			t.Errorf("ticket %d at %v: %v", uint64(c.ticket), c.p, got)
		}
	}
}

// Tickets are drawn evenly, and differ from task to task.
func TestTicketsAreEven(t *testing.T) {
	hits := 0
	for i := range 4000 {
		task := theTask
		task.ID = fmt.Sprint(i)
		if (Secret{9}).Ticket(task).Hits(250_000) {
			hits++
		}
	}
	if hits < 1000-150 || hits > 1000+150 {
		t.Errorf("%d of 4000 at 25%%", hits)
	}
}

// Chance depends on the secret, and a seed is no ticket.
func TestSecretsDiffer(t *testing.T) {
	a, b := Secret{1}, Secret{2}
	if a.Hash() == b.Hash() || a.Seed(theTask) == b.Seed(theTask) || a.Ticket(theTask) == b.Ticket(theTask) {
		t.Error("two secrets draw the same")
	}
	seed := a.Seed(theTask)
	if Ticket(binary.BigEndian.Uint64(seed[:])) == a.Ticket(theTask) || workload.Hash(seed) == a.Hash() {
		t.Error("the seed gives something else away")
	}
	gpu := theTask
	gpu.Class = "gpu"
	if a.Seed(gpu) == seed || a.Ticket(gpu) == a.Ticket(theTask) {
		t.Error("the class does not count")
	}
}

func TestVerifyDraw(t *testing.T) {
	secret := Secret{1}
	hit, miss := theTask, theTask
	for i := 0; !secret.Ticket(hit).Hits(500_000); i++ {
		hit.ID = fmt.Sprint(i)
	}
	for i := 0; secret.Ticket(miss).Hits(500_000); i++ {
		miss.ID = fmt.Sprint(i)
	}
	for name, c := range map[string]struct {
		published workload.Hash
		task      Task
		audited   bool
		want      error
	}{
		"audited":            {secret.Hash(), hit, true, nil},
		"left out":           {secret.Hash(), hit, false, ErrDraw},
		"not drawn":          {secret.Hash(), miss, false, nil},
		"for another reason": {secret.Hash(), miss, true, nil},
		"another secret":     {Secret{2}.Hash(), hit, true, ErrDraw},
	} {
		if err := VerifyDraw(c.published, secret, c.task, 500_000, c.audited); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
