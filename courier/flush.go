package courier

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"
)

// Report is what a flush did.
type Report struct {
	Forwarded uint64 // delivered, rewarded and acknowledged
	Failed    uint64 // tried in vain as often as allowed, and still pending
	Rejected  uint64 // refused for good, now dead
	Expired   uint64 // over the lifetime, now dead
	Damaged   uint64 // without their bundle, now dead
	Remaining uint64 // pending in the store when the flush ended
}

// Flush forwards the pending receipts, those stored when it begins, and returns
// when each was forwarded or given up. Memory does not grow with their number.
// Failures of single receipts are not errors of the flush: they are in the
// report. Possible errors, each with the report of what was done until then:
//
//   - [ErrPeerDown]: see [Options.StopAfter];
//   - the context's: attempts in progress are ended, what was forwarded is still
//     acknowledged;
//   - those of the [Store], the [Bundles] and the [Rewarder].
//
// A flush that stopped early lets the next one begin where it stopped and come
// round to the rest, so receipts that always fail cannot keep the others back.
// Flushes at once share the work: none forwards a receipt that another has in
// hand or has done. No goroutine is left when Flush returns.
func (c *Courier) Flush(ctx context.Context, f Forwarder) (Report, error) {
	if f == nil {
		return Report{}, fmt.Errorf("%w: no forwarder", ErrInvalid)
	}
	fl := &flush{
		c: c, ctx: ctx, forwarder: f,
		jobs:      make(chan try, c.opts.Concurrency),
		results:   make(chan result, c.opts.Concurrency),
		committed: make(chan commit, 1),
		retry:     time.NewTimer(time.Hour),
	}
	defer fl.retry.Stop()
	c.enter(fl)
	defer c.leave(fl)

	next, stop := iter.Pull2(fl.pending())
	fl.next = next
	fl.run()
	stop()
	close(fl.jobs)
	fl.workers.Wait()
	counts, err := c.store.Count(context.WithoutCancel(ctx))
	fl.report.Remaining = counts.Pending
	if fl.err != nil {
		err = fl.err
	}
	return fl.report, err
}

// flush is one call of Flush. Its fields belong to that call's goroutine.
type flush struct {
	c         *Courier
	ctx       context.Context
	forwarder Forwarder
	next      func() (Receipt, error, bool)
	listed    bool // next has ended
	shared    bool // there was another flush meanwhile; guarded by c.mu

	jobs     chan try    // attempts for the workers, with room for all
	results  chan result // of attempts
	inFlight int         // attempts
	working  int         // workers, as many as attempts were ever in flight
	workers  sync.WaitGroup
	waiting  waiting     // for their next attempt
	retry    *time.Timer // when the first of them is due

	group      []outcome   // to be settled next
	committed  chan commit // the group before
	committing bool

	failedFirst int // receipts in a row that failed at first, see StopAfter
	report      Report
	err         error // why no more attempts begin
}

// A try is a receipt that has been attempted n times.
type try struct {
	receipt Receipt
	n       int
	due     time.Time
}

type result struct {
	try try
	err error
}

type commit struct {
	group, settled []outcome
	err            error
}

// run is the loop of a flush: it starts attempts and commits and hears of their
// ends.
func (fl *flush) run() {
	done := fl.ctx.Done()
	if fl.ctx.Err() != nil {
		fl.stop(fl.ctx.Err())
		return
	}
	for {
		fl.commit() // first, to make room
		for fl.begin() {
		}
		fl.commit()
		if fl.inFlight == 0 && !fl.committing && len(fl.waiting) == 0 {
			return
		}
		var due <-chan time.Time
		if len(fl.waiting) > 0 && fl.room() {
			fl.retry.Reset(time.Until(fl.waiting[0].due))
			due = fl.retry.C
		}
		select {
		case r := <-fl.results:
			fl.inFlight--
			fl.attempted(r)
		case c := <-fl.committed:
			fl.committing = false
			fl.settled(c)
		case <-due:
		case <-done:
			done = nil
			fl.stop(fl.ctx.Err())
		}
	}
}

// room reports whether another attempt may begin.
func (fl *flush) room() bool {
	return fl.inFlight < fl.c.opts.Concurrency && len(fl.group) < fl.c.opts.GroupSize
}

// begin starts the attempt that is due, or that of the next receipt. It reports
// whether there may be another to start.
func (fl *flush) begin() bool {
	if fl.err != nil || !fl.room() {
		return false
	}
	if len(fl.waiting) > 0 && time.Until(fl.waiting[0].due) <= 0 {
		fl.attempt(heap.Pop(&fl.waiting).(try))
		return true
	}
	if fl.listed || len(fl.waiting) >= fl.c.opts.MaxWaiting {
		return false
	}
	r, err, ok := fl.next()
	if !ok {
		fl.listed = true
		return false
	}
	if err != nil {
		fl.stop(err)
		return false
	}
	mine, err := fl.claim(&r)
	if err != nil {
		fl.stop(err)
		return false
	}
	if !mine {
		return true
	}
	if life := fl.c.opts.Lifetime; life > 0 && r.Age(fl.c.opts.Clock.Now()) > life {
		fl.group = append(fl.group, outcome{receipt: r, to: Dead, cause: Expired,
			reason: fmt.Sprintf("not forwarded within %v", life)})
		return true
	}
	fl.attempt(try{receipt: r})
	return true
}

func (fl *flush) attempt(t try) {
	if fl.inFlight++; fl.working < fl.inFlight {
		fl.working++
		fl.workers.Go(fl.work)
	}
	t.n++
	fl.jobs <- t
}

func (fl *flush) work() {
	for t := range fl.jobs {
		fl.results <- result{t, fl.c.attempt(fl.ctx, fl.forwarder, t.receipt)}
	}
}

// attempted decides what becomes of a receipt after an attempt.
func (fl *flush) attempted(r result) {
	if err := fl.ctx.Err(); err != nil {
		fl.stop(err) // before its consequences
	}
	o := outcome{receipt: r.try.receipt, to: Acknowledged}
	if r.err == nil {
		fl.failedFirst = 0
		fl.group = append(fl.group, o)
		return
	}
	o.to, o.reason = Dead, cut(r.err.Error())
	if _, ok := errors.AsType[damage](r.err); ok {
		o.cause = Damaged
		fl.group = append(fl.group, o)
		return
	}
	if errors.Is(r.err, ErrRejected) {
		fl.failedFirst = 0 // the peer is there
		o.cause = Rejected
		fl.group = append(fl.group, o)
		return
	}
	if e, ok := errors.AsType[storeError](r.err); ok {
		fl.stop(e.error)
	}
	if fl.err != nil {
		fl.c.unclaim(o.receipt.ID)
		return
	}
	if r.try.n == 1 {
		fl.failedFirst++
	}
	fl.c.opts.Logger.Debug("attempt failed", "id", o.receipt.ID, "attempt", r.try.n, "err", r.err)
	if r.try.n >= fl.c.opts.MaxAttempts {
		fl.report.Failed++
		fl.c.unclaim(o.receipt.ID)
	} else {
		r.try.due = time.Now().Add(fl.c.opts.backoff(r.try.n))
		heap.Push(&fl.waiting, r.try)
	}
	if fl.failedFirst >= fl.c.opts.StopAfter {
		fl.stop(fmt.Errorf("%w: %d receipts in a row, the last: %w", ErrPeerDown, fl.failedFirst, r.err))
	}
}

// stop lets no attempt begin any more, for the first reason it is given.
func (fl *flush) stop(err error) {
	if fl.err != nil {
		return
	}
	fl.err = err
	for _, t := range fl.waiting {
		fl.c.unclaim(t.receipt.ID)
	}
	fl.waiting = nil
}

// commit settles what has gathered, while more gathers.
func (fl *flush) commit() {
	if fl.committing || len(fl.group) == 0 {
		return
	}
	n := min(len(fl.group), fl.c.opts.GroupSize)
	group := fl.group[:n:n]
	fl.group = append([]outcome(nil), fl.group[n:]...)
	fl.committing = true
	go func() {
		all := append([]outcome(nil), group...) // settle changes group
		settled, err := fl.c.settle(fl.ctx, group)
		fl.committed <- commit{all, settled, err}
	}()
}

func (fl *flush) settled(c commit) {
	for _, o := range c.group {
		fl.c.unclaim(o.receipt.ID)
	}
	for _, o := range c.settled {
		switch {
		case o.to == Acknowledged:
			fl.report.Forwarded++
		case o.cause == Rejected:
			fl.report.Rejected++
		case o.cause == Expired:
			fl.report.Expired++
		case o.cause == Damaged:
			fl.report.Damaged++
		}
	}
	if c.err != nil {
		fl.stop(c.err)
	}
	if fl.c.opts.Progress != nil {
		fl.c.opts.Progress(fl.report)
	}
}

// pending yields the pending receipts from where the last flush stopped to the
// end, then those before.
func (fl *flush) pending() iter.Seq2[Receipt, error] {
	return func(yield func(Receipt, error) bool) {
		c, from := fl.c, fl.c.resume.Load()
		end := uint64(0)
		for r, err := range c.store.List(fl.ctx, Pending, from) {
			if err == nil {
				end = r.Seq
			}
			if !yield(r, err) {
				c.resume.Store(end)
				return
			}
		}
		if from == 0 {
			return
		}
		for r, err := range c.store.List(fl.ctx, Pending, 0) {
			if err == nil {
				if r.Seq >= from {
					break
				}
				end = r.Seq
			}
			if !yield(r, err) {
				c.resume.Store(end)
				return
			}
		}
		c.resume.Store(0)
	}
}

// waiting is a heap, the first due on top.
type waiting []try

func (w waiting) Len() int           { return len(w) }
func (w waiting) Less(i, j int) bool { return w[i].due.Before(w[j].due) }
func (w waiting) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *waiting) Push(t any)        { *w = append(*w, t.(try)) }

func (w *waiting) Pop() any {
	last := len(*w) - 1
	t := (*w)[last]
	(*w)[last] = try{}
	*w = (*w)[:last]
	return t
}
