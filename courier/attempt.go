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
	// bundle after that; ctx need not end when Forward returns. bundle is nil
	// unless r.Carried; else r.Size bytes, of which the last Read fails when
	// they are not those of r.Bundle. Forward is called from several goroutines
	// at once.
	Forward(ctx context.Context, r Receipt, bundle io.Reader) error
}

var errTimeout = errors.New("courier: the peer hangs")

// deliver hands r to the forwarder once, with its bundle if it has one.
func (w *worker) deliver(r *Receipt) error {
	if !r.Carried {
		return w.forward(r, nil)
	}
	bundles := w.fl.c.opts.Bundles
	if bundles == nil {
		return storeError{fmt.Errorf("%w: the bundle of %v is carried, but no Bundles are given", ErrInvalid, r.ID)}
	}
	src, err := bundles.Open(w.ctx, r.Bundle)
	if errors.Is(err, ErrNotFound) {
		return damage{err}
	}
	if err != nil {
		return storeError{err}
	}
	defer src.Close()
	v := newVerifier(src, *r)
	err = w.forward(r, v)
	if err != nil && errors.Is(v.err, ErrMismatch) {
		return damage{v.err} // whatever the peer made of it
	}
	return err
}

// forward calls the forwarder under the timeout.
func (w *worker) forward(r *Receipt, bundle io.Reader) error {
	opts := &w.fl.c.opts
	if bundle != nil {
		bundle = &alive{bundle, w}
	}
	opts.Metrics.Attempt()
	w.moved.Store(w.fl.clock())
	err := w.fl.forwarder.Forward(w.ctx, *r, bundle)
	late := w.moved.Swap(noAttempt) == hung
	if late {
		w.fl.mu.Lock() // the watch has cancelled
		w.renew()
		w.fl.mu.Unlock()
	}
	if err == nil {
		return nil
	}
	opts.Metrics.Failure()
	opts.Logger.Debug("attempt failed", "id", r.ID, "err", err)
	if late {
		err = fmt.Errorf("%w: %w", errTimeout, err)
	}
	return err
}

// alive puts off the timeout at each Read that finds something.
type alive struct {
	io.Reader
	w *worker
}

func (a *alive) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if moved := a.w.moved.Load(); n > 0 && moved > 0 {
		a.w.moved.CompareAndSwap(moved, a.w.fl.clock()) // not if it has ended the attempt
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
