package courierpebble

import "sync"

// head knows where the pending list begins. The list is a queue: before its
// first record are the tombstones of all that was forwarded, which take time to
// walk over, so each walk tells the next what it found.
type head struct {
	mu       sync.Mutex
	headMark // as it is now
}

type headMark struct {
	first    uint64 // no pending record has a lower seq
	last     uint64 // the greatest durable seq
	requeues uint64 // how often an old record came back to the list
}

func (h *head) mark() headMark {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.headMark
}

// found is told of the first seq that a walk met which began after m was taken,
// or of one more than m.last if it met none.
func (h *head) found(m headMark, first uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.requeues == m.requeues { // else the walk may have begun too early to meet it
		h.first = max(h.first, first)
	}
}

// committed is told of a batch, before anybody hears of its success: the
// greatest seq, and the lowest that came back to the list, if any did.
func (h *head) committed(last, requeued uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = last
	if requeued > 0 {
		h.requeues++
		h.first = min(h.first, requeued)
	}
}
