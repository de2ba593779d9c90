package courier

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// A worker attempts one receipt at a time.
type worker struct {
	fl     *flush
	ctx    context.Context         // of its attempts, until one hangs
	cancel context.CancelCauseFunc // of ctx; guarded by fl.mu
	moved  atomic.Int64            // when the attempt last moved, see flush.clock; or noAttempt, hung
}

const (
	noAttempt = 0
	hung      = -1
)

// clock returns the time since the flush began, which is never 0.
func (fl *flush) clock() int64 { return 1 + int64(time.Since(fl.began)) }

func (w *worker) work() {
	fl := w.fl
	fl.mu.Lock()
	w.renew()
	fl.waking = false
	for t := fl.take(); t != nil; t = fl.take() {
		fl.mu.Unlock()
		mine, err := w.attempt(t)
		fl.mu.Lock()
		fl.inFlight--
		switch {
		case mine && t.to == Dead: // already
			fl.settleAs(t, t.to, t.cause, t.reason)
		case mine:
			fl.attempted(t, err)
		default:
			fl.free = append(fl.free, t)
			fl.outcome.Signal()
			if err != nil {
				fl.stop(err)
			}
		}
	}
	w.cancel(nil)
	fl.mu.Unlock()
}

func (w *worker) renew() { w.ctx, w.cancel = context.WithCancelCause(w.fl.ctx) }

// take waits for a receipt to attempt. It returns nil when there will be none.
func (fl *flush) take() *try {
	for !fl.over {
		if t := fl.next(); t != nil {
			fl.inFlight++
			fl.wake()
			return t
		}
		fl.sleeping++
		fl.idle.Wait()
		fl.sleeping--
		fl.waking = false
	}
	return nil
}

// next returns a receipt to attempt now, or nil.
func (fl *flush) next() *try {
	if !fl.ready() {
		return nil
	}
	if len(fl.due) > 0 {
		t := fl.due[0]
		fl.due = fl.due[1:]
		return t
	}
	t := fl.queue[fl.head]
	fl.head++
	fl.seq = t.receipt.Seq
	if len(fl.queue)-fl.head == scanRun {
		fl.room.Signal()
	}
	return t
}

func (fl *flush) ready() bool {
	if fl.err != nil || len(fl.group) >= fl.c.opts.GroupSize {
		return false
	}
	return len(fl.due) > 0 || fl.head < len(fl.queue) && len(fl.waiting) < fl.c.opts.MaxWaiting
}

// wake lets a worker look for a receipt, if there is one. It wakes one at a
// time, who wakes the next: where attempts take no time, a few workers do it all,
// and where they do take time, soon all are at it.
func (fl *flush) wake() {
	switch {
	case fl.waking || !fl.ready():
	case fl.sleeping > 0:
		fl.waking = true
		fl.idle.Signal()
	case len(fl.workers) < fl.c.opts.Concurrency:
		fl.waking = true
		w := &worker{fl: fl}
		fl.workers = append(fl.workers, w)
		fl.helpers.Go(w.work)
	}
}

// attempt forwards t once, unless it is another flush's, which mine reports, or
// too old, which makes it Dead.
func (w *worker) attempt(t *try) (mine bool, err error) {
	c := w.fl.c
	if t.n == 0 {
		if mine, err := w.fl.claim(&t.receipt); !mine {
			return false, err
		}
		if life := c.opts.Lifetime; life > 0 && t.receipt.Age(c.opts.Clock.Now()) > life {
			t.to, t.cause, t.reason = Dead, Expired, fmt.Sprintf("not forwarded within %v", life)
			return true, nil
		}
	}
	t.n++
	return true, w.deliver(&t.receipt)
}
