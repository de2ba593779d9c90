package settlement

import (
	"context"
	"fmt"

	"github.com/computemarket/computemarket/receipt"
)

// batch is what one step takes from the log: the owed receipts, and beside each
// the transfer for it. The slices are used again and again.
type batch struct {
	owed      []receipt.Record
	transfers []Transfer
	last      uint64 // number of the last receipt read, owed or not
	more      bool   // the log went on
}

// step does one batch, in one turn: it reads the log from the cursor, posts what
// is owed, and moves the cursor. more tells that another step may find more.
func (e *Engine) step(ctx context.Context) (done Pass, more bool, err error) {
	if err := e.begin(ctx); err != nil {
		return Pass{}, false, err
	}
	defer e.end()
	s := e.snapshot()
	if err := e.read(ctx, &s); err != nil {
		return Pass{}, false, err
	}
	if s.Mode != Real {
		s.Cursor = e.batch.last
		return Pass{}, e.batch.more, e.advance(ctx, s, 0)
	}
	return e.settle(ctx, s)
}

// read fills e.batch with the receipts behind the cursor. In another mode than
// Real it stops before the first that is owed.
func (e *Engine) read(ctx context.Context, s *State) error {
	b := &e.batch
	clear(b.owed) // let go of the strings
	clear(b.transfers)
	*b = batch{owed: b.owed[:0], transfers: b.transfers[:0], last: s.Cursor}
	passed := 0
	for rec, err := range e.receipts.After(ctx, s.Cursor) {
		if err != nil {
			return err
		}
		if passed++; passed > e.opts.BatchSize {
			b.more = true
			return nil
		}
		if !rec.DryRun {
			if s.Mode != Real {
				return nil
			}
			b.owed = append(b.owed, rec)
			b.transfers = append(b.transfers, TransferFor(&rec.Receipt))
		}
		b.last = rec.Seq
	}
	return nil
}

// TransferFor returns the transfer that settles a receipt: from the buyer to
// the provider, with the receipt's key as ID and in the tag.
func TransferFor(r *receipt.Receipt) Transfer {
	return Transfer{
		ID:     ID(r.Key),
		From:   r.Buyer,
		To:     r.Provider,
		Amount: r.QuotePrice,
		Tag:    "settle:" + r.Key.String(),
	}
}

// settle posts e.batch. What the ledger took is durable before the cursor moves
// past it.
func (e *Engine) settle(ctx context.Context, s State) (done Pass, more bool, err error) {
	b := &e.batch
	var failures []Failure
	n := 0 // receipts of the batch that are done with
	for n < len(b.owed) {
		results, err := e.post(ctx, b.transfers[n:])
		for _, r := range results {
			if r == Applied {
				done.Applied++
			} else {
				done.Duplicate++
			}
		}
		n += len(results)
		s.Applied += uint64(len(results))
		if err == nil {
			continue
		}
		reason, failed := reasonOf(err)
		if !failed {
			// Keep what went through; the rest is posted again.
			e.opts.Metrics.Applied(done.Applied)
			if n > 0 {
				s.Cursor = b.owed[n-1].Seq
				if aerr := e.finish(ctx, s, n, failures); aerr != nil {
					return done, false, fmt.Errorf("%w, after %w", aerr, err)
				}
				done.Failed = len(failures)
			}
			return done, false, err
		}
		failures = append(failures, Failure{
			Seq: b.owed[n].Seq, Receipt: b.owed[n].Receipt,
			Reason: reason, Detail: err.Error(), At: e.opts.Clock.Now(), Tries: 1,
		})
		n++
		if e.opts.Policy == RevertToDryRun {
			s.Mode = DryRun
			s.Reason = fmt.Sprintf("receipt %s: %s", b.owed[n-1].Key, reason)
			break
		}
	}
	e.opts.Metrics.Applied(done.Applied)
	s.Cursor = b.last
	if n < len(b.owed) {
		s.Cursor = b.owed[n-1].Seq
	}
	if err := e.finish(ctx, s, n, failures); err != nil {
		return done, false, err
	}
	done.Failed = len(failures)
	return done, b.more || s.Mode != Real, nil
}

// post is Ledger.Post, kept to its contract, and kept from the issuer.
func (e *Engine) post(ctx context.Context, transfers []Transfer) ([]Result, error) {
	issuer := e.ledger.Issuer()
	limit := len(transfers)
	for i := range transfers {
		if transfers[i].From == issuer || transfers[i].To == issuer {
			limit = i
			break
		}
	}
	var results []Result
	if limit > 0 {
		var err error
		results, err = e.ledger.Post(ctx, transfers[:limit])
		if len(results) > limit || err == nil && len(results) < limit {
			return nil, fmt.Errorf("%w: %d results for %d transfers, error %v", ErrLedger, len(results), limit, err)
		}
		if err != nil && len(results) == limit {
			return results, nil // it stopped behind the last
		}
		if err != nil {
			return results, err
		}
	}
	if limit < len(transfers) {
		return results, ErrIssuer
	}
	return results, nil
}

// finish moves the cursor past n receipts of e.batch: durably, together with the
// archive and the mode, when one of them failed.
func (e *Engine) finish(ctx context.Context, s State, n int, failures []Failure) error {
	if len(failures) == 0 {
		return e.advance(ctx, s, n)
	}
	s.Failed += uint64(len(failures))
	return e.save(ctx, s, failures, nil, n)
}
