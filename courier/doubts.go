package courier

import (
	"context"
	"errors"
	"sync"
	"time"
)

// doubtTime is for how long a receipt whose Append has no known outcome is waited
// for: longer than any server that was asked still works on it.
const doubtTime = 10 * time.Minute

// doubts are receipts that may still arrive in the store. Each holds its bundle.
type doubts struct {
	mu sync.Mutex
	of map[ID][]doubt
}

type doubt struct {
	bundle Hash
	since  time.Time
}

// settles reports whether an Append that returned err is known to have stored
// the receipt, or never to do so.
func settles(ctx context.Context, err error) bool {
	switch {
	case err == nil:
		return true
	case errors.Is(err, ErrUnknown), errors.Is(err, ErrPoisoned):
		return false
	}
	return ctx.Err() != nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrInvalid) ||
		errors.Is(err, ErrClosed) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrBusy)
}

func (d *doubts) add(r Receipt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = map[ID][]doubt{}
	}
	d.of[r.ID] = append(d.of[r.ID], doubt{r.Bundle, time.Now()})
}

// resolve is told that nothing more will arrive for a receipt.
func (d *doubts) resolve(id ID, p *pins) {
	d.mu.Lock()
	all := d.of[id]
	delete(d.of, id)
	d.mu.Unlock()
	for _, one := range all {
		p.drop(one.bundle)
	}
}

// ids returns the receipts in doubt, and which of them have been for too long.
func (d *doubts) ids() map[ID]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := make(map[ID]bool, len(d.of))
	for id, all := range d.of {
		old[id] = time.Since(all[len(all)-1].since) > doubtTime
	}
	return old
}

// resolveDoubts lets go of the bundles of receipts that have arrived, or that
// were not there after so long that they never will be.
func (c *Courier) resolveDoubts(ctx context.Context) error {
	for id, old := range c.doubts.ids() {
		_, err := c.store.Get(ctx, id)
		switch {
		case err == nil, old && errors.Is(err, ErrNotFound):
			c.doubts.resolve(id, &c.pins)
		case !errors.Is(err, ErrNotFound):
			return err
		}
	}
	return nil
}
