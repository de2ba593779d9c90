package match

import (
	"fmt"
	"testing"

	"github.com/computemarket/computemarket/admission"
)

// BenchmarkHostile is what messages cost beside the crossing orders of one
// account, two to a million of them: a hostile replace with the pass that it
// calls for, a stranger's order in front of all of them that trades, and a trade
// of the other lane.
func BenchmarkHostile(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000, 500_000} {
		book, err := NewBook(&Options{Capacity: 1 << 21})
		if err != nil {
			b.Fatal(err)
		}
		put(b, book, Order{ID: "b0", Account: "hostile", Lane: admission.Industrial, Side: Bid, Units: 1, Price: 1 << 40})
		put(b, book, Order{ID: "a0", Account: "hostile", Lane: admission.Industrial, Side: Ask, Units: 1, Price: 1})
		for i := 1; i < n; i++ {
			put(b, book, Order{ID: fmt.Sprint("b", i), Account: "hostile", Lane: admission.Industrial, Side: Bid, Units: 1, Price: 1<<40 + uint64(i)})
			put(b, book, Order{ID: fmt.Sprint("a", i), Account: "hostile", Lane: admission.Industrial, Side: Ask, Units: 1, Price: 1<<39 - uint64(i)})
		}
		ms := book.Propose(nil, admission.Industrial, 1)
		trade := func(b *testing.B, lane admission.Lane) {
			ms = book.Propose(ms[:0], lane, 1)
			if len(ms) != 1 || book.Commit(ms[0]) != nil {
				b.Fatalf("%d matches", len(ms))
			}
		}
		b.Run(fmt.Sprintf("crossing=%d/replace", 2*n), func(b *testing.B) {
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				if _, err := book.Replace("b0", 1, 1<<41+i%1000, epoch); err != nil {
					b.Fatal(err)
				}
				ms = book.Propose(ms[:0], admission.Industrial, 1)
			}
		})
		b.Run(fmt.Sprintf("crossing=%d/stranger", 2*n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				put(b, book, Order{ID: "stranger", Account: "stranger", Lane: admission.Industrial, Side: Bid, Units: 1, Price: 1 << 41})
				put(b, book, Order{ID: "other", Account: "other", Lane: admission.Industrial, Side: Ask, Units: 1, Price: 0})
				trade(b, admission.Industrial)
			}
		})
		b.Run(fmt.Sprintf("crossing=%d/consumers", 2*n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				put(b, book, Order{ID: "buyer", Account: "buyer", Side: Bid, Units: 1, Price: 2})
				put(b, book, Order{ID: "provider", Account: "provider", Side: Ask, Units: 1, Price: 2})
				trade(b, admission.Consumer)
			}
		})
	}
}
