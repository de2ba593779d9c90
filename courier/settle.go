package courier

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/computemarket/computemarket/internal/callback"
)

// settle rewards those of group that were forwarded, records in one write what
// became of them all, and tells the rest of the world. The error ends the flush.
func (fl *flush) settle(group []*try) error {
	ctx, cancel := fl.patience()
	defer cancel()
	unpaid, broken := fl.reward(ctx, group)
	fl.unpaid = cmp.Or(fl.unpaid, unpaid)
	err := fl.record(ctx, group)
	report := fl.counted(group, err)
	if err == nil {
		err = fl.c.announce(ctx, group)
	}
	if progress := fl.c.opts.Progress; progress != nil && err == nil {
		err = fl.c.logged(callback.Run("Options.Progress", func() error {
			progress(report)
			return nil
		}))
	}
	if err == nil && broken {
		err = unpaid
	}
	return err
}

// patience returns the context of what follows a forwarding: what was forwarded
// stays so when the flush is cancelled, and has the timeout from then on to be
// rewarded and recorded.
func (fl *flush) patience() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(fl.ctx))
	timeout := fl.c.opts.Timeout
	release := context.AfterFunc(fl.ctx, func() {
		t := time.AfterFunc(timeout, cancel)
		context.AfterFunc(ctx, func() { t.Stop() })
	})
	return ctx, func() {
		release()
		cancel()
	}
}

// record moves those of group that are settled.
func (fl *flush) record(ctx context.Context, group []*try) error {
	fl.moves = fl.moves[:0]
	for _, t := range group {
		if t.credit == creditDone {
			fl.moves = append(fl.moves, Move{Receipt: t.receipt, To: t.to, Cause: t.cause, Reason: t.reason})
		}
	}
	if len(fl.moves) == 0 {
		return nil
	}
	err := fl.c.logged(callback.Run("Store.Move", func() error {
		now := micros(fl.c.opts.Clock.Now())
		for i := range fl.moves {
			fl.moves[i].At = now
		}
		_, err := fl.c.store.Move(ctx, fl.moves)
		return err
	}))
	fl.c.claims.doubt(group, err != nil)
	return err
}

// counted tells the schedule of group, unless it could not be recorded.
func (fl *flush) counted(group []*try, err error) Report {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for _, t := range group {
		if err == nil || t.credit != creditDone {
			fl.plan.settled(t)
		}
	}
	return fl.plan.report
}

// announce removes the bundles that nobody needs any more and tells of the dead.
func (c *Courier) announce(ctx context.Context, group []*try) error {
	quiet := true
	for _, t := range group {
		if t.credit == creditDone && (t.to == Dead || t.receipt.Carried) {
			quiet = false
		}
	}
	if quiet {
		return nil
	}
	return c.logged(callback.Run("Metrics, Logger or Bundles", func() error {
		for _, t := range group {
			switch {
			case t.credit != creditDone:
			case t.to == Dead:
				c.opts.Metrics.Dead(t.cause)
				c.opts.Logger.Warn("receipt is dead", "id", t.receipt.ID, "cause", t.cause, "reason", t.reason)
			case c.index != nil && t.receipt.Carried:
				if err := callback.Guard("Bundles.Remove", func() error { return c.release(ctx, t.receipt.Bundle) }); err != nil {
					c.opts.Logger.Warn("bundle stays", "bundle", t.receipt.Bundle, "err", err) // Prune tries again
				}
			}
		}
		return nil
	}))
}

// reward credits those of group that were forwarded, in the order of their
// turns. A credit that fails leaves its receipt pending and keeps no other from
// its own, until as many failed in a row as Options.StopAfter says, or the time
// is over: then the rewarder is broken, and those behind are untried. At least
// one credit of each group is tried, so the first turn of a flush is a whole one.
// The error is that of the first credit that failed.
func (fl *flush) reward(ctx context.Context, group []*try) (unpaid error, broken bool) {
	c := fl.c
	if c.opts.Rewarder == nil {
		return nil, false
	}
	credits, of, unpaid := fl.owed(group)
	for len(credits) > 0 {
		n, err := c.credit(ctx, credits)
		if n > 0 {
			fl.unpaidInRow = 0
		}
		credits, of = credits[n:], of[n:]
		if len(credits) == 0 {
			break
		}
		t := of[0]
		credits, of = credits[1:], of[1:]
		if rejects(err) {
			t.to, t.cause, t.reason = Dead, Rejected, cut("reward: "+err.Error())
			continue
		}
		t.credit = creditFailed
		unpaid = cmp.Or(unpaid, fmt.Errorf("courier: reward: %w", err))
		fl.unpaidInRow++
		if fl.unpaidInRow >= c.opts.StopAfter || ctx.Err() != nil {
			for _, t := range of {
				t.credit = creditUntried
			}
			return unpaid, true
		}
	}
	return unpaid, false
}

// owed returns the credits for group, and whose they are.
func (fl *flush) owed(group []*try) (credits []Credit, of []*try, unpaid error) {
	c := fl.c
	for i := 0; i < len(group); i++ {
		err := callback.Run("Options.Amount", func() error {
			for ; i < len(group); i++ {
				t := group[i]
				if t.to != Acknowledged {
					continue
				}
				if amount := c.opts.Amount(t.receipt); amount > 0 {
					credits = append(credits, Credit{t.receipt.ID, c.opts.Account, amount})
					of = append(of, t)
				}
			}
			return nil
		})
		if err != nil {
			group[i].credit = creditFailed
			unpaid = cmp.Or(unpaid, fmt.Errorf("courier: reward: %w", c.logged(err)))
		}
	}
	return credits, of, unpaid
}
