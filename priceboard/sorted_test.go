package priceboard

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// sweep makes the model test longer: go test -run TestSorted -sweep ./priceboard
var sweep = flag.Bool("sweep", false, "run more operations in model tests")

// patterns are price sequences that sorted structures find hard.
var patterns = []struct {
	name  string
	price func(r *rand.Rand, i int) uint64
}{
	{"random", func(r *rand.Rand, i int) uint64 { return r.Uint64() }},
	{"few", func(r *rand.Rand, i int) uint64 { return r.Uint64N(5) }},
	{"rising", func(r *rand.Rand, i int) uint64 { return uint64(i) }},
	{"falling", func(r *rand.Rand, i int) uint64 { return math.MaxUint64 - uint64(i) }},
	{"equal", func(r *rand.Rand, i int) uint64 { return 42 }},
	{"alternating", func(r *rand.Rand, i int) uint64 { return uint64(i%2) * math.MaxUint64 }},
	{"extreme", func(r *rand.Rand, i int) uint64 {
		return []uint64{0, 1, math.MaxUint64 - 1, math.MaxUint64, r.Uint64()}[r.IntN(5)]
	}},
	{"drifting", func(r *rand.Rand, i int) uint64 { return uint64(i) + r.Uint64N(1000) }},
	{"crowd", func(r *rand.Rand, i int) uint64 { // lone prices that keep blocks alive, and a crowd
		if i%7 == 0 {
			return r.Uint64()
		}
		return 1<<40 + uint64(i%97)
	}},
}

// TestSorted holds the blocks against a plain sorted slice after every operation.
func TestSorted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, p := range patterns {
		for _, c := range []struct{ window, size int }{
			{1, 1}, {2, 2}, {3, 3}, {100, 100}, {1000, 1000}, // one block
			{2, 4}, {7, 4}, {50, 4}, {100, 8}, {300, 16}, {5000, blockSize}, // several
		} {
			t.Run(fmt.Sprintf("%s/window=%d/size=%d", p.name, c.window, c.size), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, uint64(c.window)))
				s := &sorted{size: c.size}
				s.reset()
				steps := 2*c.window + 1000
				if *sweep {
					steps *= 20
				}
				var arrived, model []uint64
				for i := range steps {
					price := p.price(r, i)
					if len(arrived) == c.window {
						old := arrived[0]
						arrived = arrived[1:]
						k, _ := slices.BinarySearch(model, old)
						model = slices.Delete(model, k, k+1)
						s.replace(old, price)
					} else {
						s.add(price)
					}
					arrived = append(arrived, price)
					k, _ := slices.BinarySearch(model, price)
					model = slices.Insert(model, k, price)
					for k, q := range quantiles {
						if want := model[rank(len(model), q)]; s.values[k] != want {
							t.Fatalf("step %d: quantile %v is %d, want %d", i, q, s.values[k], want)
						}
					}
					if i%97 == 0 || c.window < 10 {
						if err := s.check(model); err != nil {
							t.Fatalf("step %d: %v", i, err)
						}
					}
					if i == steps/2 && r.IntN(3) == 0 {
						s.reset()
						arrived, model = nil, nil
					}
				}
			})
		}
	}
}

// check tests every promise that the fields of s make.
func (s *sorted) check(want []uint64) error {
	var all []uint64
	before := make([]int, len(s.blocks))
	for i := range s.blocks {
		before[i] = len(all)
		b := s.blocks[i][:s.count[i]]
		switch {
		case len(b) == 0 && len(s.blocks) > 1:
			return fmt.Errorf("block %d of %d is empty", i, len(s.blocks))
		case len(b) > 0 && s.top[i] != b[len(b)-1]:
			return fmt.Errorf("top of block %d is %d, want %d", i, s.top[i], b[len(b)-1])
		case i > 0 && s.count[i-1]+s.count[i] <= s.size/2:
			return fmt.Errorf("blocks %d and %d hold %d and %d", i-1, i, s.count[i-1], s.count[i])
		}
		all = append(all, b...)
	}
	if !slices.Equal(all, want) || s.n != len(want) {
		return errors.New("not the prices in ascending order")
	}
	for k, m := range s.marks {
		if m.before != before[m.block] {
			return fmt.Errorf("mark %d counts %d before block %d, want %d", k, m.before, m.block, before[m.block])
		}
	}
	for _, r := range []int{0, s.n / 3, s.n - 1} {
		if got := s.at(r); got != want[r] {
			return fmt.Errorf("at(%d) is %d, want %d", r, got, want[r])
		}
	}
	return nil
}

// TestSortedStaysSmall drives the pattern that leaves one price in each of many
// blocks: the number of blocks, and so memory, stays bounded.
func TestSortedStaysSmall(t *testing.T) {
	const window, size = 20_000, 64
	s := &sorted{size: size}
	s.reset()
	ring := newRing(window)
	base := uint64(0)
	var tops []uint64
	for i := range 20 * window {
		if i%window == 0 { // revisit each block once, then crowd a new range
			tops = append(tops[:0], s.top...)
			base += 1 << 32
		}
		price := base + uint64(i)
		if k := i % window; k < len(tops) {
			price = tops[k]
		}
		if left, full := ring.push(price, ""); full {
			s.replace(left, price)
		} else {
			s.add(price)
		}
		if bound := 4*s.n/size + 1; len(s.blocks) > bound {
			t.Fatalf("%d prices in %d blocks, want at most %d", s.n, len(s.blocks), bound)
		}
	}
	if made := len(s.blocks) + len(s.spare); made > 4*window/size+2 {
		t.Fatalf("%d blocks were made", made)
	}
}

func TestLowerBound(t *testing.T) {
	for n := range 70 {
		a := make([]uint64, n)
		for i := range a {
			a[i] = uint64(i/3) * 10
		}
		for _, price := range []uint64{0, 1, 9, 10, 11, 100, 115, 230, 231, math.MaxUint64} {
			want, _ := slices.BinarySearch(a, price)
			if got := lowerBound(a, price); got != want {
				t.Fatalf("lowerBound of %d prices, %d: %d, want %d", n, price, got, want)
			}
		}
	}
}

// TestDecimalRank: floor(n·q) of the decimal, for every quantile of up to four
// places, where float64 alone is off by one in many.
func TestDecimalRank(t *testing.T) {
	ns := []int{1, 2, 3, 7, 99, 100, 101, 1000, 4096, 9999, 10_000, 999_983, MaxWindow}
	off := 0
	for i := range 10_001 {
		q, err := strconv.ParseFloat(fmt.Sprintf("%d.%04d", i/10_000, i%10_000), 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range ns {
			want := min(int(uint64(n)*uint64(i)/10_000), n-1)
			if got := decimalRank(n, q); got != want {
				t.Fatalf("decimalRank(%d, %v) = %d, want %d", n, q, got, want)
			}
			if int(float64(n)*q) != want && i < 10_000 {
				off++
			}
		}
	}
	if off == 0 {
		t.Error("float64 alone would do")
	}
	for _, c := range []struct {
		n    int
		q    float64
		want int
	}{
		{100, 0.29, 29}, {100, 0.57, 57}, {100, 0.58, 58},
		{MaxWindow, math.Nextafter(1, 0), MaxWindow - 1}, {MaxWindow, math.SmallestNonzeroFloat64, 0},
		{MaxWindow, 1e-9, 0}, {MaxWindow, 2e-9, 1}, {5, math.Copysign(0, -1), 0}, {3, 1.0 / 3, 0}, {1, 1, 0},
	} {
		if got := decimalRank(c.n, c.q); got != c.want {
			t.Errorf("decimalRank(%d, %v) = %d, want %d", c.n, c.q, got, c.want)
		}
	}
	for n := range 1000 { // the published ones
		for i, q := range []float64{0.25, 0.5, 0.75} {
			if n > 0 && rank(n, quantiles[i]) != decimalRank(n, q) {
				t.Errorf("rank(%d, %d) is not that of %v", n, quantiles[i], q)
			}
		}
	}
}
