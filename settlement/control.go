package settlement

import (
	"context"
	"errors"
	"fmt"

	"github.com/computemarket/computemarket/receipt"
)

// change takes a turn and saves the state as edit leaves it.
func (e *Engine) change(ctx context.Context, edit func(*State) error) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	defer e.end()
	s := e.snapshot()
	before := s
	if err := edit(&s); err != nil {
		return err
	}
	if s == before {
		return nil
	}
	return e.save(ctx, s, nil, nil, 0)
}

// Arm makes the engine Real when a comes to pass. It returns [ErrMode] when the
// engine is Armed or Real already, and [ErrActivation] for a negative delay or a
// height that was passed. Durable on return, like all changes of mode.
func (e *Engine) Arm(ctx context.Context, a Activation) error {
	err := e.change(ctx, func(s *State) error {
		switch {
		case s.Mode != DryRun:
			return fmt.Errorf("%w: the engine is %v", ErrMode, s.Mode)
		case a.Remaining < 0 || a.Remaining > 0 && a.Height > 0:
			return fmt.Errorf("%w: %+v", ErrActivation, a)
		case a.Height > 0 && a.Height <= s.Height:
			return fmt.Errorf("%w: height %d, the engine has seen %d", ErrActivation, a.Height, s.Height)
		}
		s.Mode, s.Reason, s.Activation = Armed, "", a
		return nil
	})
	e.Wake()
	return err
}

// CancelArm takes Arm back. It returns [ErrMode] when the engine is not Armed.
func (e *Engine) CancelArm(ctx context.Context) error {
	return e.change(ctx, func(s *State) error {
		if s.Mode != Armed {
			return fmt.Errorf("%w: the engine is %v", ErrMode, s.Mode)
		}
		s.Mode, s.Reason, s.Activation = DryRun, "arming was cancelled", Activation{}
		return nil
	})
}

// DryRun stops all settling, whatever the mode is, and keeps the reason for
// Status. A batch that is being posted is finished first.
func (e *Engine) DryRun(ctx context.Context, reason string) error {
	return e.change(ctx, func(s *State) error {
		if s.Mode != DryRun {
			s.Mode, s.Reason, s.Activation = DryRun, reason, Activation{}
		}
		return nil
	})
}

// Height tells the engine the block height. An engine that is armed for this
// height or a lower one becomes Real; a height below one it was told before does
// nothing.
func (e *Engine) Height(ctx context.Context, height uint64) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	defer e.end()
	s := e.snapshot()
	if height <= s.Height {
		return nil
	}
	s.Height = height
	if s.Mode == Armed && s.Activation.Height > 0 && height >= s.Activation.Height {
		return e.activate(ctx, s)
	}
	return e.advance(ctx, s, 0)
}

// Retry settles a receipt of the archive, and removes it from there when that is
// done. The engine must be Real. Possible errors: [ErrMode]; [ErrNotArchived];
// why the receipt still cannot be settled, which is archived anew and changes no
// mode; and those of the ledger and the store.
func (e *Engine) Retry(ctx context.Context, key receipt.Key) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	defer e.end()
	s := e.snapshot()
	if s.Mode != Real {
		return fmt.Errorf("%w: the engine is %v", ErrMode, s.Mode)
	}
	f, err := e.archived(ctx, key)
	if err != nil {
		return err
	}
	results, err := e.post(ctx, []Transfer{TransferFor(&f.Receipt)})
	if err != nil {
		reason, failed := reasonOf(err)
		if failed {
			f.Reason, f.Detail, f.At = reason, err.Error(), e.opts.Clock.Now()
			f.Tries++
			err = errors.Join(err, e.save(ctx, s, []Failure{f}, nil, 0))
		}
		return err
	}
	if results[0] == Applied {
		e.opts.Metrics.Applied(1)
	}
	s.Applied++
	s.Failed--
	return e.save(ctx, s, nil, []uint64{f.Seq}, 0)
}

func (e *Engine) archived(ctx context.Context, key receipt.Key) (Failure, error) {
	rec, err := e.receipts.Get(ctx, key)
	if errors.Is(err, receipt.ErrNotFound) {
		return Failure{}, fmt.Errorf("%w: %s", ErrNotArchived, key)
	}
	if err != nil {
		return Failure{}, err
	}
	return e.store.Failure(ctx, rec.Seq)
}
