// Package couriertest has the conformance suite that every courier.Store must
// pass, and a store in memory that shows in few lines what they all do.
package couriertest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/computemarket/computemarket/courier"
)

// Model is a courier.Store and BundleIndex in memory, for tests. The zero Model
// is empty and ready. Nothing outlives the process.
type Model struct {
	mu       sync.Mutex
	receipts map[courier.ID]courier.Receipt
	damaged  map[courier.ID]damaged
	last     uint64
	note     []byte
}

// damaged is a receipt that nobody can read.
type damaged struct {
	was   courier.Receipt
	aside bool // somebody has met it
}

var (
	_ courier.Store       = (*Model)(nil)
	_ courier.Notebook    = (*Model)(nil)
	_ courier.BundleIndex = (*Model)(nil)
	_ Damageable          = (*Model)(nil)
)

// Append implements courier.Store.
func (m *Model) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	if err := r.Validate(); err != nil {
		return courier.Receipt{}, err
	}
	if err := ctx.Err(); err != nil {
		return courier.Receipt{}, err
	}
	r.SentAt = micros(r.SentAt)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, bad := m.damaged[r.ID]; bad {
		return courier.Receipt{}, fmt.Errorf("%w: receipt %v", courier.ErrCorrupt, r.ID)
	}
	if old, ok := m.receipts[r.ID]; ok {
		if !old.Same(r) {
			return old, fmt.Errorf("%w: %v", courier.ErrConflict, r.ID)
		}
		return old, nil
	}
	if m.receipts == nil {
		m.receipts = map[courier.ID]courier.Receipt{}
	}
	m.last++
	r.State, r.Seq, r.Since, r.Cause, r.Reason = courier.Pending, m.last, r.SentAt, 0, ""
	m.receipts[r.ID] = r
	return r, nil
}

// Get implements courier.Store.
func (m *Model) Get(ctx context.Context, id courier.ID) (courier.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return courier.Receipt{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.receipts[id]
	if _, bad := m.damaged[id]; bad {
		return courier.Receipt{}, fmt.Errorf("%w: receipt %v", courier.ErrCorrupt, id)
	}
	if !ok {
		return courier.Receipt{}, fmt.Errorf("%w: receipt %v", courier.ErrNotFound, id)
	}
	return r, nil
}

// List implements courier.Store.
func (m *Model) List(ctx context.Context, s courier.State, from uint64) iter.Seq2[courier.Receipt, error] {
	return func(yield func(courier.Receipt, error) bool) {
		if s < courier.Pending || s > courier.Dead {
			yield(courier.Receipt{}, fmt.Errorf("%w: no list of %v", courier.ErrInvalid, s))
			return
		}
		m.mu.Lock()
		all := slices.SortedFunc(maps.Values(m.receipts), func(a, b courier.Receipt) int { return cmp.Compare(a.Seq, b.Seq) })
		for id, d := range m.damaged {
			d.aside = d.aside || d.was.State == s && d.was.Seq >= from && ctx.Err() == nil
			m.damaged[id] = d
		}
		m.mu.Unlock()
		for _, r := range all {
			if r.State != s || r.Seq < from {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(courier.Receipt{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Move implements courier.Store.
func (m *Model) Move(ctx context.Context, moves []courier.Move) (applied int, err error) {
	for _, move := range moves {
		if err := move.Validate(); err != nil {
			return 0, err
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	moved := map[courier.ID]bool{}
	for _, move := range moves {
		r, ok := m.receipts[move.Receipt.ID]
		if !ok || moved[r.ID] || r.State != move.Receipt.State || r.Seq != move.Receipt.Seq {
			continue
		}
		moved[r.ID] = true
		applied++
		if move.To == courier.Gone {
			delete(m.receipts, r.ID)
			continue
		}
		r.State, r.Since, r.Cause, r.Reason = move.To, micros(move.At), 0, ""
		if move.To == courier.Dead {
			r.Cause, r.Reason = move.Cause, move.Reason
		}
		m.receipts[r.ID] = r
	}
	return applied, nil
}

// Count implements courier.Store.
func (m *Model) Count(ctx context.Context) (c courier.Counts, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.receipts {
		*listed(&c, r.State)++
	}
	for _, d := range m.damaged {
		if d.aside {
			c.Aside++
		} else {
			*listed(&c, d.was.State)++
		}
	}
	return c, ctx.Err()
}

// Note implements courier.Notebook.
func (m *Model) Note(ctx context.Context) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.note), m.last, ctx.Err()
}

// SetNote implements courier.Notebook.
func (m *Model) SetNote(ctx context.Context, note []byte) error {
	if len(note) > courier.MaxNote {
		return fmt.Errorf("%w: a note of %d bytes", courier.ErrInvalid, len(note))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note = bytes.Clone(note)
	return nil
}

func micros(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }

// Needs implements courier.BundleIndex.
func (m *Model) Needs(ctx context.Context, h courier.Hash) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.receipts {
		if r.Bundle == h && r.Carried && r.State != courier.Acknowledged {
			return true, nil
		}
	}
	for _, d := range m.damaged {
		if d.was.Bundle == h && d.was.Carried && d.was.State != courier.Acknowledged {
			return true, nil
		}
	}
	return false, ctx.Err()
}

// Damages implements [Damageable]: a Model knows one way.
func (m *Model) Damages() []string { return []string{"unreadable"} }

// Damage implements [Damageable]. The receipt can no longer be read by anybody.
func (m *Model) Damage(ctx context.Context, id courier.ID, _ string) error {
	r, err := m.Get(ctx, id)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.damaged == nil {
		m.damaged = map[courier.ID]damaged{}
	}
	m.damaged[id] = damaged{was: r}
	delete(m.receipts, id)
	return nil
}
