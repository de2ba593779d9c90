package verify

import (
	"math/big"
	"math/bits"
)

// Weight returns what the word of a worker with this score weighs. With w the
// weight, its work is right with a probability of w/(w+1):
//
//	w = max(score/3, 3) - 1
//
// so that a fresh name weighs 2, and is taken to be right two times in three. This
// is the rule of iExec's PoCo (IexecPoco2.contribute, k = 3). It has the form of
// Sarmenta's credibility of a worker that passed n checks, c = 1 - f/n, with 3 for
// f; the weight is the odds c/(1-c), which is a whole number.
//
// The weights of those who gave one result are multiplied. With g the product for
// a result, and G the sum of g over all results, the result is believed at a trust
// of T if
//
//	g·T > (1 + G)·(T - 1)
//
// that is, if its credibility g/(1+G) is above 1 - 1/T. That is Sarmenta's formula
// for groups, divided by the probability that all groups are wrong. It is computed
// exactly, however great the numbers are.
func Weight(score uint64) uint64 { return max(score/3, 3) - 1 }

// trusted reports whether the group of weight g is believed at a trust of t,
// which is at least 1.
func trusted(t uint64, g *big.Int, groups []group) bool {
	total := big.NewInt(1)
	for _, other := range groups {
		total.Add(total, other.weight)
	}
	left := new(big.Int).SetUint64(t)
	right := new(big.Int).SetUint64(t - 1)
	return left.Mul(left, g).Cmp(right.Mul(right, total)) > 0
}

// Identities returns how many fresh names have to agree to be believed at a trust
// of t, if nobody contradicts: the least n with 2ⁿ ≥ t, and at least one.
//
//	t = 2: 1    10: 4    100: 7    10,000: 14
//
// It is few, as names cost nothing. Trust of fresh names is what their bonds and
// the audits of newcomers make of it; that is why a newcomer is always audited.
func Identities(t uint64) int { return max(1, bits.Len64(max(t, 1)-1)) }
