package courier

import (
	"context"
	"errors"
	"fmt"
)

// Rewarder credits the carrier. A few lines over a ledger make one, with the ID
// as the transfer's.
type Rewarder interface {
	// Credit applies credits in order, each at most once per ID, however often it
	// comes, durably. It stops at the first that fails and returns how many
	// stand, those that stood before included. [ErrRejected] says that the one it
	// stopped at will never be taken; it alone becomes Dead. Any other error ends
	// the flush, and what was not credited is forwarded again by the next one.
	Credit(ctx context.Context, credits []Credit) (n int, err error)
}

// Credit is owed to the carrier's account for forwarding a receipt.
type Credit struct {
	ID      ID
	Account string
	Amount  uint64 // never 0
}

// An outcome is a receipt on its way out of the pending list.
type outcome struct {
	receipt Receipt
	to      State // Acknowledged or Dead
	cause   Cause
	reason  string
}

// settle rewards those outcomes that were forwarded, then records them all in
// one write. Of group it returns the part that is settled, the rejected ones
// now Dead; the rest is still pending.
func (c *Courier) settle(ctx context.Context, group []outcome) (settled []outcome, err error) {
	// What was forwarded stays so when the flush is cancelled.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.opts.Timeout)
	defer cancel()
	settled, rewardErr := c.reward(ctx, group)
	if len(settled) == 0 {
		return nil, rewardErr
	}
	now := micros(c.opts.Clock.Now())
	moves := make([]Move, len(settled))
	for i, o := range settled {
		moves[i] = Move{Receipt: o.receipt, To: o.to, At: now, Cause: o.cause, Reason: o.reason}
	}
	if _, err := c.store.Move(ctx, moves); err != nil {
		return nil, errors.Join(err, rewardErr)
	}
	for _, o := range settled {
		if o.to == Dead {
			c.opts.Metrics.Dead(o.cause)
			c.opts.Logger.Warn("receipt is dead", "id", o.receipt.ID, "cause", o.cause, "reason", o.reason)
		} else if c.index != nil && o.receipt.Carried {
			if err := c.release(ctx, o.receipt.Bundle); err != nil { // Prune tries again
				c.opts.Logger.Warn("bundle stays", "bundle", o.receipt.Bundle, "err", err)
			}
		}
	}
	return settled, rewardErr
}

// reward credits group in place and returns the part before the first failure
// that is not a rejection, together with what needed no credit.
func (c *Courier) reward(ctx context.Context, group []outcome) ([]outcome, error) {
	if c.opts.Rewarder == nil {
		return group, nil
	}
	var credits []Credit
	var of []int // of[i] is the place in group of credits[i]
	for i, o := range group {
		if o.to != Acknowledged {
			continue
		}
		if amount := c.opts.Amount(o.receipt); amount > 0 {
			credits = append(credits, Credit{o.receipt.ID, c.opts.Account, amount})
			of = append(of, i)
		}
	}
	for len(credits) > 0 {
		n, err := c.opts.Rewarder.Credit(ctx, credits)
		if n < 0 || n > len(credits) || n < len(credits) && err == nil {
			n, err = 0, fmt.Errorf("courier: the rewarder credited %d of %d: %w", n, len(credits), err)
		}
		credits, of = credits[n:], of[n:]
		if len(credits) == 0 {
			break
		}
		if !errors.Is(err, ErrRejected) {
			owed := map[int]bool{}
			for _, i := range of {
				owed[i] = true
			}
			var rest []outcome
			for i, o := range group {
				if !owed[i] {
					rest = append(rest, o)
				}
			}
			return rest, fmt.Errorf("courier: reward: %w", err)
		}
		o := &group[of[0]]
		o.to, o.cause, o.reason = Dead, Rejected, cut("reward: "+err.Error())
		credits, of = credits[1:], of[1:]
	}
	return group, nil
}
