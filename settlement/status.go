package settlement

import (
	"context"
	"iter"
)

// Status is how an engine stands.
type Status struct {
	Mode        Mode
	Reason      string     // why it is in DryRun
	Activation  Activation // when it will be Real, while Armed
	Height      uint64     // the greatest block height it was told of
	Applied     uint64     // receipts settled, ever
	Failed      uint64     // receipts in the archive
	Owed        uint64     // receipts that are to be settled
	Outstanding uint64     // credits issued and not burned
	Balances    []Account  // of the accounts that were asked for
}

// Status returns how the engine stands, with the balances of the accounts
// named. It reads what the log has gained since the last call. Possible errors:
// those of the log and the ledger, and that of ctx.
func (e *Engine) Status(ctx context.Context, accounts ...string) (Status, error) {
	if err := e.count(ctx); err != nil {
		return Status{}, err
	}
	e.mu.Lock()
	s, owed := e.state, e.owed
	e.mu.Unlock()
	st := Status{
		Mode: s.Mode, Reason: s.Reason, Activation: s.Activation, Height: s.Height,
		Applied: s.Applied, Failed: s.Failed, Owed: owed,
	}
	var err error
	if st.Outstanding, err = e.ledger.Balance(ctx, e.ledger.Issuer()); err != nil {
		return Status{}, err
	}
	for _, name := range accounts {
		balance, err := e.ledger.Balance(ctx, name)
		if err != nil {
			return Status{}, err
		}
		st.Balances = append(st.Balances, Account{Name: name, Balance: balance})
	}
	return st, nil
}

// Failures yields the archive in order of the log. An error ends it, as of
// Store.Failures.
func (e *Engine) Failures(ctx context.Context) iter.Seq2[Failure, error] {
	return e.store.Failures(ctx)
}

// count brings e.owed up to the end of the log, a batch in each turn.
func (e *Engine) count(ctx context.Context) error {
	for more := true; more; {
		if err := e.begin(ctx); err != nil {
			return err
		}
		var err error
		more, err = e.countBatch(ctx)
		e.end()
		if err != nil {
			return err
		}
	}
	return nil
}

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
