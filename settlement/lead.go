package settlement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/internal/elapsed"
)

// Lead makes the engine the one that may write, and returns nil when it is, or
// was already. While another engine holds the lease, or the store is out of
// reach, it waits: an engine on standby outlives a server's restart and a
// partition. A new engine is then armed as [Options.Start] says. Possible errors:
// those of which [IsFinal] is true, and that of ctx.
//
// A lease without a term, as of a store on this machine, is taken from whoever
// has it. An engine that lost one in this way is at its end, lest the two take it
// from each other in turn: Lead answers [ErrFenced].
func (e *Engine) Lead(ctx context.Context) error {
	defer e.events.deliver()
	told := ""
	var why error // there is no lead yet
	for try := 0; ; try++ {
		err := e.inTurn(ctx, "Store.Acquire", func() error { return e.acquire(ctx) })
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return waitEnded(ctx, cmp.Or(why, err))
		}
		why = err
		wait := backoff(e.opts.Interval, try)
		held, isHeld := errors.AsType[*HeldError](err)
		switch {
		case isHeld:
			// Look again soon: the lease may be given up.
			wait, try = max(min(held.Wait, backoff(e.opts.Interval, 0)), time.Millisecond), 0
		case IsFinal(err):
			return err
		}
		if who := err.Error(); isHeld && told != held.Holder {
			told = held.Holder
			e.log("settlement on standby", "leader", held.Holder)
		} else if !isHeld && told != who {
			told = who
			e.log("settlement on standby: no lead, trying again", "err", err)
		}
		e.events.deliver()
		if !sleep(ctx, wait) {
			return waitEnded(ctx, why)
		}
	}
}

func waitEnded(ctx context.Context, why error) error {
	return fmt.Errorf("settlement: no lead: %w: %w", ctx.Err(), why)
}

// acquire takes the lead, with the token.
func (e *Engine) acquire(ctx context.Context) error {
	if e.Leads() || e.ended != nil {
		return e.ended
	}
	lease, state, err := e.store.Acquire(ctx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	last := e.state.Mode
	e.lease, e.state = lease, state
	e.counted, e.owed = state.Cursor, 0
	e.mu.Unlock()
	e.modeChanged(last, state)
	e.events.add(func() { e.opts.Logger.Info("settlement leads", "epoch", lease.Epoch, "mode", state.Mode) })
	e.watch = elapsed.Watch{} // what passed while another led, or nobody, does not count
	if state.neverArmed() && !e.opts.Start.IsZero() {
		err = e.arm(ctx, state, e.opts.Start)
	}
	if err == nil {
		err = e.observe(ctx)
	}
	if err != nil && e.Leads() {
		e.standBy("the lead could not begin", err)
	}
	return err
}

// Resign gives the lead up, after it has saved what the engine knows, so that
// another engine takes over at once. On standby it does nothing. Run does this at
// its end. Possible errors: those of Store.Release, after which the lease ends
// with its term.
func (e *Engine) Resign(ctx context.Context) error {
	defer e.events.deliver()
	return e.inTurn(ctx, "Store.Release", func() error {
		if !e.Leads() {
			return nil
		}
		e.unsure = true
		err := e.store.Release(ctx, e.held(), e.snapshot())
		e.unsure = false
		e.standBy("resigned", err)
		if errors.Is(err, ErrFenced) {
			return nil // it had no lead to give up
		}
		return err
	})
}

// lostBy puts the engine on standby if err is one of those.
func (e *Engine) lostBy(err error, these ...error) {
	for _, this := range these {
		if errors.Is(err, this) && e.Leads() {
			if this == ErrFenced && e.held().Term == 0 {
				e.ended = err
			}
			e.standBy("lead lost", err)
			return
		}
	}
}

// standBy forgets the lease, with the token.
func (e *Engine) standBy(why string, err error) {
	e.mu.Lock()
	epoch := e.lease.Epoch
	e.lease = Lease{}
	e.mu.Unlock()
	e.events.add(func() { e.opts.Logger.Warn("settlement stands by", "epoch", epoch, "why", why, "err", err) })
}

func (e *Engine) log(msg string, args ...any) {
	e.events.add(func() { e.opts.Logger.Warn(msg, args...) })
	e.events.deliver()
}

// Run takes the lead, and settles what is owed, again and again: when woken, at
// each interval, and when an armed engine's delay has passed. While it leads,
// [Options.Leading] runs beside it. When another engine has taken over, Run stands
// by and takes the lead again when that one is gone. It returns nil when ctx ends,
// having settled what Leading has left and resigned; and otherwise Leading's
// error, or the first of which [IsFinal] is true. Other errors are logged and tried
// again, ever more slowly.
func (e *Engine) Run(ctx context.Context) error {
	for failures := 0; ; failures++ {
		err := e.Lead(ctx)
		var term time.Duration
		if err == nil {
			term = e.held().Term
			err = e.leadOn(ctx, &failures)
		}
		switch ended, isLeading := errors.AsType[*leadingError](err); {
		case ctx.Err() != nil:
			return nil
		case isLeading:
			return ended.err
		case errors.Is(err, ErrFenced) && term > 0:
			// Lead waits for the other engine.
		case IsFinal(err):
			return err
		}
		if !sleep(ctx, backoff(e.opts.Interval, failures)) {
			return nil
		}
	}
}

// leadingError is that of Options.Leading.
type leadingError struct{ err error }

func (e *leadingError) Error() string { return e.err.Error() }

const (
	resignTimeout = 5 * time.Second
	armedLook     = elapsed.Trusted / 4
)

// leadOn settles, with Leading beside it, until ctx ends, the lead is lost, an
// error is final, or Leading fails; and resigns then, so that nobody has to wait
// for a lease that nobody uses.
func (e *Engine) leadOn(ctx context.Context, failures *int) error {
	beside, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// Settling goes on, and with it the lease, until Leading has come to its end.
	settling, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := callback.Run("Options.Leading", func() error { return e.opts.Leading(beside) }); err != nil && beside.Err() == nil {
			stop(&leadingError{err})
		}
		<-beside.Done()
		end()
	}()
	err := e.settleOn(settling, failures)
	if cause := context.Cause(beside); ctx.Err() == nil && cause != nil {
		err = cause
	}
	stop(nil)
	<-done
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	if e.Mode() == Real {
		e.Settle(last) // what Leading has left
	}
	if rerr := e.Resign(last); rerr != nil {
		e.log("settlement lease not given up", "err", rerr)
	}
	return err
}

// settleOn settles until ctx ends, the lead is lost, or an error is final.
// failures counts the passes that failed one after the other.
func (e *Engine) settleOn(ctx context.Context, failures *int) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-e.wake:
		}
		_, err := e.Settle(ctx)
		lease := e.held()
		wait := e.opts.Interval
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && (IsFinal(err) || lease.IsZero()):
			return err
		case lease.IsZero():
			return ErrStandby // somebody called Resign
		case err != nil:
			wait = backoff(e.opts.Interval, *failures)
			e.log("settlement pass failed", "err", err, "retry", wait)
			*failures++
		default:
			*failures = 0
		}
		timer.Reset(e.nextLook(wait, lease))
	}
}

// nextLook is how long Run may wait at most: not past the moment at which an
// armed engine becomes real, and often enough to renew the lease.
func (e *Engine) nextLook(wait time.Duration, lease Lease) time.Duration {
	if s := e.snapshot(); s.Mode == Armed {
		if left, byTime := s.Activation.Remaining(); byTime {
			wait = min(wait, left, armedLook)
		}
	}
	if lease.Term > 0 {
		wait = min(wait, lease.Term/4)
	}
	return max(wait, time.Millisecond)
}

// backoff is how long to wait after so many failures: from an interval, of a
// second at most, to 64 times that.
func backoff(interval time.Duration, failures int) time.Duration {
	return min(interval, time.Second) << min(failures, 6)
}

// sleep reports whether the time has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
