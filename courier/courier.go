package courier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/computemarket/computemarket/internal/callback"
)

// Courier takes bundles in and forwards them. It starts no goroutine and holds
// nothing to close. All methods are safe for concurrent use. Only one Courier
// may use a store at a time.
type Courier struct {
	store    Store
	notebook Notebook // the same store
	opts     Options
	index    BundleIndex // the same store; nil if no bundles are carried
	pins     pins
	doubts   doubts
	system   bool // the Clock is the system's
	claims   claims

	mu      sync.Mutex // guards what follows
	flushes map[*flush]struct{}
	noted   bool // note was read
	note    note
}

// New returns a Courier over a store, which must be a [Notebook] too. opts may be
// nil. The error is ErrOptions.
func New(s Store, opts *Options) (*Courier, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, fmt.Errorf("%w: no store", ErrOptions)
	}
	c := &Courier{store: s, opts: o, flushes: map[*flush]struct{}{}}
	_, c.system = o.Clock.(systemClock)
	var ok bool
	if c.notebook, ok = s.(Notebook); !ok {
		return nil, fmt.Errorf("%w: the store is no Notebook", ErrOptions)
	}
	if c.index, ok = s.(BundleIndex); !ok && o.Bundles != nil {
		return nil, fmt.Errorf("%w: the store has no BundleIndex, so it cannot serve Bundles", ErrOptions)
	}
	if o.Bundles == nil {
		c.index = nil
	}
	return c, nil
}

// enter and leave tell flushes of each other.
func (c *Courier) enter(fl *flush) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushes[fl] = struct{}{}
	if len(c.flushes) > 1 {
		for each := range c.flushes {
			each.shared = true
		}
	}
}

func (c *Courier) leave(fl *flush) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flushes, fl)
}

// Send reads bundle to its end and stores a receipt for it under a random ID.
// When it returns a nil error, the receipt, and the bundle where bundles are
// carried, are durable. The sender is any UTF-8 of 1 to [MaxSender] bytes.
//
// Possible errors: [ErrInvalid], [ErrTooLarge], those of the [Store] and of
// bundle, and the context's. ctx is looked at between reads: bundle must not
// block for ever. After an error nothing is there, except that after
// [ErrUnknown] the receipt may be there or still arrive, and after [ErrPoisoned]
// it may show when the store is opened again. SendAs resolves that, and until
// then the bundle stays where it is. So after any error of a Store's that the
// courier does not know, and after a panic of it.
func (c *Courier) Send(ctx context.Context, bundle io.Reader, sender string) (Receipt, error) {
	var id ID
	if _, err := io.ReadFull(c.opts.Rand, id[:]); err != nil {
		return Receipt{}, fmt.Errorf("courier: random ID: %w", err)
	}
	return c.SendAs(ctx, id, bundle, sender)
}

// SendAs is Send under an ID of the caller's, which makes it idempotent: sent
// again with the same bundle and sender, the stored receipt comes back, in
// whatever state it is by then; with others, [ErrConflict]. That holds until the
// receipt is pruned.
func (c *Courier) SendAs(ctx context.Context, id ID, bundle io.Reader, sender string) (r Receipt, err error) {
	if bundle == nil {
		return Receipt{}, fmt.Errorf("%w: no bundle", ErrOptions)
	}
	r = Receipt{ID: id, Sender: sender}
	if err := r.Validate(); err != nil {
		return Receipt{}, err
	}
	err = c.guard("Send", func() (err error) {
		r, err = c.take(ctx, r, bundle, nil, c.append)
		return err
	})
	return r, err
}

// guard calls f, in which code of the caller's runs.
func (c *Courier) guard(name string, f func() error) error {
	return c.logged(callback.Guard(name, f))
}

// take keeps bundle, unless check objects to it, and then has r stored with the
// bundle's hash and size.
func (c *Courier) take(ctx context.Context, r Receipt, bundle io.Reader, check func(Receipt) error,
	store func(context.Context, Receipt) (Receipt, error)) (Receipt, error) {
	var w BundleWriter
	var dst io.Writer
	if c.opts.Bundles != nil {
		var err error
		if w, err = c.opts.Bundles.Create(ctx); err != nil {
			return Receipt{}, err
		}
		defer w.Abort()
		dst = w
	}
	d := newDigest()
	defer digests.Put(d)
	var err error
	if r.Bundle, r.Size, err = d.copyTo(ctx, dst, bundle, c.opts.MaxBundle); err != nil {
		return Receipt{}, err
	}
	if check != nil {
		if err := check(r); err != nil {
			return Receipt{}, err
		}
	}
	if w == nil {
		return store(ctx, r)
	}
	return c.takeCarried(ctx, r, w, store)
}

// takeCarried commits the bundle and has r stored. From before the commit the
// bundle is held, so that it cannot go when an older receipt of it is
// acknowledged, until it is known whether r is there.
func (c *Courier) takeCarried(ctx context.Context, r Receipt, w BundleWriter,
	store func(context.Context, Receipt) (Receipt, error)) (stored Receipt, err error) {
	r.Carried = true
	c.pins.hold(r.Bundle)
	doubt, committed := false, false
	defer func() {
		if doubt {
			c.doubts.add(r)
			return
		}
		c.pins.drop(r.Bundle)
		if committed && (err != nil || stored.State == Acknowledged) {
			c.release(ctx, r.Bundle) // if nobody else needs it
		}
	}()
	if err := w.Commit(r.Bundle); err != nil {
		return Receipt{}, err
	}
	committed, doubt = true, true // should store panic
	stored, err = store(ctx, r)
	doubt = !settles(ctx, err)
	if err == nil || errors.Is(err, ErrConflict) {
		c.doubts.resolve(r.ID, &c.pins) // of earlier calls
	}
	return stored, err
}

func (c *Courier) append(ctx context.Context, r Receipt) (Receipt, error) {
	r.SentAt = micros(c.opts.Clock.Now())
	stored, err := c.store.Append(ctx, r)
	if err != nil {
		return Receipt{}, err
	}
	return stored, nil
}

// release removes a bundle that no receipt needs. One that stays by mistake is
// found by Prune.
func (c *Courier) release(ctx context.Context, h Hash) error {
	return c.pins.removal(h, func() error {
		needed, err := c.index.Needs(ctx, h)
		if err != nil || needed {
			return err
		}
		return c.opts.Bundles.Remove(ctx, h)
	})
}

// Get returns a receipt in any state, or [ErrNotFound].
func (c *Courier) Get(ctx context.Context, id ID) (r Receipt, err error) {
	err = c.guard("Store.Get", func() (err error) {
		r, err = c.store.Get(ctx, id)
		return err
	})
	return r, err
}

// List yields the receipts in a state in the order of sending, as they stood
// when the iteration began. The first error ends it.
func (c *Courier) List(ctx context.Context, s State) iter.Seq2[Receipt, error] {
	return c.store.List(ctx, s, 0)
}

// Count returns how many receipts are in which state.
func (c *Courier) Count(ctx context.Context) (n Counts, err error) {
	err = c.guard("Store.Count", func() (err error) {
		n, err = c.store.Count(ctx)
		return err
	})
	return n, err
}
