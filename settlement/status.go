package settlement

import (
	"context"
	"iter"

	"github.com/computemarket/computemarket/internal/callback"
)

// Status is how an engine stands.
type Status struct {
	Mode        Mode       // of the market: what the engine that leads has
	Standby     bool       // this engine does not lead
	Leader      string     // who does: the holder of the lease, where the store knows it
	Reason      string     // why it is in DryRun
	Activation  Activation // when it will be Real, while Armed
	Height      uint64     // the greatest block height it was told of
	Applied     uint64     // receipts settled, ever
	Failed      uint64     // receipts in the archive
	Owed        uint64     // receipts that are to be settled
	Outstanding uint64     // credits issued and not burned
	Balances    []Account  // of the accounts that were asked for
}

// Status returns how the market stands, with the balances of the accounts named.
// An engine that leads reads what the log has gained since the last call; one on
// standby reads what the leader has saved, and the log from there. Possible
// errors: those of the log, the store and the ledger, and that of ctx.
func (e *Engine) Status(ctx context.Context, accounts ...string) (Status, error) {
	if e.store == nil {
		return Status{}, errZero
	}
	defer e.events.deliver()
	var st Status
	lease, s, owed, err := e.look(ctx)
	if err != nil {
		return Status{}, err
	}
	err = callback.Run("Ledger.Balance", func() error {
		if st.Outstanding, err = e.ledger.Balance(ctx, e.ledger.Issuer()); err != nil {
			return err
		}
		for _, name := range accounts {
			balance, err := e.ledger.Balance(ctx, name)
			if err != nil {
				return err
			}
			st.Balances = append(st.Balances, Account{Name: name, Balance: balance})
		}
		return nil
	})
	if err != nil {
		return Status{}, err
	}
	st.Standby, st.Leader = !e.held().Is(lease) || lease.IsZero(), lease.Holder
	st.Mode, st.Reason, st.Activation, st.Height = s.Mode, s.Reason, s.Activation, s.Height
	st.Applied, st.Failed, st.Owed = s.Applied, s.Failed, owed
	return st, nil
}

// look returns who leads, with what state, and how many receipts are owed.
func (e *Engine) look(ctx context.Context) (lease Lease, s State, owed uint64, err error) {
	for more := e.Leads(); more; {
		err := e.leading(ctx, "receipts.After", func() (err error) {
			more, err = e.countBatch(ctx)
			return err
		})
		if err != nil && !e.Leads() {
			break // lost meanwhile
		}
		if err != nil {
			return Lease{}, State{}, 0, err
		}
	}
	e.mu.Lock()
	lease, s, owed = e.lease, e.state, e.owed
	e.mu.Unlock()
	if !lease.IsZero() {
		return lease, s, owed, nil
	}
	err = callback.Run("Store.Load", func() error {
		if lease, s, err = e.store.Load(ctx); err != nil {
			return err
		}
		owed, err = e.owedFrom(ctx, s.Cursor)
		return err
	})
	return lease, s, owed, err
}

// Failures yields the archive in order of the log, as Store.Failures does from
// its beginning. An error ends it.
func (e *Engine) Failures(ctx context.Context) iter.Seq2[Failure, error] {
	if e.store == nil {
		return func(yield func(Failure, error) bool) { yield(Failure{}, errZero) }
	}
	return func(yield func(Failure, error) bool) {
		next, stop := iter.Pull2(e.store.Failures(ctx, 0))
		defer stop()
		for {
			var f Failure
			var err error
			var ok bool
			if failed := callback.Run("Store.Failures", func() error { f, err, ok = next(); return nil }); failed != nil {
				f, err, ok = Failure{}, failed, true
			}
			if !ok || !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// countBatch brings e.owed nearer to the end of the log. With the token.
func (e *Engine) countBatch(ctx context.Context) (more bool, err error) {
	e.mu.Lock()
	counted, owed := e.counted, e.owed
	e.mu.Unlock()
	n := 0
	for rec, err := range e.receipts.After(ctx, counted) {
		if err != nil {
			return false, err
		}
		if n++; n > e.opts.BatchSize {
			more = true
			break
		}
		counted = rec.Seq
		if !rec.DryRun {
			owed++
		}
	}
	e.mu.Lock()
	e.counted, e.owed = counted, owed
	e.mu.Unlock()
	return more, nil
}

// owedFrom counts what is owed behind a cursor of another engine's.
func (e *Engine) owedFrom(ctx context.Context, cursor uint64) (owed uint64, err error) {
	for rec, err := range e.receipts.After(ctx, cursor) {
		if err != nil {
			return 0, err
		}
		if !rec.DryRun {
			owed++
		}
	}
	return owed, nil
}
