package courier

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/computemarket/computemarket/internal/callback"
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
func (fl *flush) clock() int64 { return 1 + int64(fl.now()) }

func (w *worker) work() {
	var t *try
	defer func() { w.leave(t) }()
	w.fl.mu.Lock()
	w.renew()
	w.fl.waking = false
	t = w.fl.take()
	w.fl.mu.Unlock()
	for t != nil {
		mine, err := w.attempt(t)
		w.fl.mu.Lock()
		w.fl.attempted(t, mine, err)
		t = w.fl.take()
		w.fl.mu.Unlock()
	}
}

// leave is the end of a worker. Where code of the caller's has ended the
// goroutine in the midst of an attempt, that attempt has failed.
func (w *worker) leave(t *try) {
	fl := w.fl
	fl.mu.Lock()
	defer fl.mu.Unlock()
	w.cancel(nil)
	fl.workers = slices.DeleteFunc(fl.workers, func(other *worker) bool { return other == w })
	if t != nil {
		fl.c.claims.back(t.receipt.ID)
		fl.attempted(t, true, fmt.Errorf("%w in an attempt", callback.ErrGoexit))
		fl.wake()
	}
}

func (w *worker) renew() { w.ctx, w.cancel = context.WithCancelCause(w.fl.ctx) }

// attempted records what came of an attempt; a receipt that is not mine is
// another flush's.
func (fl *flush) attempted(t *try, mine bool, err error) {
	now := time.Duration(0)
	if err != nil {
		now = fl.now()
		if e := fl.ctx.Err(); e != nil {
			fl.stop(e) // before its consequences
		}
	}
	kept := false
	if mine {
		kept = fl.plan.attempted(t, now, err)
		fl.sleepUntilDue()
	} else {
		fl.plan.skipped(t)
	}
	switch {
	case err == nil:
	case !mine:
		fl.stop(err)
	case !kept:
		fl.c.claims.drop(t)
		fallthrough
	default:
		if err := fl.plan.down(err); err != nil {
			fl.stop(err)
		}
	}
	if !kept {
		fl.free = append(fl.free, t)
	}
	fl.outcome.Signal()
}

// take waits for a receipt to attempt. It returns nil when there will be none.
func (fl *flush) take() *try {
	for !fl.over {
		if t := fl.plan.next(fl.dueNow()); t != nil {
			fl.sleepUntilDue()
			if fl.plan.room() {
				fl.room.Signal()
			}
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

// wake lets a worker look for a receipt, if there is one. It wakes one at a
// time, who wakes the next: where attempts take no time, a few workers do it all,
// and where they do take time, soon all are at it.
func (fl *flush) wake() {
	if fl.waking {
		return
	}
	if again, fresh := fl.plan.ready(fl.dueNow()); !again && !fresh {
		return
	}
	switch {
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
