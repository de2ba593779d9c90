package courier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/computemarket/computemarket/internal/callback"
)

// Report is what a flush did.
type Report struct {
	Forwarded uint64 // delivered, rewarded and acknowledged
	Failed    uint64 // tried in vain as often as allowed, or not rewarded, and still pending
	Rejected  uint64 // refused for good, now dead
	Expired   uint64 // over the lifetime, now dead
	Damaged   uint64 // without their bundle, now dead
	Remaining uint64 // pending in the store when the flush ended
}

// Flush forwards the pending receipts, those stored when it begins, and returns
// when each was forwarded or given up. Memory does not grow with their number.
// Receipts that fail, and bundles that cannot be opened, are no errors of the
// flush: they are in the report. Possible errors, each with the report of what
// was done until then:
//
//   - [ErrOptions]: f is nil; nothing was done;
//   - [ErrPeerDown]: see [Options.StopAfter];
//   - the context's: attempts in progress are ended, what was forwarded is still
//     acknowledged;
//   - that of the first credit that failed. It keeps no other receipt back, until
//     as many failed in a row as StopAfter says;
//   - those of the [Store], and a panic in Progress. A panic in the Forwarder or
//     in Amount is a failure of that receipt.
//
// Flush is fair. Receipts have turns: a turn is the first attempt to forward one
// and, when it was forwarded, the attempt to reward it. Turns go round in the
// order of sending, and a flush that ends early, whatever ended it, leaves the
// rest of its round to the next, also over a restart. So each flush that begins
// an attempt moves on by at least one receipt, and a pending receipt has its turn
// within as many flushes as there were others pending when it was sent, twice
// over. Within a flush, receipts that are tried again delay those still to have
// their turn by at most as many attempts.
//
// Flushes at once share the work: none forwards a receipt that another has in
// hand or has done. No goroutine is left when Flush returns.
func (c *Courier) Flush(ctx context.Context, f Forwarder) (Report, error) {
	if f == nil {
		return Report{}, fmt.Errorf("%w: no forwarder", ErrOptions)
	}
	fl := newFlush(ctx, c, f)
	c.enter(fl)
	defer c.leave(fl)
	err := ctx.Err()
	if err == nil {
		err = fl.begin()
	}
	if err == nil {
		fl.helpers.Go(fl.scan)
		fl.helpers.Go(fl.watch)
		fl.settleAll()
		close(fl.finished)
		fl.helpers.Wait()
		err = fl.plan.err
	}
	return fl.end(err)
}

// flush is one call of Flush. It drives a schedule: a scan walks the pending
// list and offers receipts, workers make attempts, a watch sees to what happens
// at a time, and the caller's own goroutine settles. Code of the caller's runs
// on none of these but the workers, and never under the lock.
type flush struct {
	c         *Courier
	ctx       context.Context
	forwarder Forwarder
	began     time.Time
	shared    bool // there was another flush meanwhile; guarded by c.mu
	helpers   sync.WaitGroup
	finished  chan struct{}

	last    uint64 // the greatest Seq when the flush began
	expired uint64 // receipts up to this Seq are too old

	mu      sync.Mutex // guards the rest
	plan    schedule
	idle    sync.Cond   // workers wait for a receipt
	room    sync.Cond   // the scan waits for the queue to get short
	outcome sync.Cond   // Flush waits for one, or for the end
	retry   *time.Timer // for the first that waits

	workers  []*worker
	sleeping int  // workers
	waking   bool // one of them has been told to look for a receipt
	over     bool // no more will come

	free []*try // to be used again

	// Settle's own.
	moves       []Move
	unpaid      error // of the first credit that failed
	unpaidInRow int   // credits that failed
}

func newFlush(ctx context.Context, c *Courier, f Forwarder) *flush {
	fl := &flush{c: c, ctx: ctx, forwarder: f, began: time.Now(), finished: make(chan struct{})}
	fl.idle.L, fl.room.L, fl.outcome.L = &fl.mu, &fl.mu, &fl.mu
	fl.retry = time.NewTimer(time.Hour)
	fl.retry.Stop()
	o := &c.opts
	fl.plan = schedule{
		maxAttempts: o.MaxAttempts, maxWaiting: o.MaxWaiting, stopAfter: o.StopAfter, groupSize: o.GroupSize,
		backoff: o.backoff,
	}
	return fl
}

// now returns the time since the flush began.
func (fl *flush) now() time.Duration { return time.Since(fl.began) }

// begin finds out where the round is, and who is too old.
func (fl *flush) begin() error {
	return callback.Run("Notebook.Note", func() (err error) {
		fl.plan.round, fl.last, fl.expired, err = fl.c.readNote(fl.ctx)
		return err
	})
}

// end writes down what the next flush must know, unless nothing is left for it.
func (fl *flush) end(err error) (Report, error) {
	ctx, cancel := fl.patience()
	defer cancel()
	counted := callback.Run("Store.Count", func() error {
		counts, err := fl.c.store.Count(ctx)
		fl.plan.report.Remaining = counts.Pending
		return err
	})
	var noted error
	if fl.plan.turns > 0 {
		r := fl.c.moveRound(fl.plan.round, fl.plan.rest(fl.last))
		if fl.plan.report.Remaining > 0 {
			noted = callback.Run("Notebook.SetNote", func() error { return fl.c.writeNote(ctx, r) })
		}
	}
	for _, later := range []error{fl.unpaid, counted, noted} {
		if err == nil {
			err = later
		}
	}
	return fl.plan.report, err
}

// scan walks the pending list and feeds the workers.
func (fl *flush) scan() {
	err := callback.Run("Store.List", func() error {
		f := feeder{fl: fl, run: fl.feed(nil)}
		for _, span := range fl.plan.round.spans(fl.last) {
			if err := f.walk(span); err != nil || f.run == nil {
				return err
			}
		}
		return f.flush()
	})
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.plan.listed = true
	fl.outcome.Signal()
	if err != nil {
		fl.stop(err)
	}
}

// A feeder gathers what the scan finds.
type feeder struct {
	fl    *flush
	run   []*try // nil when no more attempts will begin
	n     int    // so many of run are filled
	noted bool   // that the first receipt has its turn
}

func (f *feeder) walk(s span) error {
	if s.from > s.to {
		return nil
	}
	for r, err := range f.fl.c.store.List(f.fl.ctx, Pending, s.from) {
		if err != nil {
			return err
		}
		if r.Seq > s.to {
			return nil
		}
		*f.run[f.n] = try{receipt: r, old: s.old}
		if f.n++; f.n < len(f.run) {
			continue
		}
		if err := f.flush(); err != nil || f.run == nil {
			return err
		}
	}
	return nil
}

func (f *feeder) flush() error {
	if !f.noted && f.n > 1 {
		f.noted = true
		if err := f.fl.note(stop{turn: 1, seq: f.run[0].receipt.Seq, old: f.run[0].old}); err != nil {
			return err
		}
	}
	f.run, f.n = f.fl.feed(f.run[:f.n]), 0
	return nil
}

// note writes down, before the first attempt, that the first receipt has its
// turn. Should the process die of that one, the next flush begins behind it.
func (fl *flush) note(first stop) error {
	begun := schedule{round: fl.plan.round, last: first, err: errDied}
	return fl.c.writeNote(fl.ctx, begun.rest(fl.last))
}

var errDied = errors.New("courier: the process died")

// feed offers run, and returns as many tries as the next one may have, or nil
// when no more attempts will begin.
func (fl *flush) feed(run []*try) []*try {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for !fl.plan.room() && fl.plan.err == nil {
		fl.room.Wait()
	}
	if fl.plan.err != nil {
		return nil
	}
	fl.plan.offer(run)
	fl.wake()
	run = run[:0]
	for range scanRun {
		if last := len(fl.free) - 1; last >= 0 {
			run = append(run, fl.free[last])
			fl.free = fl.free[:last]
		} else {
			run = append(run, new(try))
		}
	}
	return run
}

// settleAll settles what the workers bring, one group while the next gathers,
// until nothing more will come.
func (fl *flush) settleAll() {
	var group []*try
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for fl.gathered() {
		group = fl.plan.group(group)
		fl.wake() // there is room
		fl.mu.Unlock()
		err := fl.settle(group)
		fl.c.claims.drop(group...)
		fl.mu.Lock()
		if err != nil {
			fl.stop(err)
		}
		fl.free = append(fl.free, group...)
	}
	fl.over = true
	fl.idle.Broadcast()
}

// gathered waits for something to settle. It reports false when nothing more
// will come.
func (fl *flush) gathered() bool {
	for len(fl.plan.done) == 0 {
		if fl.plan.over() {
			return false
		}
		fl.outcome.Wait()
	}
	return true
}

// stop lets no attempt begin any more, for the first reason it is given.
func (fl *flush) stop(err error) {
	fl.c.claims.drop(fl.plan.halt(err)...)
	fl.room.Signal()
	fl.outcome.Signal()
}
