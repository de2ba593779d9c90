package verify_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/computemarket/computemarket/workload"
	"github.com/computemarket/computemarket/workload/verify"
)

// Three workers do one task. One of them lies, and a stranger can see it.
func Example() {
	// The market drew a secret and published its hash long before this task came.
	secret := verify.Secret{1, 2, 3} // in earnest: crypto/rand
	task := verify.Task{ID: "job-7/0", Input: workload.Sum([]byte("raw frames"))}

	candidates := []verify.Candidate{
		{Worker: "bob", Score: 40},
		{Worker: "carol", Score: 25},
		{Worker: "mallory", Owner: "m-corp", Score: 12},
		{Worker: "mallory-2", Owner: "m-corp", Score: 12}, // one party: at most one of them
		{Worker: "alice", Score: 90},                      // the buyer
	}
	chosen, err := verify.Choose(secret.Seed(task), task, 3, candidates, "alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	round, err := verify.New(task, chosen, verify.Policy{Replicas: 3, Trust: 100}, secret.Ticket(task), now)
	if err != nil {
		fmt.Println(err)
		return
	}

	// Each worker executes, makes a salt of its own, and signs its commitment.
	right, wrong := workload.Sum([]byte("frames")), workload.Sum([]byte("no work done"))
	results := map[string]workload.Hash{"bob": right, "carol": right, "mallory": wrong, "mallory-2": wrong}
	salts := map[string]verify.Salt{}
	keys := map[string]ed25519.PrivateKey{}
	for i, c := range chosen {
		keys[c.Worker] = ed25519.NewKeyFromSeed(append(make([]byte, 31), byte(i)))
		salts[c.Worker] = verify.NewSalt()
		commitment := verify.Commit(task, c.Worker, results[c.Worker], salts[c.Worker])
		if err := round.Commit(c.Worker, commitment, ed25519.Sign(keys[c.Worker], commitment[:]), now); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println(round.State())
	for _, c := range chosen {
		if err := round.Reveal(c.Worker, results[c.Worker], salts[c.Worker], now.Add(time.Minute)); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println(round) // says nothing of the results

	// They differ, so a trusted machine executes the task.
	if _, ok := round.AuditRequest(); ok {
		if err := round.Audit(right, "", now.Add(2*time.Minute)); err != nil {
			fmt.Println(err)
			return
		}
	}
	verdict, _ := round.Verdict()
	fmt.Println(verdict.State, verdict.Reason, verdict.Result == right)
	for _, w := range verdict.Workers {
		if w.Standing.Paid() {
			continue
		}
		// A stranger executes the task too, and asks for the worker's key alone.
		signed := ed25519.Verify(keys[w.Worker].Public().(ed25519.PublicKey), w.Evidence.Commitment[:], w.Evidence.Signature)
		fmt.Println(w.Evidence.Opener == w.Worker, w.Standing, signed, verify.VerifyEvidence(*w.Evidence, right))
		fmt.Println(errors.Is(verify.VerifyEvidence(*w.Evidence, wrong), verify.ErrEvidence))
	}
	// Output:
	// revealing
	// verify.Round("job-7/0" auditing)
	// accepted disputed true
	// true wrong true <nil>
	// true
}

// What a provider has to stand to lose depends on how often it is looked at.
func ExampleBond() {
	for _, p := range []verify.Probability{verify.Floor, 250_000, verify.Certain} {
		bond, err := verify.Bond(20, 0, p)
		fmt.Println(p, bond, err)
	}
	// Output:
	// 1% 1981 <nil>
	// 25% 61 <nil>
	// 100% 1 <nil>
}

// The same the other way round: with the bond that a provider has, how often does
// the market have to look?
func ExampleAuditProbability() {
	for _, price := range []uint64{1, 100, 1000} {
		fmt.Println(price, verify.AuditProbability(verify.Floor, price, 0, 1000))
	}
	// Output:
	// 1 1%
	// 100 9.091%
	// 1000 50.0001%
}

// Some of the audits are decoys, whose answer is known.
func ExampleDecoy() {
	task := verify.Task{ID: "job-8/0", Input: workload.Sum([]byte("an input of the market's own"))}
	known := workload.Sum([]byte("its output"))
	decoy, err := verify.NewDecoy(verify.Secret{1, 2, 3}, task, known)
	if err != nil {
		fmt.Println(err)
		return
	}
	request := decoy.Request()

	fmt.Println(decoy.Judge(known))             // an auditor that executes
	fmt.Println(decoy.Judge(request.Claims[0])) // one that repeats the claim
	// Output:
	// <nil>
	// verify: the auditor was wrong about a known case: it repeated the claim
}

// Names cost nothing: so many fresh ones that agree are believed at a trust.
func ExampleIdentities() {
	for _, trust := range []uint64{2, 10, 100, 10_000} {
		fmt.Println(trust, verify.Identities(trust))
	}
	// Output:
	// 2 1
	// 10 4
	// 100 7
	// 10000 14
}

// A provider becomes known by work that others confirm, and unknown by one lie.
func ExampleRecord() {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	var bob verify.Record
	for range 30 {
		if err := bob.Apply(verify.WorkerVerdict{Worker: "bob", Standing: verify.Agreed, Confirmed: true}, now); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(bob.ScoreAt(now), verify.Weight(bob.ScoreAt(now)))
	fmt.Println(bob.ScoreAt(now.Add(verify.HalfLife))) // after a while without work

	if err := bob.Apply(verify.WorkerVerdict{Worker: "bob", Standing: verify.Wrong}, now); err != nil {
		fmt.Println(err)
	}
	fmt.Println(bob.ScoreAt(now) < verify.DefaultNewcomer)
	// Output:
	// 30 9
	// 15
	// true
}
