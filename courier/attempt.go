package courier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"

	"github.com/computemarket/computemarket/internal/callback"
)

// Forwarder hands a receipt and its bundle to a peer. [HTTPForwarder] is one.
type Forwarder interface {
	// Forward returns nil once the peer holds the receipt, durably, or held it
	// already and promised to go on: one receipt may come more than once, always
	// with the same ID. [ErrRejected] says that it will never be taken; after any
	// other error, and after a panic, it is tried again. Forward returns soon when
	// ctx ends, and does not use bundle after that; ctx need not end when Forward
	// returns. bundle is nil unless r.Carried; else r.Size bytes, of which the last
	// Read fails when they are not those of r.Bundle. A Forward that overlooks this
	// has not forwarded: Flush looks at what was read of bundle, and reads the rest
	// if only a part was. Forward is called from several goroutines at once.
	Forward(ctx context.Context, r Receipt, bundle io.Reader) error
}

var errTimeout = errors.New("courier: the peer hangs")

// attempt forwards t once, unless it is another flush's, which mine reports, or
// too old, which is final.
func (w *worker) attempt(t *try) (mine bool, err error) {
	c, id := w.fl.c, t.receipt.ID
	err = callback.Guard("an attempt", func() (err error) {
		if t.n > 0 {
			mine = true
			c.claims.again(id)
		} else if mine, err = w.fl.claim(&t.receipt); !mine {
			return err
		} else if t.receipt.Seq <= w.fl.expired {
			return final{fmt.Errorf("not forwarded within %v", c.opts.Lifetime), Expired}
		}
		return w.deliver(&t.receipt)
	})
	if err == nil || !mine {
		return mine, err
	}
	if _, over := errors.AsType[final](err); !over {
		c.claims.back(id) // the peer may have it, and nobody will act on that
	}
	return mine, c.logged(err)
}

// logged writes down where a callback panicked, which its error does not tell.
func (c *Courier) logged(err error) error {
	if p, ok := errors.AsType[*callback.Panic](err); ok {
		callback.Guard("Logger", func() error {
			c.opts.Logger.Error(p.Error(), "stack", string(p.Stack))
			return nil
		})
	}
	return err
}

// claim reports whether fl may forward r, which it brings up to date. A flush
// that was never alone also looks the receipt up once it has claimed it, since
// another may have settled it after this one's iteration began.
func (fl *flush) claim(r *Receipt) (bool, error) {
	c := fl.c
	if !c.claims.take(r.ID) {
		return false, nil
	}
	c.mu.Lock()
	shared := fl.shared
	c.mu.Unlock()
	if !shared {
		return true, nil
	}
	mine := false
	defer func() {
		if !mine {
			c.claims.drop(&try{receipt: Receipt{ID: r.ID}})
		}
	}()
	now, err := c.store.Get(fl.ctx, r.ID)
	if mine = err == nil && now.State == Pending; mine {
		*r = now
	}
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return mine, err
}

// deliver hands r to the forwarder once, with its bundle if it has one.
func (w *worker) deliver(r *Receipt) error {
	if !r.Carried {
		return w.forward(r, nil)
	}
	bundles := w.fl.c.opts.Bundles
	if bundles == nil {
		return ownFault{fmt.Errorf("%w: the bundle of %v is carried, but no Bundles are given", ErrOptions, r.ID), false}
	}
	src, err := bundles.Open(w.ctx, r.Bundle)
	if errors.Is(err, ErrNotFound) {
		return final{err, Damaged}
	}
	if err != nil {
		all := errors.Is(err, ErrLocked) || errors.Is(err, ErrClosed) || errors.Is(err, ErrPoisoned)
		return ownFault{fmt.Errorf("courier: open the bundle of %v: %w", r.ID, err), all}
	}
	defer src.Close()
	v := newVerifier(src, *r)
	err = w.forward(r, v)
	if err == nil && v.size > 0 { // else the peer had it already
		_, err = io.Copy(io.Discard, v)
	}
	switch {
	case errors.Is(v.err, ErrMismatch):
		return final{v.err, Damaged} // whatever the peer made of it
	case err == nil && v.err != nil && v.err != io.EOF:
		return ownFault{fmt.Errorf("courier: read the bundle of %v: %w", r.ID, v.err), false}
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
	err := callback.Guard("Forwarder.Forward", func() error { return w.fl.forwarder.Forward(w.ctx, *r, bundle) })
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
	if _, ok := errors.AsType[*callback.Panic](err); ok {
		return err // whatever it panicked with is no verdict
	}
	opts.Logger.Debug("attempt failed", "id", r.ID, "err", err)
	switch {
	case errors.Is(err, ErrRejected):
		return final{err, Rejected}
	case late:
		return fmt.Errorf("%w: %w", errTimeout, err)
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
	return d + rand.N(min(d/2, math.MaxInt64-d)+1)
}
