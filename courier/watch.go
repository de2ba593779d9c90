package courier

import "time"

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
			fl.sleepUntilDue()
			fl.wake()
			fl.mu.Unlock()
		case <-hang.C:
			hang.Reset(fl.endHung())
		case <-fl.finished:
			return
		}
	}
}

// sleepUntilDue sets the timer for the first of those that wait.
func (fl *flush) sleepUntilDue() {
	if len(fl.plan.waiting) == 0 {
		return
	}
	if wait := fl.plan.waiting[0].due - fl.now(); wait > 0 {
		fl.retry.Reset(wait)
	}
}

// dueNow is now, as far as anybody waits for it: to look at the clock takes as
// long as much else that is done for a receipt.
func (fl *flush) dueNow() time.Duration {
	if len(fl.plan.waiting) == 0 {
		return 0
	}
	return fl.now()
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
