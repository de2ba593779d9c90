package courier

import "errors"

// Flushes at once agree on who forwards a receipt: the one that claims its Seq
// first, until the outcome is in the store. A flush that was never alone also
// looks the receipt up once it has claimed it, since the other may have settled
// it after this one's iteration began.

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

// claim reports whether fl may forward r, which it brings up to date.
func (fl *flush) claim(r *Receipt) (bool, error) {
	c := fl.c
	c.mu.Lock()
	_, taken := c.claimed[r.Seq]
	if !taken {
		c.claimed[r.Seq] = struct{}{}
	}
	shared := fl.shared
	c.mu.Unlock()
	if taken || !shared {
		return !taken, nil
	}
	now, err := c.store.Get(fl.ctx, r.ID)
	if err == nil && now.State == Pending {
		*r = now
		return true, nil
	}
	c.mu.Lock()
	delete(c.claimed, r.Seq)
	c.mu.Unlock()
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return false, err
}

func (c *Courier) unclaim(tries ...*try) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range tries {
		delete(c.claimed, t.receipt.Seq)
	}
}
