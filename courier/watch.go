package courier

import (
	"container/heap"
	"time"
)

// watch sees to what happens at a time: the end of the context, the next
// attempt of those that wait, and attempts that hang.
func (fl *flush) watch() {
	hang := time.NewTimer(fl.c.opts.Timeout)
	defer hang.Stop()
	defer fl.retry.Stop()
	done := fl.ctx.Done()
	for {
		select {
		case <-done:
			done = nil
			fl.mu.Lock()
			fl.stop(fl.ctx.Err())
			fl.mu.Unlock()
		case <-fl.retry.C:
			fl.mu.Lock()
			fl.ripen()
			fl.mu.Unlock()
		case <-hang.C:
			hang.Reset(fl.endHung())
		case <-fl.finished:
			return
		}
	}
}

// endHung ends the attempts that have not moved for the timeout. It returns when
// to look again: one timer serves all attempts, and none of them has to set it.
func (fl *flush) endHung() time.Duration {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	timeout := fl.c.opts.Timeout
	next, now := timeout, fl.clock()
	for _, w := range fl.workers {
		moved := w.moved.Load()
		if moved <= 0 {
			continue
		}
		if left := timeout - time.Duration(now-moved); left > 0 {
			next = min(next, left)
		} else if w.moved.CompareAndSwap(moved, hung) {
			w.cancel(errTimeout)
		}
	}
	return next
}

// later lets t wait for its next attempt.
func (fl *flush) later(t *try) {
	wait := fl.c.opts.backoff(t.n)
	t.due = time.Now().Add(wait)
	heap.Push(&fl.waiting, t)
	if fl.waiting[0] == t {
		fl.retry.Reset(wait)
	}
}

// ripen finds those that have waited long enough.
func (fl *flush) ripen() {
	for len(fl.waiting) > 0 {
		if wait := time.Until(fl.waiting[0].due); wait > 0 {
			fl.retry.Reset(wait)
			break
		}
		fl.due = append(fl.due, heap.Pop(&fl.waiting).(*try))
	}
	fl.wake()
}

// waiting is a heap, the first due on top.
type waiting []*try

func (w waiting) Len() int           { return len(w) }
func (w waiting) Less(i, j int) bool { return w[i].due.Before(w[j].due) }
func (w waiting) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *waiting) Push(t any)        { *w = append(*w, t.(*try)) }

func (w *waiting) Pop() any {
	last := len(*w) - 1
	t := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	return t
}
