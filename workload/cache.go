package workload

import (
	"context"
	"strings"
	"sync"
)

// cache remembers facts by slice ID, those used last, and knows which IDs are
// being computed. The latter are not counted: there are no more of them than
// calls.
type cache struct {
	limit int

	mu      sync.Mutex // guards all below, and the entries; held over no call to anyone
	entries map[string]*entry
	known   int
	newest  entry // sentinel of the ring of known entries: next is the newest, prev the oldest
}

// A fact is what is known of a slice.
type fact struct {
	work   *work
	proof  Hash
	size   int64
	tag    tag
	tagged bool // tag is set; until then the proof is the hash of the content
}

// state says what has become of an entry.
type state uint8

const (
	flying state = iota // being computed
	known
	failed
)

// An entry keeps nothing of the caller's: its ID is a copy, for the caller's may
// be a few bytes of a long message.
type entry struct {
	id         string
	state      state
	fact       fact
	settled    chan struct{} // closed when no longer flying; made by the first who waits, dropped then
	prev, next *entry        // in the ring, or nil
}

func newCache(limit int) *cache {
	c := &cache{limit: limit, entries: make(map[string]*entry)}
	c.newest.prev, c.newest.next = &c.newest, &c.newest
	return c
}

// do returns the fact of id. If none is known, compute makes it; of several calls
// at once one computes, the others wait. A known fact is returned if compare,
// which is the caller's own, agrees with it; what compare adds to it is kept. An
// error is the caller's alone, and is not remembered.
func (c *cache) do(ctx context.Context, id string, compute func() (fact, error), compare func(fact) (fact, error)) (fact, error) {
	e, f, mine, err := c.claim(ctx, id)
	switch {
	case err != nil:
		return fact{}, err
	case mine:
		return c.lead(e, compute)
	}
	more, err := compare(f)
	if err == nil && more.tagged != f.tagged {
		c.update(e, more)
	}
	return more, err
}

// claim finds the fact of id, waiting while another call computes it. If there is
// none, mine is true, and the caller has to compute it and to settle e.
func (c *cache) claim(ctx context.Context, id string) (e *entry, f fact, mine bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		e = c.entries[id]
		if e == nil {
			e = &entry{id: strings.Clone(id)}
			c.entries[e.id] = e
			return e, fact{}, true, nil
		}
		if e.state == flying {
			if err := c.wait(ctx, e); err != nil {
				return nil, fact{}, false, err
			}
		}
		if e.state == known {
			if e.next != nil { // it may have been dropped since
				e.unlink()
				c.link(e)
			}
			return e, e.fact, false, nil
		}
		// That call failed: perhaps it is this one's turn.
	}
}

// wait gives up c.mu until e is settled or ctx is done, as a sync.Cond would.
func (c *cache) wait(ctx context.Context, e *entry) error {
	if e.settled == nil {
		e.settled = make(chan struct{})
	}
	settled := e.settled
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lead computes what e stands for, and settles e whatever happens.
func (c *cache) lead(e *entry, compute func() (fact, error)) (f fact, err error) {
	returned := false
	defer func() { c.settle(e, f, returned && err == nil) }()
	f, err = compute()
	returned = true
	return f, err
}

// settle ends the flight of e: with a fact that is remembered, or with a failure
// that is not.
func (c *cache) settle(e *entry, f fact, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok {
		e.state, e.fact = known, f
		c.link(e)
		if c.known++; c.known > c.limit {
			oldest := c.newest.prev
			oldest.unlink()
			delete(c.entries, oldest.id)
			c.known--
		}
	} else {
		e.state = failed
		delete(c.entries, e.id)
	}
	if e.settled != nil {
		close(e.settled)
		e.settled = nil
	}
}

func (c *cache) update(e *entry, f fact) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.fact = f
}

func (c *cache) link(e *entry) {
	e.prev, e.next = &c.newest, c.newest.next
	e.prev.next, e.next.prev = e, e
}

func (e *entry) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}
