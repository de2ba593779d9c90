package settlementpebble

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// Keys of the engine's state, in the namespace 's'. The values are JSON, which
// an operator can read, and a seal.
//
//	s 0       schema version
//	s s       the lease and the state
//	s f SEQ   a failure in the archive
//
// Version 1 had no holder, and the fields of the state beside the epoch.
const (
	stateNamespace = 's'
	stateSchema    = 2
)

var stateKey = []byte{stateNamespace, 's'}

func failureKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{stateNamespace, 'f'}, seq)
}

// stateRecord is the value under stateKey.
type stateRecord struct {
	Epoch  uint64          `json:"epoch"`
	Holder string          `json:"holder"` // empty when the lease was given up
	State  json.RawMessage `json:"state"`
}

// Store is a settlement.Store. Its leases have no term: the database admits one
// process, and the engine of it that acquired last is the one that leads. The
// ledger in the same database compares them.
type Store struct {
	db    *kv.DB
	fence *fence
	name  string

	mu   sync.Mutex // one writer at a time, inside of fence; guards what follows
	shut bool
	last settlement.State // as it was written last
}

var _ settlement.Store = (*Store)(nil)

// StoreOptions of [NewStore]. The zero value and nil are ready to use.
type StoreOptions struct {
	// Name is what the holder of a lease begins with, for operators: a host, for
	// example. Defaults to none.
	Name string
}

// NewStore opens the state in a database that the caller closes, after the
// store. opts may be nil. Possible errors: settlement.ErrOptions when db is nil,
// settlement.ErrLocked when it has an open one, settlement.ErrSchema,
// settlement.ErrCorrupt, settlement.ErrClosed.
func NewStore(db *pebbledb.DB, opts *StoreOptions) (*Store, error) {
	var o StoreOptions
	if opts != nil {
		o = *opts
	}
	s := &Store{db: (*kv.DB)(db), name: o.Name}
	s.fence = fenceOf(s.db)
	if err := s.db.ClaimFrom(stateNamespace, 1, stateSchema, s.upgrade); err != nil {
		return nil, err
	}
	return s, nil
}

// upgrade brings the state from version 1.
func (s *Store) upgrade(_ uint16, b *pebble.Batch) error {
	var old struct {
		Epoch uint64 `json:"epoch"`
	}
	var fields map[string]json.RawMessage
	found, err := s.read(stateKey, &old)
	if found && err == nil {
		_, err = s.read(stateKey, &fields)
	}
	if !found || err != nil {
		return err
	}
	delete(fields, "epoch")
	state, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if _, err := settlement.DecodeState(state); err != nil {
		return err
	}
	return setJSON(b, stateKey, stateRecord{Epoch: old.Epoch, State: state})
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
	if s.db == nil {
		return errZeroStore
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return settlement.ErrClosed
	}
	return ctx.Err()
}

// Load implements settlement.Store. It names the holder only while an engine of
// this process leads.
func (s *Store) Load(ctx context.Context) (settlement.Lease, settlement.State, error) {
	if err := s.usable(ctx); err != nil {
		return settlement.Lease{}, settlement.State{}, err
	}
	s.fence.mu.RLock()
	defer s.fence.mu.RUnlock()
	_, state, err := s.load()
	return s.fence.latest, state, err
}

func (s *Store) load() (epoch uint64, state settlement.State, err error) {
	var r stateRecord
	found, err := s.read(stateKey, &r)
	if found && err == nil {
		state, err = settlement.DecodeState(r.State)
	}
	return r.Epoch, state, err
}

// Acquire implements settlement.Store. It waits for what is being posted under
// the lease before.
func (s *Store) Acquire(ctx context.Context) (settlement.Lease, settlement.State, error) {
	if err := s.usable(ctx); err != nil {
		return settlement.Lease{}, settlement.State{}, err
	}
	s.fence.mu.Lock()
	defer s.fence.mu.Unlock()
	epoch, state, err := s.load()
	if err != nil {
		return settlement.Lease{}, settlement.State{}, err
	}
	lease := settlement.Lease{Epoch: epoch + 1, Holder: s.holder()}
	if err := s.write(lease, settlement.Change{State: state}, s.db.Commit); err != nil {
		return settlement.Lease{}, settlement.State{}, err
	}
	s.fence.take(lease)
	return lease, state, nil
}

// holder makes a name that no other lease has.
func (s *Store) holder() string {
	if s.name == "" {
		return rand.Text()
	}
	return s.name + " " + rand.Text()
}

// Save implements settlement.Store.
func (s *Store) Save(ctx context.Context, lease settlement.Lease, c settlement.Change) error {
	return s.under(ctx, lease, func() error { return s.write(lease, c, s.db.Commit) })
}

// Advance implements settlement.Store.
func (s *Store) Advance(ctx context.Context, lease settlement.Lease, state settlement.State) error {
	return s.under(ctx, lease, func() error {
		s.mu.Lock()
		same := state == s.last && !s.shut
		s.mu.Unlock()
		if same {
			return s.db.Err()
		}
		return s.write(lease, settlement.Change{State: state}, s.db.CommitLazily)
	})
}

// Release implements settlement.Store.
func (s *Store) Release(ctx context.Context, lease settlement.Lease, state settlement.State) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	s.fence.mu.Lock()
	defer s.fence.mu.Unlock()
	if err := lease.Check(s.fence.latest); err != nil {
		return err
	}
	if err := s.write(settlement.Lease{Epoch: lease.Epoch}, settlement.Change{State: state}, s.db.Commit); err != nil {
		return err
	}
	s.fence.latest = settlement.Lease{}
	return nil
}

// under calls write if lease is the latest, and keeps it so meanwhile.
func (s *Store) under(ctx context.Context, lease settlement.Lease, write func() error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	s.fence.mu.RLock()
	defer s.fence.mu.RUnlock()
	if err := lease.Check(s.fence.latest); err != nil {
		return err
	}
	return write()
}

var errZeroStore = fmt.Errorf("%w: the zero Store; see NewStore", settlement.ErrOptions)

// write commits one batch. The fence is held.
func (s *Store) write(lease settlement.Lease, c settlement.Change, commit func(*pebble.Batch) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return settlement.ErrClosed
	}
	state, err := json.Marshal(c.State)
	if err != nil {
		return fmt.Errorf("settlementpebble: %w", err)
	}
	b := s.db.Batch()
	err = setJSON(b, stateKey, stateRecord{lease.Epoch, lease.Holder, state})
	for i := range c.Put {
		err = errors.Join(err, setJSON(b, failureKey(c.Put[i].Seq), &c.Put[i]))
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	for _, seq := range c.Drop {
		b.Delete(failureKey(seq), nil)
	}
	if err := commit(b); err != nil {
		return err
	}
	s.last = c.State
	return nil
}

// setJSON puts a sealed value into b.
func setJSON(b *pebble.Batch, key []byte, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("settlementpebble: %w", err)
	}
	return b.Set(key, kv.Sealed(key, value), nil)
}

// Failures implements settlement.Store. Damaged failures hide no other: the
// iteration ends with settlement.ErrCorrupt, for the first of them, when all
// sound ones have been shown.
func (s *Store) Failures(ctx context.Context, from uint64) iter.Seq2[settlement.Failure, error] {
	return func(yield func(settlement.Failure, error) bool) {
		if err := s.usable(ctx); err != nil {
			yield(settlement.Failure{}, err)
			return
		}
		var damage error
		for p, err := range s.db.Scan(failureKey(from), []byte{stateNamespace, 'f' + 1}) {
			if err == nil {
				err = s.usable(ctx)
			}
			if err != nil {
				yield(settlement.Failure{}, err)
				return
			}
			var f settlement.Failure
			if err := decode(p.Key, p.Value, &f); err != nil {
				damage = cmp.Or(damage, err)
			} else if !yield(f, nil) {
				return
			}
		}
		if damage != nil {
			yield(settlement.Failure{}, damage)
		}
	}
}

func (s *Store) read(key []byte, into any) (found bool, err error) {
	found, err = s.db.Get(key, func(v []byte) error { return decode(key, v, into) })
	return found, err
}

func decode(key, sealed []byte, into any) error {
	value, err := kv.Unseal(key, sealed)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("%w: key %q: %w", settlement.ErrCorrupt, key, err)
	}
	return nil
}
