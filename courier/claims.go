package courier

import "sync"

// claims says which receipts the flushes of a Courier have in hand. Flushes at
// once agree by it on who forwards a receipt: the one that claims it first, until
// its turn is over and its outcome, if it has one, is in the store.
//
// Within its turn a receipt is out while a peer may take it over: from the
// beginning of an attempt until it has failed, or until what came of it is in the
// store. Who is asked for a receipt that is out must not promise to keep it.
type claims struct {
	mu    sync.Mutex
	out   map[ID]bool // by claimed receipt, whether it is out
	asked map[ID]*question
	// unsure are those whose outcome may or may not be in the store, and may still
	// arrive there: they are out until a later flush has it stored for certain.
	unsure map[ID]struct{}
}

// question is somebody's who asks whether a receipt is out.
type question struct {
	askers int
	seen   bool // it was out at some moment since the first of them asked
}

// take claims a receipt and says that it is out, or reports that another flush
// has it.
func (c *claims) take(id ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.out[id]; taken {
		return false
	}
	c.send(id)
	return true
}

// again says that a claimed receipt is out once more.
func (c *claims) again(id ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send(id)
}

func (c *claims) send(id ID) {
	if c.out == nil {
		c.out = map[ID]bool{}
	}
	c.out[id] = true
	if q := c.asked[id]; q != nil {
		q.seen = true
	}
}

// back says that a claimed receipt waits for its next attempt.
func (c *claims) back(id ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out[id] = false
}

// drop gives claims up.
func (c *claims) drop(tries ...*try) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range tries {
		delete(c.out, t.receipt.ID)
	}
}

// doubt is told that the outcome of claimed receipts may or may not be stored, or
// that it is after all. It gives no claim up.
func (c *claims) doubt(tries []*try, unsure bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !unsure && len(c.unsure) == 0 {
		return
	}
	if c.unsure == nil {
		c.unsure = map[ID]struct{}{}
	}
	for _, t := range tries {
		if t.credit == creditDone && unsure {
			c.unsure[t.receipt.ID] = struct{}{}
		} else if t.credit == creditDone {
			delete(c.unsure, t.receipt.ID)
		}
	}
}

// ask begins to watch a receipt. wasOut reports whether it has been out since;
// end is called once, when nobody asks any more.
func (c *claims) ask(id ID) (wasOut func() bool, end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.asked[id]
	if q == nil {
		_, unsure := c.unsure[id]
		q = &question{seen: c.out[id] || unsure}
		if c.asked == nil {
			c.asked = map[ID]*question{}
		}
		c.asked[id] = q
	}
	q.askers++
	wasOut = func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return q.seen
	}
	end = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if q.askers--; q.askers == 0 {
			delete(c.asked, id)
		}
	}
	return wasOut, end
}
