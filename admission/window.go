package admission

import "slices"

// Invariant: sorted holds exactly the values of the samples in the ring, which
// are at most limit in number and all younger than age.

// window is a sliding window by count and by age over which quantiles are read.
type window struct {
	ring   []sample // oldest at head
	head   int
	n      int
	sorted []uint64
	age    int64
}

type sample struct {
	value uint64
	at    int64
}

func newWindow(limit int, age int64) window {
	return window{ring: make([]sample, limit), sorted: make([]uint64, 0, limit), age: age}
}

// add takes a sample; at never runs backward from call to call. A full window
// loses its oldest sample.
func (w *window) add(value uint64, at int64) {
	if w.n == len(w.ring) {
		w.drop()
	}
	w.ring[(w.head+w.n)%len(w.ring)] = sample{value, at}
	w.n++
	i, _ := slices.BinarySearch(w.sorted, value)
	w.sorted = slices.Insert(w.sorted, i, value)
}

// expire drops what has come of age at now.
func (w *window) expire(now int64) {
	for w.n > 0 && w.nth(0).at+w.age <= now {
		w.drop()
	}
}

// next returns when the oldest sample comes of age, or never.
func (w *window) next() int64 {
	if w.n == 0 {
		return never
	}
	return w.nth(0).at + w.age
}

func (w *window) drop() {
	i, _ := slices.BinarySearch(w.sorted, w.nth(0).value)
	w.sorted = slices.Delete(w.sorted, i, i+1)
	w.head = (w.head + 1) % len(w.ring)
	w.n--
}

// quantile returns the element at index floor(n·q) of the sorted samples, or 0
// if there are none; q is in [0, 1).
func (w *window) quantile(q float64) uint64 {
	if w.n == 0 {
		return 0
	}
	return w.sorted[index(w.n, q)]
}

// index returns floor(n·q), for n above 0 and q in [0, 1).
func index(n int, q float64) int { return min(int(float64(n)*q), n-1) }

// nth returns a sample, 0 being the oldest.
func (w *window) nth(i int) sample { return w.ring[(w.head+i)%len(w.ring)] }
