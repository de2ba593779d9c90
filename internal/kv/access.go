package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"
)

// Batch returns an empty batch for [DB.Commit].
func (db *DB) Batch() *pebble.Batch { return db.pebble.NewBatch() }

// Commit applies b as one atomic write and closes it. When it returns nil, all
// of b is durable. When it returns [ErrPoisoned], b is on disk wholly or not at
// all, and which of them shows after the database is opened again. ErrClosed:
// nothing was written.
func (db *DB) Commit(b *pebble.Batch) error {
	return db.commit(b, func() error {
		if err := db.pebble.ApplyNoSyncWait(b, pebble.Sync); err != nil {
			return err
		}
		return b.SyncWait()
	})
}

// CommitLazily applies b like [DB.Commit], except that it is durable only with
// the next Commit or Close.
func (db *DB) CommitLazily(b *pebble.Batch) error {
	return db.commit(b, func() error { return db.pebble.Apply(b, pebble.NoSync) })
}

func (db *DB) commit(b *pebble.Batch, apply func() error) (err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if err := db.usable(); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			db.abandoned = true
			db.fence.fail(fmt.Errorf("pebble: %v", r))
			err = db.usable()
		}
	}()
	db.fence.fail(apply())
	// Pebble may have swallowed the error, so the fence has the last word.
	if err := db.usable(); err != nil {
		return err
	}
	b.Close()
	return nil
}

// Err returns [ErrPoisoned] or [ErrClosed] when the database is, and else nil.
func (db *DB) Err() error {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.usable()
}

// Get calls use with the value of key, if there is one. The slice is valid
// during the call only. Possible errors: [ErrPoisoned], [ErrClosed],
// [ErrCorrupt], and that of use.
func (db *DB) Get(key []byte, use func(value []byte) error) (found bool, err error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if err := db.usable(); err != nil {
		return false, err
	}
	value, closer, err := db.pebble.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, translate(err)
	}
	defer closer.Close()
	return true, use(value)
}

// Pair is a key and its value.
type Pair struct{ Key, Value []byte }

// Scan yields the pairs with lo <= key < hi in key order, as they stood, all
// durable, when the iteration began. The slices are valid until the next step.
// Errors as of [DB.Get]; the first ends the iteration.
func (db *DB) Scan(lo, hi []byte) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		it, err := db.iterator(lo, hi)
		if err != nil {
			yield(Pair{}, err)
			return
		}
		defer db.scans.Done()
		defer it.Close()
		for ok := it.First(); ok; ok = it.Next() {
			if db.closed.Load() {
				yield(Pair{}, ErrClosed)
				return
			}
			v, err := it.ValueAndErr()
			if err != nil {
				yield(Pair{}, translate(err))
				return
			}
			if !yield(Pair{it.Key(), v}, nil) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(Pair{}, translate(err))
		}
	}
}

// Last returns copies of the greatest key below hi that is not below lo, and of
// its value; ok is false when there is none. Errors as of [DB.Get].
func (db *DB) Last(lo, hi []byte) (p Pair, ok bool, err error) {
	it, err := db.iterator(lo, hi)
	if err != nil {
		return Pair{}, false, err
	}
	defer db.scans.Done()
	defer it.Close()
	if !it.Last() {
		return Pair{}, false, translate(it.Error())
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return Pair{}, false, translate(err)
	}
	return Pair{append([]byte(nil), it.Key()...), append([]byte(nil), v...)}, true, nil
}

// iterator opens a snapshot while no commit is in flight: all it shows is
// durable. The caller closes it and then calls db.scans.Done.
func (db *DB) iterator(lo, hi []byte) (*pebble.Iterator, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if err := db.usable(); err != nil {
		return nil, err
	}
	it, err := db.pebble.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, translate(err)
	}
	db.scans.Add(1)
	return it, nil
}

// Claim takes a namespace for one store, which alone may write there until it
// calls Release, and checks the schema version that is recorded under the key
// {namespace, 0}, or records it. Possible errors: [ErrLocked] when another store
// of this process has the namespace, [ErrVersion] when the data has another
// version, and those of [DB.Get].
func (db *DB) Claim(namespace byte, version uint16) error {
	if _, taken := db.claims.LoadOrStore(namespace, true); taken {
		return fmt.Errorf("%w: namespace %q has an open store", ErrLocked, namespace)
	}
	err := db.ensureVersion(namespace, version)
	if err != nil {
		db.Release(namespace)
	}
	return err
}

func (db *DB) ensureVersion(namespace byte, version uint16) error {
	key := []byte{namespace, 0}
	found, err := db.Get(key, func(v []byte) error {
		if len(v) != 2 {
			return fmt.Errorf("%w: schema version of namespace %q", ErrCorrupt, namespace)
		}
		if got := binary.BigEndian.Uint16(v); got != version {
			return fmt.Errorf("%w %d of namespace %q, this release knows %d", ErrVersion, got, namespace, version)
		}
		return nil
	})
	if found || err != nil {
		return err
	}
	b := db.Batch()
	b.Set(key, binary.BigEndian.AppendUint16(nil, version), nil)
	return db.Commit(b)
}

// Release gives a namespace back.
func (db *DB) Release(namespace byte) { db.claims.Delete(namespace) }

// Sentinels names this package's errors in the words of a store.
type Sentinels struct{ Poisoned, Closed, Corrupt, Locked, Version error }

// Translate wraps err in the store's sentinel, if it is one of this package's.
func (s *Sentinels) Translate(err error) error {
	if err == nil {
		return nil
	}
	for _, pair := range [...][2]error{
		{ErrPoisoned, s.Poisoned},
		{ErrClosed, s.Closed},
		{ErrLocked, s.Locked},
		{ErrVersion, s.Version},
		{ErrCorrupt, s.Corrupt},
	} {
		if pair[1] != nil && errors.Is(err, pair[0]) {
			return fmt.Errorf("%w: %w", pair[1], err)
		}
	}
	return err
}
