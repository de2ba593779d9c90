// Package courierpebble keeps a courier's receipts in Pebble.
//
// Appends and moves that come at once share one synced write. The lists are key
// ranges, walked by Pebble's iterators, so memory is constant whatever they
// hold. Equal bundles are found by an index of the receipts that need them.
package courierpebble

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/internal/group"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// groupLimit is how many receipts share one write at most.
const groupLimit = 1024

// Options of [Open] and [New].
type Options struct {
	// Logger hears of damage. Defaults to discarding.
	Logger *slog.Logger
	// Recount mends a head record that is damaged, by walking the lists: the
	// counts are those of what is there, and numbers go on far behind the last.
	// Without it, opening such a store is courier.ErrCorrupt. Set it when that
	// has happened; it does nothing for a sound store.
	Recount bool
	// DB are the options of the database that Open opens. New ignores them.
	DB *pebbledb.Options
}

// Store is a [courier.Store] and a [courier.BundleIndex]. [Open] or [New] makes it.
type Store struct {
	db     *kv.DB
	own    bool // Close closes db
	log    *slog.Logger
	closed atomic.Bool
	writes *group.Group[*write]
	head   head

	writing sync.Mutex // held by whoever leads a group; guards what follows
	meta    meta
	scratch scratch
}

var (
	_ courier.Store       = (*Store)(nil)
	_ courier.Notebook    = (*Store)(nil)
	_ courier.BundleIndex = (*Store)(nil)
)

// Open opens a store in a database of its own. Possible errors: courier's
// ErrLocked, ErrCorrupt and ErrSchema, and those of the file system.
func Open(dir string, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	db, err := pebbledb.Open(dir, o.DB)
	if err != nil {
		return nil, err
	}
	s, err := New(db, opts)
	if err != nil {
		db.Close()
		return nil, err
	}
	s.own = true
	return s, nil
}

// New returns the courier's store in a shared database, which the caller closes
// after it. A second open one in the same database is courier.ErrLocked, and no
// database is courier.ErrOptions. Other errors: those of Open, and
// courier.ErrPoisoned and ErrClosed of db.
func New(database *pebbledb.DB, opts *Options) (*Store, error) {
	db := (*kv.DB)(database)
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{db: db, log: o.Logger}
	if err := db.ClaimFrom(namespace, 1, schemaVersion, s.upgrade); err != nil {
		return nil, err
	}
	if err := s.load(o.Recount); err != nil {
		db.Release(namespace)
		return nil, err
	}
	s.head.last = s.meta.last
	s.writes = group.New(groupLimit, (*write).weight, s.run)
	return s, nil
}

// Close closes the store, and the database if it is the store's own. It is
// idempotent. Iterations in progress end with courier.ErrClosed; it may be called
// from within one.
func (s *Store) Close() error {
	if s.db == nil || s.closed.Swap(true) {
		return nil
	}
	s.writing.Lock() // the write in progress ends first
	s.db.Release(namespace)
	s.writing.Unlock()
	if !s.own {
		return nil
	}
	return s.db.Close()
}

func (s *Store) usable(ctx context.Context) error {
	if s.db == nil {
		return fmt.Errorf("%w: a zero Store; make it with Open or New", courier.ErrInvalid)
	}
	if s.closed.Load() {
		return courier.ErrClosed
	}
	return ctx.Err()
}

// Get implements [courier.Store].
func (s *Store) Get(ctx context.Context, id courier.ID) (courier.Receipt, error) {
	if err := s.usable(ctx); err != nil {
		return courier.Receipt{}, err
	}
	r, found, err := s.lookup(id)
	if err == nil && !found {
		err = fmt.Errorf("%w: receipt %v", courier.ErrNotFound, id)
	}
	return r, err
}

// lookup returns the receipt, in whatever list. A damaged one is ErrCorrupt.
func (s *Store) lookup(id courier.ID) (r courier.Receipt, found bool, err error) {
	for range 100 {
		seq, known, err := s.seq(id)
		if !known || err != nil {
			return r, false, err
		}
		r, found, err = s.find(seq)
		if err == nil && found && r.ID != id {
			err = fmt.Errorf("%w: the index has %v where %v is", courier.ErrCorrupt, id, r.ID)
		}
		if found || err != nil {
			return r, found, err
		}
		// It was moved from under the search.
	}
	return r, false, fmt.Errorf("%w: receipt %v points nowhere", courier.ErrCorrupt, id)
}

func (s *Store) seq(id courier.ID) (seq uint64, found bool, err error) {
	found, err = s.db.Get(idKey(id), func(v []byte) (err error) {
		seq, err = decodeSeq(v)
		return err
	})
	return seq, found, err
}

var lists = [...]courier.State{courier.Pending, courier.Acknowledged, courier.Dead}

// find looks for the record in each list, and then among those kept aside.
func (s *Store) find(seq uint64) (r courier.Receipt, found bool, err error) {
	for _, state := range lists {
		key := place{state, seq}.key()
		found, err = s.db.Get(key, func(v []byte) (err error) {
			r, err = decodeRecord(key, v)
			return err
		})
		if found || err != nil {
			return r, found, err
		}
	}
	for _, state := range lists {
		_, err := s.db.Get(asideKey(place{state, seq}.key()), func([]byte) error {
			return fmt.Errorf("%w: record %d was kept aside", courier.ErrCorrupt, seq)
		})
		if err != nil {
			return r, false, err
		}
	}
	return r, false, nil
}

// List implements [courier.Store]. A damaged record is no error: it is kept
// aside, see [Store.Damaged].
func (s *Store) List(ctx context.Context, state courier.State, from uint64) iter.Seq2[courier.Receipt, error] {
	return func(yield func(courier.Receipt, error) bool) {
		if err := s.usable(ctx); err != nil {
			yield(courier.Receipt{}, err)
			return
		}
		if !listed(state) {
			yield(courier.Receipt{}, fmt.Errorf("%w: no list of %v", courier.ErrInvalid, state))
			return
		}
		mark := s.head.mark()
		seek := state == courier.Pending && from <= mark.first
		if seek {
			from = mark.first
		}
		for pair, err := range s.db.Scan(place{state, from}.key(), place{state + 1, 0}.key()) {
			var r courier.Receipt
			if err == nil {
				err = s.usable(ctx)
			}
			if err == nil {
				var damage error
				if r, damage = decodeRecord(pair.Key, pair.Value); damage != nil {
					if err = s.setAside(ctx, pair, damage); err == nil {
						continue
					}
				}
			}
			if err != nil {
				yield(courier.Receipt{}, err)
				return
			}
			if seek {
				seek = false
				s.head.found(mark, r.Seq)
			}
			if !yield(r, nil) {
				return
			}
		}
		if seek {
			s.head.found(mark, mark.last+1)
		}
	}
}

// Count implements [courier.Store].
func (s *Store) Count(ctx context.Context) (courier.Counts, error) {
	if err := s.usable(ctx); err != nil {
		return courier.Counts{}, err
	}
	var m meta
	_, err := s.db.Get(metaKey, m.decode)
	return m.counts, err
}

// Note implements [courier.Notebook].
func (s *Store) Note(ctx context.Context) (note []byte, last uint64, err error) {
	if err := s.usable(ctx); err != nil {
		return nil, 0, err
	}
	var m meta
	if _, err := s.db.Get(metaKey, m.decode); err != nil {
		return nil, 0, err
	}
	_, err = s.db.Get(noteKey, func(v []byte) error {
		note = bytes.Clone(v)
		return nil
	})
	return note, m.last, err
}

// SetNote implements [courier.Notebook].
func (s *Store) SetNote(ctx context.Context, note []byte) error {
	if len(note) > courier.MaxNote {
		return fmt.Errorf("%w: a note of %d bytes", courier.ErrInvalid, len(note))
	}
	w := &write{note: append([]byte{}, note...)}
	if err := s.do(ctx, w); err != nil {
		return err
	}
	return w.err
}

// Needs implements [courier.BundleIndex].
func (s *Store) Needs(ctx context.Context, h courier.Hash) (bool, error) {
	if err := s.usable(ctx); err != nil {
		return false, err
	}
	key := bundleKey(h)
	for _, err := range s.db.Scan(key, after(key)) {
		return err == nil, err
	}
	return false, nil
}
