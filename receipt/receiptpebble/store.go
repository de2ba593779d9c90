// Package receiptpebble keeps the log of receipts on disk, in Pebble.
//
//	store, err := receiptpebble.Open("data/receipts", nil)
//
// opens a database of its own. Stores that settle together can share one, and
// then share its fsyncs too:
//
//	db, err := pebbledb.Open("data", nil)
//	receipts, err := receiptpebble.New(db, nil)
//	ledger, err := settlementpebble.NewLedger(db, nil)
//
// Callers that append at the same time are committed together, with one fsync.
// After a failed write every call returns receipt.ErrPoisoned until the store is
// opened again.
package receiptpebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"

	"github.com/computemarket/computemarket/internal/bloom"
	"github.com/computemarket/computemarket/internal/group"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// Options of [Open] and [New]. The zero value and nil are ready to use.
type Options struct {
	// Logger hears of damage. Defaults to discarding.
	Logger *slog.Logger
	// Metrics counts damage. Defaults to none.
	Metrics receipt.Metrics
	// CheckLater leaves the check of what is stored to the caller, who runs
	// Store.Check in a goroutine: opening a store of many millions then takes no
	// longer than opening a small one, and appends are slower until it is done.
	// Defaults to checking before Open returns.
	CheckLater bool
	// DB is passed on by Open. Defaults to the defaults of pebbledb.Options.
	DB *pebbledb.Options
}

// Store is a receipt.Store. It is safe for concurrent use. [Open] or [New] makes
// it.
type Store struct {
	db      *kv.DB
	owned   bool
	log     *slog.Logger
	metrics receipt.Metrics
	appends *group.Group[*request]
	first   uint64 // the next sequence number when the store was opened
	closed  atomic.Bool

	stored atomic.Pointer[bloom.Filter] // the keys found on opening; nil until checked

	writing sync.Mutex          // one writer at a time; guards what follows
	next    uint64              // the next sequence number
	recent  bloom.Filter        // the keys that came since the store was opened
	entries []entry             // of the commit in progress
	pending map[receipt.Key]int // where a key stands in entries

	telling sync.Mutex
	told    map[damage]bool // what was counted; guarded by telling
}

var _ receipt.Store = (*Store)(nil)

// Open opens the store in dir with a database of its own, which Close closes.
// opts may be nil. Possible errors: receipt.ErrLocked, receipt.ErrCorrupt,
// receipt.ErrSchema, receipt.ErrOptions, and those of the file system. A damaged
// receipt is no error: see [Store.Check].
func Open(dir string, opts *Options) (*Store, error) {
	var dbo *pebbledb.Options
	if opts != nil {
		dbo = opts.DB
	}
	db, err := pebbledb.Open(dir, dbo)
	if err != nil {
		return nil, err
	}
	s, err := New(db, opts)
	if err != nil {
		db.Close()
		return nil, err
	}
	s.owned = true
	return s, nil
}

// New opens the store in a database that the caller closes, after the store. A
// second open store of receipts in it is receipt.ErrLocked, no database is
// receipt.ErrOptions. Other errors as of [Open].
func New(database *pebbledb.DB, opts *Options) (*Store, error) {
	db := (*kv.DB)(database)
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		db: db, log: o.Logger, metrics: o.Metrics,
		pending: map[receipt.Key]int{}, told: map[damage]bool{},
	}
	s.appends = group.New(maxGroup, (*request).weight, s.commit)
	if err := db.Claim(namespace, schema); err != nil {
		return nil, err
	}
	if err := s.load(o.CheckLater); err != nil {
		db.Release(namespace)
		return nil, err
	}
	return s, nil
}

// load finds the next number, and what is known to be damaged.
func (s *Store) load(checkLater bool) error {
	last, err := s.mark()
	if err != nil {
		return err
	}
	for _, space := range []byte{spaceLog, spaceAside} {
		p, ok, err := s.db.Last(bounds(space))
		if err != nil {
			return err
		}
		if ok {
			last = max(last, seqOf(p.Key))
		}
	}
	if last == math.MaxUint64 {
		return fmt.Errorf("%w: no number is left", receipt.ErrCorrupt)
	}
	s.first = last + 1
	s.next = s.first
	aside, err := s.asideNumbers()
	if err != nil {
		return err
	}
	for seq := range aside {
		s.tell(damage{seq: seq}, "damaged receipt was kept aside", "seq", seq)
	}
	if checkLater {
		return nil
	}
	return s.Check(context.Background())
}

// mark returns the last number that was given, as far as the mark tells.
func (s *Store) mark() (last uint64, err error) {
	var damaged error
	_, err = s.db.Get(markKey, func(v []byte) error {
		last, damaged = decodeMark(v)
		return nil
	})
	if damaged != nil { // the next append writes it anew
		s.tell(damage{mark: true}, "damaged mark", "err", damaged)
	}
	return last, err
}

// Close closes the store, and the database if Open made it. It is idempotent.
// Iterations in progress end with receipt.ErrClosed; it may be called from
// within one.
func (s *Store) Close() error {
	if s.db == nil || s.closed.Swap(true) {
		return nil
	}
	s.writing.Lock() // the append in progress ends first
	s.db.Release(namespace)
	s.writing.Unlock() // a reader that meets damage must not wait for Close
	if !s.owned {
		return nil
	}
	return s.db.Close()
}

// usable returns why the store may not be used.
func (s *Store) usable() error {
	if s.db == nil {
		return fmt.Errorf("%w: a zero Store; make it with Open or New", receipt.ErrOptions)
	}
	if s.closed.Load() {
		return receipt.ErrClosed
	}
	return s.db.Err()
}

// Get implements receipt.Store.
func (s *Store) Get(ctx context.Context, key receipt.Key) (receipt.Record, error) {
	if err := ctx.Err(); err != nil {
		return receipt.Record{}, err
	}
	if err := s.usable(); err != nil {
		return receipt.Record{}, err
	}
	rec, found, err := s.lookup(&key)
	switch {
	case errors.Is(err, receipt.ErrCorrupt):
		s.meet(&key) // an error says no more than err
	case err == nil && !found:
		err = receipt.ErrNotFound
	}
	return rec, err
}

// lookup returns the record with the key. A damaged one is found, with
// receipt.ErrCorrupt. The index is not trusted: only a receipt with the key is an
// answer.
func (s *Store) lookup(key *receipt.Key) (rec receipt.Record, found bool, err error) {
	for last := uint64(0); ; last = rec.Seq {
		found, err := s.db.Get(appendIndex(nil, key), func(v []byte) error {
			if len(v) != 8 {
				return kv.ErrCorrupt
			}
			rec.Seq = binary.BigEndian.Uint64(v)
			return nil
		})
		if err != nil || !found {
			return receipt.Record{}, found, err
		}
		there, err := s.db.Get(appendNumbered(nil, spaceLog, rec.Seq), rec.UnmarshalBinary)
		switch {
		case err != nil:
			return receipt.Record{}, true, err
		case there && rec.Key == *key:
			return rec, true, nil
		case there || rec.Seq == last:
			return receipt.Record{}, true, fmt.Errorf("%w: %s, number %d", receipt.ErrCorrupt, key, rec.Seq)
		}
		// Promoted between the two reads: it has moved on to a later number.
	}
}

// After implements receipt.Store.
func (s *Store) After(ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error] {
	return func(yield func(receipt.Record, error) bool) {
		if err := s.usable(); err != nil {
			yield(receipt.Record{}, err)
			return
		}
		if seq == math.MaxUint64 {
			return
		}
		_, hi := bounds(spaceLog)
		for p, err := range s.db.Scan(appendNumbered(nil, spaceLog, seq+1), hi) {
			if err == nil {
				err = s.going(ctx)
			}
			if err != nil {
				yield(receipt.Record{}, err)
				return
			}
			rec := receipt.Record{Seq: seqOf(p.Key)}
			if rec.Seq == 0 {
				s.tell(damage{}, "malformed key in the log", "key", fmt.Sprintf("%x", p.Key))
				continue
			}
			if damage := rec.UnmarshalBinary(p.Value); damage != nil {
				if err := s.setAside(rec.Seq, damage); err != nil {
					yield(receipt.Record{}, err)
					return
				}
				continue
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}

// going returns why an iteration ends before its end.
func (s *Store) going(ctx context.Context) error {
	if s.closed.Load() {
		return receipt.ErrClosed
	}
	return ctx.Err()
}
