package courier

import (
	"context"
	"errors"
	"fmt"
	"io"
)

var _ Receiver = (*Courier)(nil)

// answer is what a carrier says to somebody who offers it a receipt.
type answer uint8

const (
	// answerTake: hand it over, also if I had it once.
	answerTake answer = iota
	// answerKnown: I hold it and will carry it on; you may let go of it.
	answerKnown
	// answerBusy: I am handing it to somebody else just now. Perhaps it is you, or
	// they hand it to you: if each of us let go because the other holds it, nobody
	// would.
	answerBusy
)

// offered is the rule by which carriers that meet lose no bundle: who promises to
// keep a receipt holds it, pending or dead, and is not giving it away at that
// moment. Who has handed it on promises nothing for others; it takes the receipt
// again. out says whether the receipt was out at any moment of the question.
//
// Why it suffices: take the last of several carriers to let go of a receipt, and
// whom it believed. That one held the receipt and was not giving it away at a
// moment while the last was; so if it let go too, it did so in a shorter time
// within the last one's, believing somebody who is neither of them, and so on:
// there is always one more than there are.
func offered(found bool, s State, cause Cause, out bool) answer {
	switch {
	case !found, s == Acknowledged, s == Dead && cause == Damaged:
		return answerTake
	case out:
		return answerBusy
	}
	return answerKnown
}

// Known implements [Receiver]. It returns the receipt if this courier holds it,
// and its bundle where bundles are carried, and is not handing it on just now:
// the sender may let go of it. What has been handed on, or whose bundle turned
// out to be damaged, is ErrNotFound, to be accepted again. ErrBusy says that it
// is being handed on.
func (c *Courier) Known(ctx context.Context, id ID) (r Receipt, err error) {
	err = c.guard("Known", func() (err error) {
		r, err = c.known(ctx, id)
		return err
	})
	return r, err
}

func (c *Courier) known(ctx context.Context, id ID) (Receipt, error) {
	wasOut, end := c.claims.ask(id)
	defer end()
	r, err := c.store.Get(ctx, id)
	if err != nil {
		return Receipt{}, err
	}
	if offered(true, r.State, r.Cause, false) == answerKnown {
		if err := c.holds(ctx, r); err != nil {
			return Receipt{}, err
		}
		// Reading it took its time.
		if r, err = c.store.Get(ctx, id); err != nil {
			return Receipt{}, err
		}
	}
	switch offered(true, r.State, r.Cause, wasOut()) {
	case answerTake:
		return Receipt{}, fmt.Errorf("%w: receipt %v is held no more", ErrNotFound, id)
	case answerBusy:
		return Receipt{}, fmt.Errorf("%w: receipt %v", ErrBusy, id)
	}
	return r, nil
}

// holds returns ErrNotFound if the bundle of r is not what was sent.
func (c *Courier) holds(ctx context.Context, r Receipt) error {
	if !r.Carried || c.opts.Bundles == nil {
		return nil
	}
	src, err := c.opts.Bundles.Open(ctx, r.Bundle)
	if err != nil {
		return err
	}
	defer src.Close()
	d := newDigest()
	defer digests.Put(d)
	h, size, err := d.copyTo(ctx, nil, src, r.Size)
	if errors.Is(err, ErrTooLarge) || err == nil && (h != r.Bundle || size != r.Size) {
		return fmt.Errorf("%w: the bundle of receipt %v is damaged", ErrNotFound, r.ID)
	}
	return err
}

// Accept implements [Receiver]: the receipt becomes one of this courier's own,
// under the same ID, sent now. So also if it was carried before and handed on, or
// given up as its bundle was damaged. Couriers of which only one carries bundles
// do not fit together: that is ErrRejected. ErrBusy says that the receipt is
// being handed on just now.
func (c *Courier) Accept(ctx context.Context, r Receipt, bundle io.Reader) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if (bundle == nil) != (c.opts.Bundles == nil) {
		return fmt.Errorf("%w: bundles are carried on one side only", ErrRejected)
	}
	return c.guard("Accept", func() error { return c.accept(ctx, r, bundle) })
}

func (c *Courier) accept(ctx context.Context, r Receipt, bundle io.Reader) error {
	wasOut, end := c.claims.ask(r.ID)
	defer end()
	_, err := c.store.Get(ctx, r.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	found := err == nil
	store := func(ctx context.Context, r Receipt) (Receipt, error) { return c.appendAgain(ctx, r, found, wasOut) }
	if bundle == nil {
		r.Carried = false
		_, err := store(ctx, r)
		return err
	}
	_, err = c.take(ctx, r, bundle, func(got Receipt) error {
		if !got.Same(r) {
			return fmt.Errorf("%w: %d bytes of %v", ErrMismatch, got.Size, got.Bundle)
		}
		return nil
	}, store)
	return err
}

// appendAgain stores r as pending, in place of one that is held no more. found
// says whether it was there when the question began.
func (c *Courier) appendAgain(ctx context.Context, r Receipt, found bool, wasOut func() bool) (Receipt, error) {
	for range 3 {
		stored, err := c.append(ctx, r)
		if err != nil || !found && stored.State == Pending { // since it was asked, and so not out before
			return stored, err
		}
		switch offered(true, stored.State, stored.Cause, wasOut()) {
		case answerKnown:
			return stored, nil
		case answerBusy:
			return Receipt{}, fmt.Errorf("%w: receipt %v", ErrBusy, r.ID)
		}
		// A new receipt has its own place among the others, and its own age.
		if _, err := c.store.Move(ctx, []Move{{Receipt: stored, To: Gone, At: stored.Since}}); err != nil {
			return Receipt{}, err
		}
		found = false
	}
	return Receipt{}, fmt.Errorf("%w: receipt %v", ErrBusy, r.ID)
}
