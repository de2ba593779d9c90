package verify

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func amounts() *rapid.Generator[uint64] { return rapid.OneOf(rapid.Uint64(), rapid.Uint64Max(1000)) }

// gain is what who cheats expects, in millionths of a credit.
func gain(stake *big.Int, bond uint64, p Probability) *big.Int {
	won := new(big.Int).Mul(stake, big.NewInt(int64(Certain-p)))
	return won.Sub(won, new(big.Int).Mul(new(big.Int).SetUint64(bond), big.NewInt(int64(p))))
}

// The bond makes cheating a loss, and one credit less does not.
func TestBondIsTheLeast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		price, besides := amounts().Draw(t, "price"), amounts().Draw(t, "gain")
		p := Probability(rapid.Uint32Range(1, uint32(Certain)).Draw(t, "p"))
		stake := new(big.Int).Add(new(big.Int).SetUint64(price), new(big.Int).SetUint64(besides))
		bond, err := Bond(price, besides, p)
		if err != nil {
			if !errors.Is(err, ErrOverflow) {
				t.Fatal(err)
			}
			if gain(stake, math.MaxUint64, p).Sign() < 0 && stake.IsUint64() {
				t.Fatal("overflow, and there is a bond")
			}
			return
		}
		if gain(stake, bond, p).Sign() >= 0 {
			t.Errorf("with a bond of %d cheating is no loss", bond)
		}
		if gain(stake, bond-1, p).Sign() < 0 {
			t.Errorf("a bond of %d is not the least", bond)
		}
	})
}

func TestBond(t *testing.T) {
	for _, c := range []struct {
		price, gain uint64
		p           Probability
		want        uint64
		err         error
	}{
		{100, 0, 500_000, 101, nil},
		{100, 0, Certain, 1, nil},
		{0, 0, Floor, 1, nil},
		{20, 0, Floor, 1981, nil}, // Pocket has 1,980, at which cheating is free
		{20, 10, Floor, 2971, nil},
		{1, 0, 1, 1_000_000, nil},
		{1, 0, 300_000, 3, nil}, // 2⅓, rounded up
		{math.MaxUint64, 0, 500_000, 0, ErrOverflow},
		{math.MaxUint64 - 1, 0, 500_000, math.MaxUint64, nil},
		{math.MaxUint64, 1, Certain, 0, ErrOverflow},
		{math.MaxUint64, 0, 1, 0, ErrOverflow},
		{18_446_762_520_473, 0, 1, 0, ErrOverflow}, // a product just above 2^64
		{18_446_762_520_472, 0, 1, 18_446_744_073_709_479_529, nil},
		{1, 0, 0, 0, ErrInvalid},
		{1, 0, Certain + 1, 0, ErrInvalid},
	} {
		if got, err := Bond(c.price, c.gain, c.p); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("Bond(%d, %d, %v): %d, %v, want %d, %v", c.price, c.gain, c.p, got, err, c.want, c.err)
		}
	}
}

// The probability makes cheating a loss with the bond there is, one millionth less
// does not unless the floor asks for more, and more at stake never lowers it.
func TestAuditProbability(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		price, besides, bond := amounts().Draw(t, "price"), amounts().Draw(t, "gain"), amounts().Draw(t, "bond")
		floor := Probability(rapid.Uint32Max(uint32(Certain)).Draw(t, "floor"))
		p := AuditProbability(floor, price, besides, bond)
		if p < floor || p < Floor || p > Certain {
			t.Fatalf("%v with a floor of %v", p, floor)
		}
		if price < math.MaxUint64 && AuditProbability(floor, price+1, besides, bond) < p {
			t.Error("a higher price is audited less")
		}
		stake := new(big.Int).Add(new(big.Int).SetUint64(price), new(big.Int).SetUint64(besides))
		all := new(big.Int).Add(stake, new(big.Int).SetUint64(bond))
		if bond == 0 || !all.IsUint64() {
			if p != Certain {
				t.Errorf("%v without a bond, or beyond 64 bits", p)
			}
			return
		}
		if gain(stake, bond, p).Sign() >= 0 {
			t.Errorf("cheating is no loss at %v", p)
		}
		if p > max(floor, Floor) && gain(stake, bond, p-1).Sign() < 0 {
			t.Errorf("%v is not the least", p)
		}
	})
}

func TestAuditProbabilityBeyond64Bits(t *testing.T) {
	for _, c := range [][3]uint64{{1 << 63, 0, 1 << 63}, {math.MaxUint64, 1, 5}, {math.MaxUint64, 0, 1}, {0, 0, 0}} {
		if p := AuditProbability(Floor, c[0], c[1], c[2]); p != Certain {
			t.Errorf("%v: %v", c, p)
		}
	}
	if p := AuditProbability(Floor, 0, 0, math.MaxUint64); p != Floor {
		t.Error(p)
	}
}

func TestProbabilityText(t *testing.T) {
	for p, want := range map[Probability]string{0: "0%", 1: "0.0001%", Floor: "1%", 125_000: "12.5%", Certain: "100%"} {
		if p.String() != want {
			t.Errorf("%d: %v, want %s", uint32(p), p, want)
		}
		text, _ := p.MarshalText()
		var back Probability
		if err := back.UnmarshalText(text); err != nil || back != p {
			t.Errorf("%s: %v, %v", text, back, err)
		}
	}
	p := Probability(7)
	for _, bad := range []string{"", "-1", "1%", "1000001", "4294967297"} {
		if err := p.UnmarshalText([]byte(bad)); !errors.Is(err, ErrText) || p != 7 {
			t.Errorf("%q: %v, %v", bad, p, err)
		}
	}
}
