package admission

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestWindow holds the window against a plain list that is filtered and sorted
// anew each time.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 60).Draw(t, "limit")
		age := rapid.Int64Range(1, 100).Draw(t, "age")
		w := newWindow(limit, age)
		var plain []sample
		now := int64(0)
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			now += rapid.Int64Range(0, 20).Draw(t, "pause")
			w.expire(now)
			plain = slices.DeleteFunc(plain, func(s sample) bool { return now-s.at >= age })
			if rapid.Bool().Draw(t, "add") {
				v := rapid.Uint64Range(0, 20).Draw(t, "value")
				w.add(v, now)
				plain = append(plain, sample{v, now})
				plain = plain[max(0, len(plain)-limit):]
			}
			var sorted []uint64
			for _, s := range plain {
				sorted = append(sorted, s.value)
			}
			slices.Sort(sorted)
			if !slices.Equal(sorted, w.sorted) || w.n != len(sorted) {
				t.Fatalf("window holds %v, want %v", w.sorted, sorted)
			}
			if len(plain) > 0 && w.next() != plain[0].at+age {
				t.Fatalf("next is %d, want %d", w.next(), plain[0].at+age)
			}
		}
	})
}

// TestQuantile states the rule: the element at index floor(n·q).
func TestQuantile(t *testing.T) {
	w := newWindow(10, never/2)
	if q := w.quantile(0.5); q != 0 {
		t.Errorf("of nothing: %d", q)
	}
	for i := range uint64(4) {
		w.add(i+1, 0)
	}
	for q, want := range map[float64]uint64{0.25: 2, 0.5: 3, 0.75: 4, 0.01: 1, 0.99: 4} {
		if got := w.quantile(q); got != want {
			t.Errorf("quantile %v of 1..4 is %d, want %d", q, got, want)
		}
	}
}
