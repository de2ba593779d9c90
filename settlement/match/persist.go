package match

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/computemarket/computemarket/receipt"
)

// appendResult is what the log answered.
type appendResult struct {
	statuses []receipt.Status
	err      error
}

// append hands the next batch to the log, unless one is there already or the
// pause after a failure is not over. A batch that failed goes as it was: same
// receipts, same keys, so that whatever the log has of it is a Duplicate.
func (l *Loop) append(ctx context.Context, now time.Time) {
	if l.appending || now.Before(l.retryAt) {
		return
	}
	if len(l.batch) == 0 {
		if len(l.ready) == 0 {
			return
		}
		l.batch, l.ready, l.tries = l.ready, l.batch, 0
	}
	l.tries++
	l.appending = true
	go func() {
		if l.tries == 1 {
			l.issue()
		}
		statuses, err := l.log.Append(ctx, l.receipts)
		if statuses != nil && len(statuses) != len(l.receipts) {
			statuses, err = nil, fmt.Errorf("match: the log answered %d statuses for %d receipts", len(statuses), len(l.receipts))
		}
		if statuses == nil && err == nil {
			err = errors.New("match: the log answered nothing")
		}
		l.appended <- appendResult{statuses, err}
	}()
}

// issue makes the receipts of the batch. Only here are matches named: one batch
// is under way at a time, so the units of a bid are numbered in the order in
// which they are recorded, and that is what Resume finds in the log.
func (l *Loop) issue() {
	now := l.o.Clock.Now()
	l.receipts = slices.Grow(l.receipts[:0], len(l.batch))[:len(l.batch)]
	l.book.each(len(l.batch), func(i int) {
		id, err := l.book.jobID(l.batch[i].match)
		l.check(err)
		l.receipts[i].JobID = id
	})
	for i := range l.batch {
		f, r := &l.batch[i], &l.receipts[i]
		*r = receipt.New(r.JobID, f.match.Buyer, f.match.Provider, f.match.Total(), now)
		r.DryRun = f.dryRun
	}
}

// finish takes the log's answer: out of the book with what is durable, and
// again later with everything if nothing is known.
func (l *Loop) finish(ctx context.Context, a appendResult) {
	l.appending = false
	now := l.o.Clock.Now()
	if a.statuses == nil {
		l.o.Metrics.PersistFailed()
		if errors.Is(a.err, receipt.ErrInvalid) && l.refuseInvalid() {
			return // the others at once
		}
		l.pause = min(max(l.o.RetryMin, 2*l.pause), l.o.RetryMax)
		l.retryAt = now.Add(l.pause)
		l.o.Logger.Error("receipts not recorded", "receipts", len(l.batch), "retry", l.pause, "err", a.err)
		return
	}
	l.pause, l.retryAt = 0, time.Time{}
	fs, rs, tries := l.batch, l.receipts, l.tries
	l.batch, l.receipts = l.spare, l.spareReceipts
	l.append(ctx, now) // the disk need not wait for the book
	l.book.each(len(fs), func(i int) {
		if s := a.statuses[i]; s == receipt.Inserted || s == receipt.Duplicate {
			l.check(l.book.commit(fs[i].match))
		}
	})
	for i, s := range a.statuses {
		f, r := &fs[i], &rs[i]
		switch s {
		case receipt.Inserted, receipt.Duplicate:
			if s == receipt.Duplicate && tries == 1 {
				l.o.Logger.Warn("receipt was there already: an order id used twice, or a restart without Resume", "job", r.JobID)
			}
			l.o.Metrics.Matched(f.dryRun, max(0, now.Sub(f.began)))
			l.o.OnFinal(f.match, *r)
		default:
			l.o.Metrics.PersistFailed()
			l.refuse(f, r, fmt.Errorf("match: receipt refused: %w", refusal(s, r)))
		}
	}
	clear(fs)
	clear(rs)
	l.spare, l.spareReceipts = fs[:0], rs[:0]
	l.o.Engine.Wake()
}

// refusal is the log's reason to refuse one receipt.
func refusal(s receipt.Status, r *receipt.Receipt) error {
	if err := receipt.Refusal([]receipt.Receipt{*r}, []receipt.Status{s}); err != nil {
		return err
	}
	return fmt.Errorf("unknown status %v", s)
}

// refuse ends a match that can never have a receipt. Its bid is dropped: it
// would meet the same fate again.
func (l *Loop) refuse(f *flight, r *receipt.Receipt, err error) {
	l.o.Logger.Error("bid dropped", "bid", f.match.Bid, "job", r.JobID, "err", err)
	l.check(l.book.Drop(f.match, Bid))
	l.check(l.book.Release(f.match, Ask))
	l.o.OnFailed(f.match, err)
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
	l.batch, l.receipts = l.batch[:n], l.receipts[:n]
	return any
}
