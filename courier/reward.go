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

// settle rewards those of group that were forwarded, then records them all in
// one write. Of group it returns the part that is settled, the rejected ones
// now Dead; the rest is still pending.
func (fl *flush) settle(group []*try) (settled []*try, err error) {
	c := fl.c
	// What was forwarded stays so when the flush is cancelled.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(fl.ctx), c.opts.Timeout)
	defer cancel()
	settled, rewardErr := c.reward(ctx, group)
	if len(settled) == 0 {
		return nil, rewardErr
	}
	now := micros(c.opts.Clock.Now())
	fl.moves = fl.moves[:0]
	for _, t := range settled {
		fl.moves = append(fl.moves, Move{Receipt: t.receipt, To: t.to, At: now, Cause: t.cause, Reason: t.reason})
	}
	if _, err := c.store.Move(ctx, fl.moves); err != nil {
		return nil, errors.Join(err, rewardErr)
	}
	for _, t := range settled {
		if t.to == Dead {
			c.opts.Metrics.Dead(t.cause)
			c.opts.Logger.Warn("receipt is dead", "id", t.receipt.ID, "cause", t.cause, "reason", t.reason)
		} else if c.index != nil && t.receipt.Carried {
			if err := c.release(ctx, t.receipt.Bundle); err != nil { // Prune tries again
				c.opts.Logger.Warn("bundle stays", "bundle", t.receipt.Bundle, "err", err)
			}
		}
	}
	return settled, rewardErr
}

// reward credits group and returns the part before the first failure that is
// not a rejection, together with what needed no credit.
func (c *Courier) reward(ctx context.Context, group []*try) ([]*try, error) {
	if c.opts.Rewarder == nil {
		return group, nil
	}
	var credits []Credit
	var of []*try // of[i] is that of credits[i]
	for _, t := range group {
		if t.to != Acknowledged {
			continue
		}
		if amount := c.opts.Amount(t.receipt); amount > 0 {
			credits = append(credits, Credit{t.receipt.ID, c.opts.Account, amount})
			of = append(of, t)
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
			owed := map[*try]bool{}
			for _, t := range of {
				owed[t] = true
			}
			var rest []*try
			for _, t := range group {
				if !owed[t] {
					rest = append(rest, t)
				}
			}
			return rest, fmt.Errorf("courier: reward: %w", err)
		}
		t := of[0]
		t.to, t.cause, t.reason = Dead, Rejected, cut("reward: "+err.Error())
		credits, of = credits[1:], of[1:]
	}
	return group, nil
}
