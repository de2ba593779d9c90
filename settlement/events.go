package settlement

import (
	"sync"

	"github.com/computemarket/computemarket/internal/callback"
)

// events is what Metrics and Logger are told: in the order in which it happened,
// one at a time, and never while the engine holds anything, so that they may call
// the engine. Each method that an engine's user calls delivers at its end. What
// observers do wrong stays with them.
type events struct {
	mu         sync.Mutex // guards what follows, and is free while an event is told
	queue      []func()
	delivering bool
}

func (q *events) add(tell func()) {
	q.mu.Lock()
	q.queue = append(q.queue, tell)
	q.mu.Unlock()
}

// deliver tells what is in the queue, unless a caller further up or beside is
// about it already.
func (q *events) deliver() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.delivering {
		return
	}
	q.delivering = true
	for len(q.queue) > 0 {
		told := q.queue
		q.queue = nil
		q.mu.Unlock()
		for _, tell := range told {
			callback.Run("an observer", func() error { tell(); return nil })
		}
		q.mu.Lock()
	}
	q.delivering = false
}
