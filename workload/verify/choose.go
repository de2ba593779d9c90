package verify

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

const contextChoose = "computemarket 2026-11-26 workload/verify choice v1"

// Choose picks n workers for t at random among the candidates: distinct parties
// all, on machines of t's class, none of them a party of without. Give the buyer
// in without, lest one verify work for oneself.
//
// Each party has one chance, however many workers it names as its own; a worker
// of unknown owner is a party for itself. Among the workers of a party each is as
// likely as the other. The same seed, task and candidates in any order give the
// same choice, in the same order, so that everybody can repeat it who knows the
// seed.
//
// The seed must be unknown to providers until the candidates are fixed: who knows
// it can make names until one of them is chosen.
//
// Possible errors: [ErrInvalid] (a name, a worker named twice, n), [ErrTooFew].
func Choose(seed Seed, t Task, n int, candidates []Candidate, without ...string) ([]Candidate, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	if n < 1 || n > MaxReplicas {
		return nil, fmt.Errorf("%w: %d replicas, from 1 to %d", ErrInvalid, n, MaxReplicas)
	}
	best := make(map[string]lot) // by party
	seen := make(map[string]bool, len(candidates))
	for i := range candidates {
		c := &candidates[i]
		if err := c.validate(); err != nil {
			return nil, err
		}
		if seen[c.Worker] {
			return nil, fmt.Errorf("%w: a worker is named twice", ErrInvalid)
		}
		seen[c.Worker] = true
		party := c.party()
		if !c.does(&t) || slices.Contains(without, party) || slices.Contains(without, c.Worker) {
			continue
		}
		l := lot{number: seed.number(&t, "worker", c.Worker), candidate: *c}
		if was, ok := best[party]; !ok || l.compare(was) < 0 {
			best[party] = l
		}
	}
	lots := make([]lot, 0, len(best))
	for party, l := range best {
		l.number = seed.number(&t, "party", party)
		lots = append(lots, l)
	}
	if len(lots) < n {
		return nil, fmt.Errorf("%w: %d, and %d are wanted", ErrTooFew, len(lots), n)
	}
	slices.SortFunc(lots, lot.compare)
	chosen := make([]Candidate, n)
	for i := range chosen {
		chosen[i] = lots[i].candidate
	}
	return chosen, nil
}

// A lot is what a candidate draws; the least wins.
type lot struct {
	number    [32]byte
	candidate Candidate
}

func (a lot) compare(b lot) int {
	return cmp.Or(bytes.Compare(a.number[:], b.number[:]), cmp.Compare(a.candidate.Worker, b.candidate.Worker))
}

func (s Seed) number(t *Task, kind, name string) [32]byte {
	return derive(contextChoose, s[:], []byte(t.ID), []byte(t.Class), t.Input[:], []byte(kind), []byte(name))
}
