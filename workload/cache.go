package workload

import (
	"context"
	"sync"
)

// cache remembers facts by slice ID, those used last, and knows which IDs are
// being computed. The latter are not counted: there are no more of them than
// calls.
type cache struct {
	limit int

	mu      sync.Mutex // guards all below, and the entries
	entries map[string]*entry
	known   int
	newest  entry // sentinel of the ring of known entries: next is the newest, prev the oldest
}

// A fact is what is known of a slice.
type fact struct {
	kind   Kind
	proof  Hash
	size   int64
	tag    tag
	tagged bool // tag is set; until then the proof is the hash of the content
}

// state says what has become of an entry.
type state uint8

const (
	absent state = iota // never computed, or failed
	flying              // being computed
	known
)

type entry struct {
	id         string
	state      state
	fact       fact
	settled    chan struct{} // closed when no longer flying; made by the first who waits
	prev, next *entry
}

func newCache(limit int) *cache {
	c := &cache{limit: limit, entries: make(map[string]*entry)}
	c.newest.prev, c.newest.next = &c.newest, &c.newest
	return c
}

// claim looks id up. If it is absent, the caller has e to compute, and must
// settle it.
func (c *cache) claim(id string) (e *entry, f fact, s state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e = c.entries[id]
	if e == nil {
		e = &entry{id: id, state: flying}
		c.entries[id] = e
		return e, fact{}, absent
	}
	if e.state == known {
		e.unlink()
		c.link(e)
	}
	return e, e.fact, e.state
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
		e.state = absent
		delete(c.entries, e.id)
	}
	if e.settled != nil {
		close(e.settled)
	}
}

// await waits until e is settled or ctx is done.
func (c *cache) await(ctx context.Context, e *entry) (fact, state) {
	c.mu.Lock()
	if e.state == flying {
		if e.settled == nil {
			e.settled = make(chan struct{})
		}
		settled := e.settled
		c.mu.Unlock()
		select {
		case <-settled:
		case <-ctx.Done():
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	return e.fact, e.state
}

// setTag adds the tag to a fact that had none.
func (c *cache) setTag(e *entry, t tag) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.fact.tag, e.fact.tagged = t, true
}

func (c *cache) link(e *entry) {
	e.prev, e.next = &c.newest, c.newest.next
	e.prev.next, e.next.prev = e, e
}

func (e *entry) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}
