package verify

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// The table of PoCo: so many fresh names are believed at a trust. One name less is
// not.
func TestFreshIdentitiesForTrust(t *testing.T) {
	for _, c := range []struct {
		trust uint64
		want  int
	}{{0, 1}, {1, 1}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {10, 4}, {100, 7}, {10_000, 14}, {1 << 63, 63}, {math.MaxUint64, 64}} {
		if got := Identities(c.trust); got != c.want {
			t.Errorf("trust %d: %d, want %d", c.trust, got, c.want)
		}
		believed := func(n int) bool {
			g := group{weight: new(big.Int).Exp(big.NewInt(2), big.NewInt(int64(n)), nil)}
			return trusted(max(c.trust, 1), g.weight, []group{g})
		}
		if !believed(c.want) || c.want > 1 && believed(c.want-1) {
			t.Errorf("trust %d: %d names believed %v, one less %v", c.trust, c.want, believed(c.want), believed(c.want-1))
		}
	}
}

func TestWeight(t *testing.T) {
	for score, want := range map[uint64]uint64{
		0: 2, 8: 2, 9: 2, 11: 2, 12: 3, 14: 3, 15: 4, 30_003: 10_000, math.MaxUint64: math.MaxUint64/3 - 1,
	} {
		if got := Weight(score); got != want {
			t.Errorf("score %d weighs %d, want %d", score, got, want)
		}
	}
}

// The rule is Sarmenta's: the probability that this group is right and all others
// are wrong, among all cases in which at most one group is right. In fractions.
func TestTrustedIsSarmentasFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trust := rapid.Uint64Min(1).Draw(t, "trust")
		var groups []group
		var good, bad []*big.Rat
		for range rapid.IntRange(1, 4).Draw(t, "groups") {
			g, p, q := big.NewInt(1), big.NewRat(1, 1), big.NewRat(1, 1)
			for range rapid.IntRange(1, 4).Draw(t, "workers") {
				w := Weight(rapid.OneOf(rapid.Uint64(), rapid.Uint64Max(100)).Draw(t, "score"))
				weight := new(big.Int).SetUint64(w)
				more := new(big.Int).Add(weight, big.NewInt(1))
				g.Mul(g, weight)
				p.Mul(p, new(big.Rat).SetFrac(weight, more))
				q.Mul(q, new(big.Rat).SetFrac(big.NewInt(1), more))
			}
			groups, good, bad = append(groups, group{weight: g}), append(good, p), append(bad, q)
		}
		only := func(i int) *big.Rat { // group i is right, the others wrong; -1: all wrong
			p := big.NewRat(1, 1)
			for j := range groups {
				if j == i {
					p.Mul(p, good[j])
				} else {
					p.Mul(p, bad[j])
				}
			}
			return p
		}
		total := only(-1)
		for i := range groups {
			total.Add(total, only(i))
		}
		threshold := new(big.Rat).Sub(big.NewRat(1, 1), new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).SetUint64(trust)))
		for i := range groups {
			want := new(big.Rat).Quo(only(i), total).Cmp(threshold) > 0
			if got := trusted(trust, groups[i].weight, groups); got != want {
				t.Errorf("group %d at a trust of %d: %v, want %v", i, trust, got, want)
			}
		}
	})
}
