package courier

import (
	"context"
	"errors"
	"time"
)

// moveGroup is how many receipts Prune, Requeue and Discard move in one write.
const moveGroup = 256

// Requeue makes dead receipts pending again and returns how many it did. IDs
// that are not those of dead receipts are passed over. An expired receipt will
// expire again unless the lifetime is longer by then.
func (c *Courier) Requeue(ctx context.Context, ids ...ID) (int, error) {
	return c.moveDead(ctx, ids, Pending)
}

// Discard deletes dead receipts, with their bundles, and returns how many it
// did. IDs that are not those of dead receipts are passed over.
func (c *Courier) Discard(ctx context.Context, ids ...ID) (int, error) {
	return c.moveDead(ctx, ids, Gone)
}

func (c *Courier) moveDead(ctx context.Context, ids []ID, to State) (moved int, err error) {
	m := mover{c: c, to: to}
	err = c.guard("Requeue or Discard", func() error { return m.dead(ctx, ids) })
	return m.moved, err
}

func (m *mover) dead(ctx context.Context, ids []ID) error {
	c := m.c
	m.at = micros(c.opts.Clock.Now())
	for _, id := range ids {
		r, err := c.store.Get(ctx, id)
		if errors.Is(err, ErrNotFound) || err == nil && r.State != Dead {
			continue
		}
		if err == nil {
			err = m.add(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	return m.flush(ctx)
}

// Prune deletes the receipts acknowledged longer than age ago, by the Clock, and
// returns how many those were, then removes bundles that a crash left without a
// receipt. It needs constant memory. A later SendAs with a pruned ID is a new
// one.
func (c *Courier) Prune(ctx context.Context, age time.Duration) (pruned int, err error) {
	m := mover{c: c, to: Gone}
	err = c.guard("Prune", func() error {
		if err := m.old(ctx, age); err != nil || c.opts.Bundles == nil {
			return err
		}
		return c.sweep(ctx)
	})
	return m.moved, err
}

func (m *mover) old(ctx context.Context, age time.Duration) error {
	m.at = micros(m.c.opts.Clock.Now())
	for r, err := range m.c.store.List(ctx, Acknowledged, 0) {
		if err == nil && m.at.Sub(r.Since) > age { // each one, as the clock may have jumped
			err = m.add(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	return m.flush(ctx)
}

// sweep removes the bundles that no receipt needs, nor one that may still arrive.
func (c *Courier) sweep(ctx context.Context) error {
	if err := c.resolveDoubts(ctx); err != nil {
		return err
	}
	for h, err := range c.opts.Bundles.All(ctx) {
		if err == nil {
			err = c.release(ctx, h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mover moves receipts in groups.
type mover struct {
	c     *Courier
	to    State
	at    time.Time
	moves []Move
	moved int
}

func (m *mover) add(ctx context.Context, r Receipt) error {
	m.moves = append(m.moves, Move{Receipt: r, To: m.to, At: m.at})
	if len(m.moves) < moveGroup {
		return nil
	}
	return m.flush(ctx)
}

func (m *mover) flush(ctx context.Context) error {
	if len(m.moves) == 0 {
		return nil
	}
	n, err := m.c.store.Move(ctx, m.moves)
	m.moved += n
	if err == nil && m.to == Gone && m.c.index != nil {
		for _, move := range m.moves {
			err = errors.Join(err, m.c.release(ctx, move.Receipt.Bundle))
		}
	}
	m.moves = m.moves[:0]
	return err
}
