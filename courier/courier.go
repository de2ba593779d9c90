package courier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// moveGroup is how many receipts Prune, Requeue and Discard move in one write.
const moveGroup = 256

// Courier takes bundles in and forwards them. It starts no goroutine and holds
// nothing to close. All methods are safe for concurrent use. Only one Courier
// may use a store at a time.
type Courier struct {
	store Store
	opts  Options
	index BundleIndex // nil if no bundles are carried
	pins  pins

	mu      sync.Mutex
	claimed map[uint64]struct{} // Seqs, by a flush in progress
	flushes map[*flush]struct{}
	resume  atomic.Uint64 // where the next flush begins: the last stopped early there
}

// New returns a Courier over a store. opts may be nil. The error is ErrInvalid.
func New(s Store, opts *Options) (*Courier, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, fmt.Errorf("%w: no store", ErrInvalid)
	}
	c := &Courier{store: s, opts: o, claimed: map[uint64]struct{}{}, flushes: map[*flush]struct{}{}}
	if o.Bundles != nil {
		var ok bool
		if c.index, ok = s.(BundleIndex); !ok {
			return nil, fmt.Errorf("%w: the store has no BundleIndex, so it cannot serve Bundles", ErrInvalid)
		}
	}
	return c, nil
}

// Send reads bundle to its end and stores a receipt for it under a random ID.
// When it returns a nil error, the receipt, and the bundle where bundles are
// carried, are durable. The sender is any UTF-8 of 1 to [MaxSender] bytes.
//
// Possible errors: [ErrInvalid], [ErrTooLarge], those of the [Store] and of
// bundle, and the context's. ctx is looked at between reads: bundle must not
// block for ever. After an error nothing is there, except that after
// [ErrPoisoned] the receipt may show when the store is opened again; SendAs
// resolves that.
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
func (c *Courier) SendAs(ctx context.Context, id ID, bundle io.Reader, sender string) (Receipt, error) {
	r := Receipt{ID: id, Sender: sender}
	if err := r.Validate(); err != nil {
		return Receipt{}, err
	}
	return c.take(ctx, r, bundle, nil)
}

// take stores bundle and then r with the bundle's hash and size, unless check
// objects to them.
func (c *Courier) take(ctx context.Context, r Receipt, bundle io.Reader, check func(Receipt) error) (Receipt, error) {
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
		return c.append(ctx, r)
	}
	r.Carried = true
	// Held, the bundle cannot go when an older receipt of it is acknowledged.
	c.pins.hold(r.Bundle)
	if err := w.Commit(r.Bundle); err != nil {
		c.pins.drop(r.Bundle)
		return Receipt{}, err
	}
	stored, err := c.append(ctx, r)
	c.pins.drop(r.Bundle)
	if err != nil || stored.State == Acknowledged {
		c.release(ctx, r.Bundle) // if nobody else needs it
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
func (c *Courier) Get(ctx context.Context, id ID) (Receipt, error) {
	return c.store.Get(ctx, id)
}

// List yields the receipts in a state in the order of sending, as they stood
// when the iteration began. The first error ends it.
func (c *Courier) List(ctx context.Context, s State) iter.Seq2[Receipt, error] {
	return c.store.List(ctx, s, 0)
}

// Count returns how many receipts are in which state.
func (c *Courier) Count(ctx context.Context) (Counts, error) { return c.store.Count(ctx) }

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

func (c *Courier) moveDead(ctx context.Context, ids []ID, to State) (int, error) {
	m := mover{c: c, to: to, at: micros(c.opts.Clock.Now())}
	for _, id := range ids {
		r, err := c.store.Get(ctx, id)
		if errors.Is(err, ErrNotFound) || err == nil && r.State != Dead {
			continue
		}
		if err == nil {
			err = m.add(ctx, r)
		}
		if err != nil {
			return m.moved, err
		}
	}
	err := m.flush(ctx)
	return m.moved, err
}

// Prune deletes the receipts acknowledged longer than age ago and returns how
// many those were, then removes bundles that a crash left without a receipt. It
// needs constant memory. A later SendAs with a pruned ID is a new one.
func (c *Courier) Prune(ctx context.Context, age time.Duration) (int, error) {
	now := micros(c.opts.Clock.Now())
	m := mover{c: c, to: Gone, at: now}
	for r, err := range c.store.List(ctx, Acknowledged, 0) {
		if err == nil && now.Sub(r.Since) > age { // each one, as the clock may have jumped
			err = m.add(ctx, r)
		}
		if err != nil {
			return m.moved, err
		}
	}
	if err := m.flush(ctx); err != nil || c.opts.Bundles == nil {
		return m.moved, err
	}
	for h, err := range c.opts.Bundles.All(ctx) {
		if err == nil {
			err = c.release(ctx, h)
		}
		if err != nil {
			return m.moved, err
		}
	}
	return m.moved, nil
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
