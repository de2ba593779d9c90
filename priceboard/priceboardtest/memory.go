package priceboardtest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/computemarket/computemarket/priceboard"
)

// Memory is a place that keeps one snapshot while the process lives, and can be
// made to fail: for tests of what is built on a board. The zero Memory is empty
// and ready. It is safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	saved   *priceboard.Snapshot // nil if nothing is
	damaged bool                 // what is saved
	aside   []priceboard.Snapshot
	err     error
	owner   *handle // who has claimed it
}

// Open returns a store on m, as a process that starts would open it.
func (m *Memory) Open() priceboard.Store { return &handle{m: m} }

// Damage makes what is saved unreadable, as bit rot does.
func (m *Memory) Damage() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.damaged = m.saved != nil
}

// Aside returns copies of the damaged snapshots that a Load has put aside, as
// they were before the damage, the oldest first.
func (m *Memory) Aside() []priceboard.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []priceboard.Snapshot
	for _, s := range m.aside {
		all = append(all, clone(s))
	}
	return all
}

// Fail makes every Save return err, until Fail(nil).
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// Saved returns a copy of what was saved last, if anything was.
func (m *Memory) Saved() (s priceboard.Snapshot, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.saved == nil {
		return s, false
	}
	return clone(*m.saved), true
}

func clone(s priceboard.Snapshot) priceboard.Snapshot {
	s.Prices, s.Parties = slices.Clone(s.Prices), slices.Clone(s.Parties)
	return s
}

// handle is one opening of a Memory. Its fields are guarded by m.mu.
type handle struct {
	m      *Memory
	closed bool
}

var _ priceboard.Store = (*handle)(nil)

func (h *handle) Load(ctx context.Context) (priceboard.Snapshot, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if h.m.owner == h {
		return priceboard.Snapshot{}, priceboard.ErrLocked
	}
	if err := h.claim(ctx); err != nil {
		return priceboard.Snapshot{}, err
	}
	switch {
	case h.m.damaged:
		h.m.setAside()
		return priceboard.Snapshot{}, fmt.Errorf("memory: %w", priceboard.ErrCorrupt)
	case h.m.saved == nil:
		return priceboard.Snapshot{}, priceboard.ErrNoSnapshot
	}
	return clone(*h.m.saved), nil
}

func (h *handle) Save(ctx context.Context, s priceboard.Snapshot) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.claim(ctx); err != nil {
		return err
	}
	if s.Window == 0 || uint64(len(s.Prices)) > s.Window || len(s.Parties) > len(s.Prices) {
		return fmt.Errorf("memory: %w", priceboard.ErrSnapshot)
	}
	if h.m.err != nil {
		return h.m.err
	}
	s = clone(s)
	h.m.setAside()
	h.m.saved = &s
	return nil
}

func (h *handle) Close() error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	h.closed = true
	if h.m.owner == h {
		h.m.owner = nil
	}
	return nil
}

// setAside keeps what is saved if it is damaged. The caller holds m.mu.
func (m *Memory) setAside() {
	if m.damaged {
		m.aside = append(m.aside, *m.saved)
		m.saved, m.damaged = nil, false
	}
}

// claim makes h the owner, or says why not. The caller holds m.mu.
func (h *handle) claim(ctx context.Context) error {
	switch {
	case h.closed:
		return priceboard.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case h.m.owner != nil && h.m.owner != h:
		return priceboard.ErrLocked
	}
	h.m.owner = h
	return nil
}
