package match

// A heap has the least entry at items[0]. It tells each entry where it stands,
// so that one can leave from the middle: the heap never holds the dead.
type heap[E any] struct {
	items  []E
	before func(x, y E) bool
	moved  func(e E, i int)
}

func (h *heap[E]) push(e E) {
	h.items = append(h.items, e)
	h.up(len(h.items) - 1)
}

func (h *heap[E]) remove(i int) {
	last := len(h.items) - 1
	h.items[i] = h.items[last]
	clear(h.items[last:])
	h.items = h.items[:last]
	if i < last {
		h.fix(i)
	}
}

// fix finds the place of an entry that has changed, or is new at i.
func (h *heap[E]) fix(i int) { h.up(h.down(i)) }

func (h *heap[E]) up(i int) int {
	e := h.items[i]
	for i > 0 && h.before(e, h.items[(i-1)/2]) {
		h.place(i, h.items[(i-1)/2])
		i = (i - 1) / 2
	}
	h.place(i, e)
	return i
}

func (h *heap[E]) down(i int) int {
	e := h.items[i]
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if r := child + 1; r < len(h.items) && h.before(h.items[r], h.items[child]) {
			child = r
		}
		if !h.before(h.items[child], e) {
			break
		}
		h.place(i, h.items[child])
		i = child
	}
	h.place(i, e)
	return i
}

func (h *heap[E]) place(i int, e E) {
	h.items[i] = e
	h.moved(e, i)
}
