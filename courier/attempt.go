package courier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// Forwarder hands a receipt and its bundle to a peer. [HTTPForwarder] is one.
type Forwarder interface {
	// Forward returns nil once the peer holds the receipt, durably, or held it
	// already: one receipt may come more than once, always with the same ID.
	// [ErrRejected] says that it will never be taken; after any other error it
	// is tried again. Forward returns soon when ctx ends, and does not use
	// bundle after that. bundle is nil unless r.Carried; else r.Size bytes, of which the last Read fails when they are not those of
	// r.Bundle. Forward is called from several goroutines at once.
	Forward(ctx context.Context, r Receipt, bundle io.Reader) error
}

var errTimeout = errors.New("courier: the peer hangs")

// attempt forwards r once.
func (c *Courier) attempt(ctx context.Context, f Forwarder, r Receipt) error {
	if !r.Carried {
		return c.forward(ctx, f, r, nil)
	}
	if c.opts.Bundles == nil {
		return storeError{fmt.Errorf("%w: the bundle of %v is carried, but no Bundles are given", ErrInvalid, r.ID)}
	}
	src, err := c.opts.Bundles.Open(ctx, r.Bundle)
	if errors.Is(err, ErrNotFound) {
		return damage{err}
	}
	if err != nil {
		return storeError{err}
	}
	defer src.Close()
	v := newVerifier(src, r)
	err = c.forward(ctx, f, r, v)
	if err != nil && errors.Is(v.err, ErrMismatch) {
		return damage{v.err} // whatever the peer made of it
	}
	return err
}

func (c *Courier) forward(ctx context.Context, f Forwarder, r Receipt, bundle io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(c.opts.Timeout, func() { cancel(errTimeout) })
	defer idle.Stop()
	if bundle != nil {
		bundle = &alive{bundle, idle, c.opts.Timeout}
	}
	c.opts.Metrics.Attempt()
	err := f.Forward(ctx, r, bundle)
	if err == nil {
		return nil
	}
	c.opts.Metrics.Failure()
	if context.Cause(ctx) == errTimeout {
		return fmt.Errorf("%w: %w", errTimeout, err)
	}
	return err
}

// alive puts off the timeout at each Read that finds something.
type alive struct {
	io.Reader
	idle    *time.Timer
	timeout time.Duration
}

func (a *alive) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if n > 0 && a.idle.Stop() { // not if it has ended the attempt already
		a.idle.Reset(a.timeout)
	}
	return n, err
}

// damage says that the bundle kept for a receipt is not its own.
type damage struct{ error }

// storeError is a failure of this side, not of the peer.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// backoff returns the wait after a failed attempt, counted from 1.
func (o *Options) backoff(attempt int) time.Duration {
	d := o.Backoff
	for range attempt - 1 {
		if d >= o.MaxBackoff/2 {
			d = o.MaxBackoff
			break
		}
		d *= 2
	}
	return d + rand.N(d/2+1)
}
