package verify

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// A Probability is a share in millionths, from 0 to [Certain].
type Probability uint32

const (
	// Certain is the probability of what always happens.
	Certain Probability = 1_000_000
	// Floor is the least probability of an audit that a [Policy] may have, one in a
	// hundred, which is also that of Pocket's probabilistic proofs.
	Floor Probability = 10_000
)

// String returns percents, such as "1%" or "12.5%".
func (p Probability) String() string {
	s := fmt.Sprintf("%d.%04d", p/10_000, p%10_000)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + "%"
}

// MarshalText returns the number of millionths.
func (p Probability) MarshalText() ([]byte, error) {
	return strconv.AppendUint(nil, uint64(p), 10), nil
}

// UnmarshalText reads a number of millionths. It returns [ErrText] for anything
// else, or for more than [Certain], and then leaves p as it was.
func (p *Probability) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil || v > uint64(Certain) {
		return fmt.Errorf("%w: %.20q is no number of millionths", ErrText, text)
	}
	*p = Probability(v)
	return nil
}

// Bond returns the least bond that makes cheating a loss, in credits: for work at
// price, whose wrong result brings gain besides to who gave it, and which is found
// out with probability p. Who cheats has price and gain with probability 1-p, and
// loses the bond S with probability p. With R = price + gain that is a loss if
//
//	(1-p)·R - p·S < 0
//
// so the bond is the least whole number above R(1-p)/p. The rule is that of
// Pocket's probabilistic proofs, which asks for S ≥ R(1-p)/p; at equality cheating
// costs nothing, so it is one credit more here where the quotient is whole.
//
// Possible errors: [ErrInvalid] if p is 0, since no bond deters whom nobody looks
// at, or above [Certain]; [ErrOverflow].
func Bond(price, gain uint64, p Probability) (uint64, error) {
	if p == 0 || p > Certain {
		return 0, fmt.Errorf("%w: a probability of %d millionths", ErrInvalid, p)
	}
	stake, carry := bits.Add64(price, gain, 0)
	if carry != 0 {
		return 0, ErrOverflow
	}
	hi, lo := bits.Mul64(stake, uint64(Certain-p))
	if hi >= uint64(p) {
		return 0, ErrOverflow
	}
	quotient, _ := bits.Div64(hi, lo, uint64(p))
	bond, carry := bits.Add64(quotient, 1, 0)
	if carry != 0 {
		return 0, ErrOverflow
	}
	return bond, nil
}

// AuditProbability is the other side of [Bond]: the least probability of an audit
// with which a bond makes cheating a loss, where price and gain are at stake, and
// never less than floor, nor [Floor]. Where the workers' bonds differ, give the
// least. It rises with the price, and is [Certain]
// where there is no bond. Amounts that overflow are [Certain] too.
func AuditProbability(floor Probability, price, gain, bond uint64) Probability {
	least := min(max(floor, Floor), Certain)
	stake, carry := bits.Add64(price, gain, 0)
	sum, carry2 := bits.Add64(stake, bond, 0)
	if carry != 0 || carry2 != 0 || bond == 0 {
		return Certain
	}
	// The least p with p·(R+S) > R, in millionths: more than R·1e6/(R+S).
	hi, lo := bits.Mul64(stake, uint64(Certain))
	quotient, _ := bits.Div64(hi, lo, sum) // stake < sum, so hi < sum
	return min(max(least, Probability(quotient+1)), Certain)
}
