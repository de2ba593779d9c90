package settlementpebble

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/settlement"
)

// Keys of the engine's state, in the namespace 's'. The values are JSON, which
// an operator can read, and a seal.
//
//	s 0       schema version
//	s s       the state
//	s f SEQ   a failure in the archive
const (
	stateNamespace = 's'
	stateSchema    = 1
)

var stateKey = []byte{stateNamespace, 's'}

func failureKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{stateNamespace, 'f'}, seq)
}

// Store is a settlement.Store. The database admits one process, so an epoch
// ends only when the engine is opened again in it.
type Store struct {
	db *DB

	mu    sync.Mutex // one writer at a time; guards what follows
	shut  bool
	epoch uint64           // the latest
	last  settlement.State // as it was written last
}

var _ settlement.Store = (*Store)(nil)

// NewStore opens the state in a database that the caller closes, after the
// store. Possible errors: settlement.ErrLocked when it has an open one,
// settlement.ErrSchema, settlement.ErrCorrupt, settlement.ErrClosed.
func NewStore(db *DB) (*Store, error) {
	if err := db.Claim(stateNamespace, stateSchema); err != nil {
		return nil, sentinels.Translate(err)
	}
	return &Store{db: db}, nil
}

// Close lets go of the database, in which another store may be opened then. It
// is idempotent, and leaves the database open.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shut {
		s.shut = true
		s.db.Release(stateNamespace)
	}
	return nil
}

// usable returns why the store may not be used.
func (s *Store) usable(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return settlement.ErrClosed
	}
	return ctx.Err()
}

// Acquire implements settlement.Store.
func (s *Store) Acquire(ctx context.Context) (settlement.State, error) {
	if err := ctx.Err(); err != nil {
		return settlement.State{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var state settlement.State
	if _, err := s.read(stateKey, &state); err != nil {
		return settlement.State{}, err
	}
	state.Epoch++
	last := s.epoch
	s.epoch = state.Epoch
	if err := s.write(state, nil, nil, s.db.Commit); err != nil {
		s.epoch = last
		return settlement.State{}, err
	}
	return state, nil
}

// Save implements settlement.Store.
func (s *Store) Save(ctx context.Context, state settlement.State, put []settlement.Failure, drop []uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(state, put, drop, s.db.Commit)
}

// Advance implements settlement.Store.
func (s *Store) Advance(ctx context.Context, state settlement.State) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == s.last {
		return nil
	}
	return s.write(state, nil, nil, s.db.CommitLazily)
}

// write commits one batch. s.mu is held.
func (s *Store) write(state settlement.State, put []settlement.Failure, drop []uint64, commit func(*pebble.Batch) error) error {
	if s.shut {
		return settlement.ErrClosed
	}
	if state.Epoch != s.epoch {
		return fmt.Errorf("%w: epoch %d, the latest is %d", settlement.ErrFenced, state.Epoch, s.epoch)
	}
	value, err := json.Marshal(&state)
	if err != nil {
		return fmt.Errorf("settlementpebble: %w", err)
	}
	b := s.db.Batch()
	set := func(key, value []byte) {
		b.Set(key, binary.BigEndian.AppendUint32(value[:len(value):len(value)], seal(key, value)), nil)
	}
	set(stateKey, value)
	for i := range put {
		f, err := json.Marshal(&put[i])
		if err != nil {
			return fmt.Errorf("settlementpebble: %w", err)
		}
		set(failureKey(put[i].Seq), f)
	}
	for _, seq := range drop {
		b.Delete(failureKey(seq), nil)
	}
	if err := commit(b); err != nil {
		return sentinels.Translate(err)
	}
	s.last = state
	return nil
}

// Failure implements settlement.Store.
func (s *Store) Failure(ctx context.Context, seq uint64) (settlement.Failure, error) {
	if err := s.usable(ctx); err != nil {
		return settlement.Failure{}, err
	}
	var f settlement.Failure
	found, err := s.read(failureKey(seq), &f)
	if err == nil && !found {
		err = settlement.ErrNotArchived
	}
	return f, err
}

// Failures implements settlement.Store.
func (s *Store) Failures(ctx context.Context) iter.Seq2[settlement.Failure, error] {
	return func(yield func(settlement.Failure, error) bool) {
		if err := s.usable(ctx); err != nil {
			yield(settlement.Failure{}, err)
			return
		}
		for p, err := range s.db.Scan([]byte{stateNamespace, 'f'}, []byte{stateNamespace, 'f' + 1}) {
			if err == nil {
				err = ctx.Err()
			}
			var f settlement.Failure
			if err == nil {
				err = decode(p.Key, p.Value, &f)
			}
			if err != nil {
				yield(settlement.Failure{}, sentinels.Translate(err))
				return
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}

func (s *Store) read(key []byte, into any) (found bool, err error) {
	found, err = s.db.Get(key, func(v []byte) error { return decode(key, v, into) })
	return found, sentinels.Translate(err)
}

func decode(key, sealed []byte, into any) error {
	value, err := unseal(key, sealed)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("%w: key %q: %w", settlement.ErrCorrupt, key, err)
	}
	return nil
}
