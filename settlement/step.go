package settlement

import (
	"context"
	"fmt"

	"github.com/computemarket/computemarket/receipt"
)

// Pass is what one pass did.
type Pass struct {
	Applied   int // receipts that moved credits
	Duplicate int // receipts that had moved them before
	Failed    int // receipts that went into the archive
}

// pass is one call of Settle.
type pass struct {
	ctx       context.Context
	done      Pass
	err       error
	abandoned bool // the caller who led it gave up
}

// Settle settles all that was owed when it was called, and returns when that is
// durable. In another mode than Real it settles nothing; an Armed engine whose
// delay has passed becomes Real first. Calls at the same time share a pass and
// its result.
//
// A receipt that cannot be settled is no error: Pass.Failed counts it, and the
// archive has it. Possible errors: [ErrStandby]; those of the log, the ledger and
// the store; that of ctx. What was settled before an error stays settled. See
// [IsFinal] for whether another try can help.
func (e *Engine) Settle(ctx context.Context) (Pass, error) {
	if e.store == nil {
		return Pass{}, errZero
	}
	defer e.events.deliver()
	for {
		p := &pass{ctx: ctx}
		if err := e.passes.Do(ctx, p); err != nil {
			return Pass{}, err
		}
		if p.abandoned && ctx.Err() == nil {
			continue
		}
		return p.done, p.err
	}
}

// runPass settles for all who called at once, under the context of the first.
func (e *Engine) runPass(ps []*pass) {
	ctx := ps[0].ctx
	done, err := e.steps(ctx)
	abandoned := err != nil && ctx.Err() != nil
	for _, p := range ps {
		p.done, p.err, p.abandoned = done, err, abandoned
	}
}

func (e *Engine) steps(ctx context.Context) (Pass, error) {
	var sum Pass
	for more := true; more; {
		var done Pass
		err := e.leading(ctx, "settlement pass", func() (err error) {
			done, more, err = e.step(ctx)
			return err
		})
		sum.Applied += done.Applied
		sum.Duplicate += done.Duplicate
		sum.Failed += done.Failed
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// batch is what one step takes from the log: the owed receipts, and beside each
// the transfer for it. The slices are used again and again.
type batch struct {
	owed      []receipt.Record
	transfers []Transfer
	last      uint64 // number of the last receipt read, owed or not
	more      bool   // the log went on
}

// step does one batch: it reads the log from the cursor, posts what is owed, and
// moves the cursor. more tells that another step may find more.
func (e *Engine) step(ctx context.Context) (done Pass, more bool, err error) {
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
		reason, failed := ReasonOf(err)
		if !failed {
			// Keep what went through; the rest is posted again.
			e.applied(done.Applied)
			e.lostBy(err, ErrFenced)
			if n > 0 && e.Leads() {
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
	e.applied(done.Applied)
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
		results, err = e.ledger.Post(ctx, e.held(), transfers[:limit])
		if len(results) > limit || err == nil && len(results) < limit {
			return nil, fmt.Errorf("%w: %d results for %d transfers, error %v", ErrLedger, len(results), limit, err)
		}
		for _, r := range results {
			if r != Applied && r != Duplicate {
				return nil, fmt.Errorf("%w: it answered %v", ErrLedger, r)
			}
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
	return e.save(ctx, Change{State: s, Put: failures}, n)
}

func (e *Engine) applied(n int) {
	if n > 0 {
		e.events.add(func() { e.opts.Metrics.Applied(n) })
	}
}
