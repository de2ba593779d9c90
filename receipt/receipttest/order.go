package receipttest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/computemarket/computemarket/receipt"
)

// An iteration shows the log as it stood, also of what is promoted meanwhile.
func promotionDuringAfter(ctx context.Context, open Open) error {
	return with("promotion-during", open, func(s receipt.Store) error {
		rs := []receipt.Receipt{dry(numbered(0)), dry(numbered(1)), dry(numbered(2))}
		if err := wantAppend(ctx, s, rs, receipt.Inserted, receipt.Inserted, receipt.Inserted); err != nil {
			return err
		}
		i := 0
		for rec, err := range s.After(ctx, 0) {
			if err != nil {
				return err
			}
			if i == len(rs) {
				return fmt.Errorf("the iteration shows what came after it began: %+v", rec)
			}
			if err := same(rec.Receipt, rs[i]); err != nil {
				return fmt.Errorf("place %d of an iteration under which receipts are promoted: %w", i, err)
			}
			if i == 0 {
				real := []receipt.Receipt{numbered(2), numbered(0), numbered(1)}
				if err := wantAppend(ctx, s, real, receipt.Inserted, receipt.Inserted, receipt.Inserted); err != nil {
					return err
				}
			}
			i++
		}
		if i != len(rs) {
			return fmt.Errorf("an iteration under which receipts are promoted shows %d of %d", i, len(rs))
		}
		return wantLog(ctx, s, numbered(2), numbered(0), numbered(1))
	})
}

// A consumer that follows the log by its cursor meets everything, and a call's
// receipts at once, whoever appends and promotes meanwhile: what becomes visible
// has a higher number than all that was visible before.
func orderOfVisibility(ctx context.Context, open Open) error {
	return with("order", open, func(s receipt.Store) error {
		const writers, rounds = 4, 20
		f := follower{store: s, met: map[uint64]receipt.Record{}, pairs: map[receipt.Key]receipt.Key{}, passed: make(chan struct{})}
		for w := range writers {
			for i := range rounds {
				rs := pairAt(w, i)
				f.pairs[rs[0].Key] = rs[1].Key
			}
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				if err := f.appendPairs(ctx, w, rounds); err != nil {
					cancel(err)
				}
			})
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			wg.Wait()
		}()
		if err := f.follow(ctx, done); err != nil {
			cancel(err)
		}
		<-done
		return context.Cause(ctx) // the first failure
	})
}

// pairAt returns the receipts of one call: the dry run of the call before that,
// for real, and a new one.
func pairAt(w, i int) []receipt.Receipt {
	return []receipt.Receipt{numbered(10_000*w + 2*i), numbered(10_000*w + 2*i + 1)}
}

// A follower reads the log behind its cursor, again and again.
type follower struct {
	store  receipt.Store
	cursor uint64
	met    map[uint64]receipt.Record
	pairs  map[receipt.Key]receipt.Key // of receipts that are made real in one call

	mu     sync.Mutex
	passed chan struct{} // closed at the end of a pass
}

// appendPairs keeps step with the follower, so that neither is done before the
// other has begun.
func (f *follower) appendPairs(ctx context.Context, w, rounds int) error {
	for i := range rounds {
		pair := pairAt(w, i)
		if err := f.nextPass(ctx); err != nil {
			return err
		}
		if err := wantAppend(ctx, f.store, []receipt.Receipt{dry(pair[0])}, receipt.Inserted); err != nil {
			return err
		}
		if err := f.nextPass(ctx); err != nil {
			return err
		}
		if err := wantAppend(ctx, f.store, pair, receipt.Inserted, receipt.Inserted); err != nil {
			return err
		}
		for _, r := range pair {
			if rec, err := f.store.Get(ctx, r.Key); err != nil || rec.DryRun {
				return fmt.Errorf("Get of what has just been appended for real: %+v, %v", rec, err)
			}
		}
	}
	return nil
}

// nextPass returns at the end of a pass.
func (f *follower) nextPass(ctx context.Context) error {
	f.mu.Lock()
	passed := f.passed
	f.mu.Unlock()
	select {
	case <-passed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// follow returns what is wrong with what it met until done, and a last time.
func (f *follower) follow(ctx context.Context, done <-chan struct{}) error {
	for end := false; ; {
		select {
		case <-done:
			end = true
		default:
		}
		if err := f.pass(ctx); err != nil {
			return err
		}
		if end {
			return f.missed(ctx)
		}
		f.mu.Lock()
		close(f.passed)
		f.passed = make(chan struct{})
		f.mu.Unlock()
	}
}

func (f *follower) pass(ctx context.Context) error {
	real := map[receipt.Key]bool{}
	for rec, err := range f.store.After(ctx, f.cursor) {
		if err != nil {
			return err
		}
		if rec.Seq <= f.cursor {
			return fmt.Errorf("number %d behind the cursor %d", rec.Seq, f.cursor)
		}
		f.cursor, f.met[rec.Seq] = rec.Seq, rec
		if !rec.DryRun {
			real[rec.Key] = true
		}
	}
	for a, b := range f.pairs {
		if real[a] != real[b] {
			return errors.New("of two receipts of one call an iteration shows one")
		}
	}
	return nil
}

// missed compares what was met with the whole log, as it is in the end.
func (f *follower) missed(ctx context.Context) error {
	n := 0
	for rec, err := range f.store.After(ctx, 0) {
		if err != nil {
			return err
		}
		if met, ok := f.met[rec.Seq]; !ok || met.Key != rec.Key || met.DryRun != rec.DryRun {
			return fmt.Errorf("a consumer that followed the log has never met number %d (dry run %v)", rec.Seq, rec.DryRun)
		}
		n++
	}
	if n != 2*len(f.pairs) {
		return fmt.Errorf("the log has %d receipts, want %d", n, 2*len(f.pairs))
	}
	return nil
}
