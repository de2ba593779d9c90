// Package marketpebble keeps a market's orders on disk, in Pebble, beside the log
// of receipts.
//
//	db, err := pebbledb.Open("data", nil)
//	receipts, err := receiptpebble.New(db, nil)
//	orders, err := marketpebble.New(db, receipts, nil)
//
// Both lie in one database, and a receipt and what it did to its orders are one
// write with one fsync. After a failed write every call returns
// market.ErrPoisoned until the database is opened again.
package marketpebble

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/internal/bloom"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/market"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/workload"
)

// Options of [New]. The zero value and nil are ready to use.
type Options struct {
	// Name is what the holder of a lease begins with, for operators: a host, for
	// example. Defaults to none.
	Name string
	// Logger hears of damage. Defaults to discarding.
	Logger *slog.Logger
	// Corrupt is told of each damaged order that is found, once while the store is
	// open. Defaults to none.
	Corrupt func()
}

// Store is a market.Store. It is safe for concurrent use. [New] makes it.
type Store struct {
	db     *kv.DB
	log    *receiptpebble.Store
	opts   Options
	closed atomic.Bool

	writing sync.Mutex // one write at a time; guards what follows
	lease   settlement.Lease
	ids     bloom.Filter    // of all orders: most ids that come are new, and need no look at the disk
	open    map[uint64]bool // Seqs of the orders that are open

	telling sync.Mutex
	told    map[uint64]bool // damaged orders that were told of; guarded by telling
}

var _ market.Store = (*Store)(nil)

// New opens the store in the database that has the log of receipts; the caller
// closes it, after the store. opts may be nil. Possible errors: market.ErrOptions,
// one of them is nil; market.ErrLocked, it has an open one; market.ErrSchema,
// market.ErrCorrupt, market.ErrPoisoned, market.ErrClosed. A damaged order is no
// error.
func New(db *pebbledb.DB, receipts *receiptpebble.Store, opts *Options) (*Store, error) {
	s := &Store{db: (*kv.DB)(db), log: receipts, told: map[uint64]bool{}, open: map[uint64]bool{}}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Logger == nil {
		s.opts.Logger = slog.New(slog.DiscardHandler)
	}
	if receipts == nil {
		return nil, fmt.Errorf("marketpebble: %w: no log of receipts", market.ErrOptions)
	}
	if err := s.db.Claim(namespace, schema); err != nil {
		return nil, fmt.Errorf("marketpebble: %w", err)
	}
	if err := s.load(); err != nil {
		s.db.Release(namespace)
		return nil, fmt.Errorf("marketpebble: %w", err)
	}
	return s, nil
}

// load reads the ids of all orders, and which are open.
func (s *Store) load() error {
	for p, err := range s.db.Scan([]byte{namespace, spaceIndex}, []byte{namespace, spaceIndex + 1}) {
		if err != nil {
			return err
		}
		s.remember(string(p.Key[2:]))
	}
	for p, err := range s.db.Scan([]byte{namespace, spaceOpen}, []byte{namespace, spaceOpen + 1}) {
		if err != nil {
			return err
		}
		s.open[seqOf(p.Key, 2)] = true
	}
	return nil
}

func (s *Store) remember(id string) {
	h := workload.Sum([]byte(id))
	s.ids.Add((*[32]byte)(&h))
}

func (s *Store) mayHave(id string) bool {
	h := workload.Sum([]byte(id))
	return s.ids.Has((*[32]byte)(&h))
}

// Close lets go of the database, in which another store may be opened then. It is
// idempotent. Iterations in progress end with market.ErrClosed at their next step.
func (s *Store) Close() error {
	if s.db == nil || s.closed.Swap(true) {
		return nil
	}
	s.writing.Lock() // the write in progress ends first
	defer s.writing.Unlock()
	s.db.Release(namespace)
	return nil
}

// usable returns why the store may not be used.
func (s *Store) usable(ctx context.Context) error {
	switch {
	case s.db == nil:
		return fmt.Errorf("marketpebble: %w: the zero Store; see New", market.ErrOptions)
	case ctx.Err() != nil:
		return ctx.Err()
	case s.closed.Load():
		return market.ErrClosed
	}
	return s.db.Err()
}

// Acquire implements market.Store.
func (s *Store) Acquire(ctx context.Context) (settlement.Lease, error) {
	if err := s.usable(ctx); err != nil {
		return settlement.Lease{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.usable(ctx); err != nil {
		return settlement.Lease{}, err
	}
	epoch := uint64(0)
	_, err := s.get(leaseKey, func(v []byte) error {
		if len(v) < 8 {
			return fmt.Errorf("%w: the lease", market.ErrCorrupt)
		}
		epoch = binary.BigEndian.Uint64(v)
		return nil
	})
	if err != nil {
		return settlement.Lease{}, err
	}
	lease := settlement.Lease{Epoch: epoch + 1, Holder: rand.Text()}
	if s.opts.Name != "" {
		lease.Holder = s.opts.Name + " " + lease.Holder
	}
	b := s.db.Batch()
	put(b, leaseKey, append(binary.BigEndian.AppendUint64(nil, lease.Epoch), lease.Holder...))
	if err := s.db.Commit(b); err != nil {
		return settlement.Lease{}, err
	}
	s.lease = lease
	return lease, nil
}

// put puts a sealed value into b.
func put(b *pebble.Batch, key, value []byte) {
	b.Set(key, binary.BigEndian.AppendUint32(value, kv.Seal(key, value)), nil)
}

// get calls use with the value of key, if there is one.
func (s *Store) get(key []byte, use func(v []byte) error) (found bool, err error) {
	return s.db.Get(key, func(sealed []byte) error {
		v, err := kv.Unseal(key, sealed)
		if err != nil {
			return err
		}
		return use(v)
	})
}

// Write implements market.Store.
func (s *Store) Write(ctx context.Context, lease settlement.Lease, b *market.Batch) (market.Written, error) {
	if err := s.usable(ctx); err != nil {
		return market.Written{}, err
	}
	if err := b.Validate(); err != nil {
		return market.Written{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.usable(ctx); err != nil {
		return market.Written{}, err
	}
	if err := lease.Check(s.lease); err != nil {
		return market.Written{}, err
	}
	var w market.Written
	put := func(batch *pebble.Batch) (err error) {
		w.Existing, err = s.write(ctx, batch, b)
		return err
	}
	written := func() (market.Written, error) {
		s.written(b, w.Existing)
		return w, nil
	}
	if len(b.Receipts) > 0 {
		statuses, err := s.log.AppendWith(ctx, b.Receipts, func(batch *pebble.Batch, _ []receipt.Status) error { return put(batch) })
		if err != nil {
			return market.Written{Appended: statuses}, err
		}
		w.Appended = statuses
		return written()
	}
	batch := s.db.Batch()
	if err := put(batch); err != nil {
		batch.Close()
		return market.Written{}, err
	}
	if batch.Empty() {
		return w, batch.Close()
	}
	if err := s.db.Commit(batch); err != nil {
		return market.Written{}, err
	}
	return written()
}

// written keeps in memory what a batch has changed of it.
func (s *Store) written(b *market.Batch, existing []*market.Order) {
	for i := range b.Orders {
		if existing == nil || existing[i] == nil {
			s.remember(b.Orders[i].ID)
			s.open[b.Orders[i].Seq] = true
		}
	}
	for i := range b.Updates {
		if u := &b.Updates[i]; u.State.Over() {
			delete(s.open, u.Seq)
		}
	}
}

// write puts all of b but its receipts into batch. s.writing is held.
func (s *Store) write(ctx context.Context, batch *pebble.Batch, b *market.Batch) (existing []*market.Order, err error) {
	fresh := make(map[uint64]bool, len(b.Orders)) // by Seq, whether it was written
	for i := range b.Orders {
		old, err := s.add(ctx, batch, &b.Orders[i])
		if err != nil {
			return nil, err
		}
		fresh[b.Orders[i].Seq] = old == nil
		if old != nil {
			if existing == nil {
				existing = make([]*market.Order, len(b.Orders))
			}
			existing[i] = old
		}
	}
	for i := range b.Updates {
		written, isNew := fresh[b.Updates[i].Seq]
		if isNew && !written {
			continue // its ID was used before
		}
		if err := s.update(batch, &b.Updates[i], isNew); err != nil {
			return nil, err
		}
	}
	for i := range b.Assign {
		put(batch, assignmentKey(b.Assign[i].ID), b.Assign[i].Append(nil))
	}
	for _, id := range b.Unassign {
		batch.Delete(assignmentKey(id), nil)
	}
	return existing, nil
}

// add puts a new order into batch, unless its ID is there; it returns the one that
// is, unless that is the same.
func (s *Store) add(ctx context.Context, batch *pebble.Batch, n *market.NewOrder) (*market.Order, error) {
	old, err := market.Order{}, error(market.ErrNotFound)
	if s.mayHave(n.ID) {
		old, err = s.byID(ctx, n.ID)
	}
	if err == nil {
		if old.Seq == n.Seq && old.Asked == n.Asked {
			return nil, nil
		}
		return &old, nil
	}
	if errors.Is(err, market.ErrCorrupt) {
		return &market.Order{ID: n.ID}, nil
	}
	if !isNotFound(err) {
		return nil, err
	}
	put(batch, indexKey(n.ID), binary.BigEndian.AppendUint64(nil, n.Seq))
	put(batch, accountKey(n.Account, n.Seq), nil)
	put(batch, seqKey(spaceOpen, n.Seq), nil)
	put(batch, seqKey(spaceTerms, n.Seq), n.AppendTerms(nil))
	put(batch, seqKey(spaceProgress, n.Seq), n.Progress.AppendHead(nil))
	for i, data := range n.Inline {
		if data != nil {
			key := sliceKey(spaceContent, n.Seq, i)
			batch.Set(key, kv.Sealed(key, data), nil)
		}
	}
	return nil, nil
}

// update puts the progress of an order into batch. isNew says that the order came
// in this batch.
func (s *Store) update(batch *pebble.Batch, u *market.Update, isNew bool) error {
	key := seqKey(spaceProgress, u.Seq)
	there := isNew || s.open[u.Seq]
	if !there {
		var err error
		if there, err = s.db.Get(key, func([]byte) error { return nil }); err != nil {
			return err
		}
	}
	if !there {
		return fmt.Errorf("%w: an update of order %d, which is not there", market.ErrInvalid, u.Seq)
	}
	put(batch, key, u.Progress.AppendHead(nil))
	if u.State.Over() {
		batch.Delete(seqKey(spaceOpen, u.Seq), nil)
	}
	for i := range u.Outcomes {
		o := &u.Outcomes[i]
		put(batch, sliceKey(spaceOutcome, u.Seq, o.Slice), o.Append(nil))
		batch.Delete(sliceKey(spaceContent, u.Seq, o.Slice), nil)
	}
	return nil
}
