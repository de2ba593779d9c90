package settlement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/computemarket/computemarket/receipt"
)

// change saves the state as edit leaves it.
func (e *Engine) change(ctx context.Context, name string, edit func(*State) error) error {
	defer e.events.deliver()
	return e.leading(ctx, name, func() error {
		s := e.snapshot()
		before := s
		if err := edit(&s); err != nil {
			return err
		}
		if s == before {
			return nil
		}
		return e.save(ctx, Change{State: s}, 0)
	})
}

// Arm makes the engine Real when a comes to pass: at once, before Arm returns,
// for After(0). Receipts that are made earlier are dry runs and stay so; those
// that are owed wait and are settled then. It returns [ErrMode] when the engine is
// Armed or Real already, [ErrActivation] for a negative delay, a height that has
// passed and the zero Activation, and [ErrStandby]. Durable on return, like all
// changes of mode.
//
// A program that starts again and again does not call Arm at its start: an engine
// keeps its mode, and one that went back to DryRun for a reason should stay there
// until somebody has looked. See [Options.Start].
func (e *Engine) Arm(ctx context.Context, a Activation) error {
	defer e.Wake()
	defer e.events.deliver()
	return e.leading(ctx, "Arm", func() error { return e.arm(ctx, e.snapshot(), a) })
}

// arm is Arm, with the token.
func (e *Engine) arm(ctx context.Context, s State, a Activation) error {
	if s.Mode != DryRun {
		return fmt.Errorf("%w: the engine is %v", ErrMode, s.Mode)
	}
	if err := a.check(s.Height); err != nil {
		return err
	}
	if a == After(0) {
		return e.activate(ctx, s)
	}
	s.Mode, s.Reason, s.Activation = Armed, "", a
	return e.save(ctx, Change{State: s}, 0)
}

// CancelArm takes Arm back. It returns [ErrMode] when the engine is not Armed,
// and [ErrStandby].
func (e *Engine) CancelArm(ctx context.Context) error {
	return e.change(ctx, "CancelArm", func(s *State) error {
		if s.Mode != Armed {
			return fmt.Errorf("%w: the engine is %v", ErrMode, s.Mode)
		}
		s.Mode, s.Reason, s.Activation = DryRun, "arming was cancelled", Activation{}
		return nil
	})
}

// Stop stops all settling, whatever the mode is: the engine is in DryRun, and
// Status gives the reason. A batch that is being posted is finished first. It
// returns [ErrStandby] when another engine leads.
func (e *Engine) Stop(ctx context.Context, reason string) error {
	reason = cmp.Or(strings.ToValidUTF8(reason, "\uFFFD"), "stopped")
	return e.change(ctx, "Stop", func(s *State) error {
		if s.Mode != DryRun {
			s.Mode, s.Reason, s.Activation = DryRun, reason, Activation{}
		}
		return nil
	})
}

// ObserveHeight tells the engine the block height. An engine that is armed for
// this height or a lower one becomes Real; a height below one it was told before
// does nothing. It returns [ErrStandby] when another engine leads.
func (e *Engine) ObserveHeight(ctx context.Context, height uint64) error {
	defer e.events.deliver()
	return e.leading(ctx, "ObserveHeight", func() error {
		s := e.snapshot()
		if height <= s.Height {
			return nil
		}
		s.Height = height
		if at, ok := s.Activation.Height(); ok && s.Mode == Armed && height >= at {
			return e.activate(ctx, s)
		}
		return e.advance(ctx, s, 0)
	})
}

// Retry settles a receipt of the archive, and removes it from there when that is
// done. The engine must be Real. Possible errors: [ErrStandby]; [ErrMode];
// [ErrNotArchived]; why the receipt still cannot be settled, which is archived
// anew and changes no mode; and those of the ledger and the store.
func (e *Engine) Retry(ctx context.Context, key receipt.Key) error {
	defer e.events.deliver()
	return e.leading(ctx, "Retry", func() error { return e.retry(ctx, key) })
}

func (e *Engine) retry(ctx context.Context, key receipt.Key) error {
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
		e.lostBy(err, ErrFenced)
		if reason, failed := ReasonOf(err); failed {
			f.Reason, f.Detail, f.At = reason, err.Error(), e.opts.Clock.Now()
			f.Tries++
			err = errors.Join(err, e.save(ctx, Change{State: s, Put: []Failure{f}}, 0))
		}
		return err
	}
	if results[0] == Applied {
		e.applied(1)
	}
	s.Applied++
	if s.Failed > 0 { // a store may have kept the archive and lost the count
		s.Failed--
	}
	return e.save(ctx, Change{State: s, Drop: []uint64{f.Seq}}, 0)
}

// archived finds the failure of a receipt.
func (e *Engine) archived(ctx context.Context, key receipt.Key) (Failure, error) {
	rec, err := e.receipts.Get(ctx, key)
	if errors.Is(err, receipt.ErrNotFound) {
		return Failure{}, fmt.Errorf("%w: %s", ErrNotArchived, key)
	}
	if err != nil {
		return Failure{}, err
	}
	for f, err := range e.store.Failures(ctx, rec.Seq) {
		if err != nil || f.Seq == rec.Seq { // damage comes last, and may be this one's
			return f, err
		}
	}
	return Failure{}, fmt.Errorf("%w: %s", ErrNotArchived, key)
}
