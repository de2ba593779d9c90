package match

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/receipt"
)

// appendResult is what the log answered.
type appendResult struct {
	statuses []receipt.Status
	err      error
	invalid  bool // err wraps receipt.ErrInvalid
}

// lost is a match that has no name, because somebody else closed it.
type lost struct {
	match Match
	err   error
}

// append hands the next batch to the log, unless one is there already or the
// pause after a failure is not over. A batch that failed goes as it was: same
// receipts, same keys, so that whatever the log has of it is a Duplicate.
func (l *Loop) append(ctx context.Context, passed time.Duration) {
	if l.appending || len(l.batch) > 0 && passed < l.retryAt {
		return
	}
	if len(l.batch) == 0 {
		if len(l.ready) == 0 {
			return
		}
		l.nextBatch()
	}
	l.tries++
	l.appending = true
	go func() {
		if l.tries == 1 {
			l.issue()
		}
		l.appended <- l.record(ctx)
	}()
}

// nextBatch takes from what is ready as much as one append may have.
func (l *Loop) nextBatch() {
	l.tries = 0
	if len(l.ready) <= l.o.Batch {
		l.batch, l.ready = l.ready, l.batch
		return
	}
	l.batch = append(l.batch, l.ready[:l.o.Batch]...)
	n := copy(l.ready, l.ready[l.o.Batch:])
	clear(l.ready[n:])
	l.ready = l.ready[:n]
}

// issue makes the receipts of the batch. Only here are matches named: one batch
// is under way at a time, so the units of a bid are numbered in the order in
// which they are recorded, and that is what Resume finds in the log.
func (l *Loop) issue() {
	now := l.now()
	ids := make([]string, len(l.batch))
	errs := make([]error, len(l.batch))
	l.book.each(len(l.batch), func(i int) {
		ids[i], errs[i] = l.book.jobID(l.batch[i].match)
	})
	l.receipts = slices.Grow(l.receipts[:0], len(l.batch))
	named := l.batch[:0]
	for i, f := range l.batch {
		if errs[i] != nil {
			l.lost = append(l.lost, lost{f.match, errs[i]})
			continue
		}
		r := receipt.New(ids[i], f.match.Buyer, f.match.Provider, f.match.Total(), now)
		r.DryRun = f.dryRun
		l.receipts = append(l.receipts, r)
		named = append(named, f)
	}
	clear(l.batch[len(named):])
	l.batch = named
}

// record calls the log. What it does not answer for clearly is in doubt: a panic,
// a Goexit, a wrong number of statuses, a status that is none.
func (l *Loop) record(ctx context.Context) appendResult {
	if len(l.receipts) == 0 {
		return appendResult{statuses: []receipt.Status{}}
	}
	var statuses []receipt.Status
	err := callback.Run("Log.Append", func() (err error) {
		statuses, err = l.sink.Append(ctx, l.receipts)
		return err
	})
	switch {
	case statuses == nil && err == nil:
		err = errors.New("match: the log answered nothing")
	case statuses != nil && len(statuses) != len(l.receipts):
		err = fmt.Errorf("match: the log answered %d statuses for %d receipts", len(statuses), len(l.receipts))
		statuses = nil
	}
	for _, s := range statuses {
		switch s {
		case receipt.Inserted, receipt.Duplicate, receipt.Conflict, receipt.Corrupt:
		default:
			return appendResult{err: fmt.Errorf("match: the log answered %v", s)}
		}
	}
	// A copy, because the log may use its slice again in the next append.
	return appendResult{slices.Clone(statuses), err, wraps(err, receipt.ErrInvalid)}
}

// finish takes the log's answer: out of the book with what is durable, and
// again later with everything if nothing is known.
func (l *Loop) finish(ctx context.Context, a appendResult) {
	l.appending = false
	passed := l.lanes.tick(l.now())
	for _, x := range l.lost {
		l.check(x.err)
		_ = l.book.giveBack(x.match, later(passed, l.o.ReturnAfter)) // of the two sides, what is still open
		_ = l.book.Release(x.match, Ask)
		l.onFailed(x.match, x.err)
	}
	l.lost = nil
	if a.statuses == nil {
		l.retry(a, passed)
		return
	}
	l.pause, l.retryAt = 0, 0
	fs, rs, tries := l.batch, l.receipts, l.tries
	l.batch, l.receipts = l.spare, l.spareReceipts
	l.append(ctx, passed) // the disk need not wait for the book
	l.commit(fs, a.statuses)
	l.wakeEngine()
	l.announce(fs, rs, a.statuses, tries, passed)
	clear(fs)
	clear(rs)
	l.spare, l.spareReceipts = fs[:0], rs[:0]
}

// retry is after an append of which nothing is known, or nothing was written.
func (l *Loop) retry(a appendResult, passed time.Duration) {
	l.persistFailed(1)
	if a.invalid && l.refuseInvalid() {
		return // the others at once
	}
	l.pause = min(max(l.o.RetryMin, later(l.pause, l.pause)), l.o.RetryMax)
	l.retryAt = later(passed, l.pause)
	l.log(slog.LevelError, "receipts not recorded", "receipts", len(l.batch), "retry", l.pause, "err", a.err)
}

func recorded(s receipt.Status) bool { return s == receipt.Inserted || s == receipt.Duplicate }

// commit takes out of the book what is durable.
func (l *Loop) commit(fs []flight, statuses []receipt.Status) {
	var errs []error
	l.book.each(len(fs), func(i int) {
		if recorded(statuses[i]) {
			if err := l.book.settle(fs[i].match); err != nil {
				errs = append(errs, err)
			}
		}
	})
	for _, err := range errs {
		l.check(err)
	}
}

// announce tells the caller what the log did with each receipt.
func (l *Loop) announce(fs []flight, rs []receipt.Receipt, statuses []receipt.Status, tries int, passed time.Duration) {
	done := make([]int, 0, len(fs))
	for i, s := range statuses {
		if !recorded(s) {
			l.persistFailed(1)
			l.refuse(&fs[i], &rs[i], receipt.Refusal(rs[i:i+1], statuses[i:i+1]))
			continue
		}
		done = append(done, i)
		if s == receipt.Duplicate && tries == 1 {
			l.report(slog.LevelWarn, "receipt was there already: an order id used twice, or a restart without Resume", "job", rs[i].JobID)
		}
	}
	if l.o.Metrics != nil {
		l.tell("Metrics.Matched", len(done), func(i int) {
			f := &fs[done[i]]
			l.o.Metrics.Matched(f.dryRun, passed-f.began)
		})
	}
	if l.o.OnFinal != nil {
		l.tell("OnFinal", len(done), func(i int) { l.o.OnFinal(fs[done[i]].match, rs[done[i]]) })
	}
}

// refuse ends a match that can never have a receipt. Its bid is dropped: it
// would meet the same fate again.
func (l *Loop) refuse(f *flight, r *receipt.Receipt, err error) {
	err = fmt.Errorf("%w: receipt refused: %w", ErrBadBid, err)
	l.log(slog.LevelError, "bid dropped", "bid", f.match.Bid, "job", r.JobID, "err", err)
	l.check(l.book.giveUp(f.match, Bid))
	l.check(l.book.Release(f.match, Ask))
	l.onFailed(f.match, err)
}

// refuseInvalid takes the receipts that are not valid out of the batch, so that
// they do not hold up the others. The log has recorded none of the batch.
func (l *Loop) refuseInvalid() (any bool) {
	n := 0
	for i := range l.batch {
		if err := l.receipts[i].Validate(); err != nil {
			l.refuse(&l.batch[i], &l.receipts[i], err)
			any = true
			continue
		}
		l.batch[n], l.receipts[n] = l.batch[i], l.receipts[i]
		n++
	}
	clear(l.batch[n:])
	l.batch, l.receipts = l.batch[:n], l.receipts[:n]
	return any
}
