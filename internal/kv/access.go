package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

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
	if err := db.made(); err != nil {
		return err
	}
	defer db.log.flush()
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

// Err returns [ErrPoisoned], [ErrClosed] or [ErrOptions] when the database is not
// to be used, and else nil.
func (db *DB) Err() error {
	if err := db.made(); err != nil {
		return err
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.usable()
}

// Get calls use with the value of key, if there is one. The slice is valid
// during the call only. No lock is held meanwhile. Possible errors:
// [ErrPoisoned], [ErrClosed], [ErrCorrupt], and that of use.
func (db *DB) Get(key []byte, use func(value []byte) error) (found bool, err error) {
	if err := db.made(); err != nil {
		return false, err
	}
	defer db.log.flush()
	value := values.Get().(*[]byte)
	defer values.Put(value)
	*value, found, err = db.get((*value)[:0], key)
	if !found || err != nil {
		return false, err
	}
	return true, use(*value)
}

var values = sync.Pool{New: func() any { return new([]byte) }}

// get appends the value of key to b.
func (db *DB) get(b, key []byte) (value []byte, found bool, err error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if err := db.usable(); err != nil {
		return b, false, err
	}
	v, closer, err := db.pebble.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return b, false, nil
	}
	if err != nil {
		return b, false, translate(err)
	}
	defer closer.Close()
	return append(b, v...), true, nil
}

// Claim takes a namespace for one store, which alone may write there until it
// calls Release, and checks the schema version that is recorded under the key
// {namespace, 0}, or records it. Possible errors: [ErrLocked] when another store
// of this process has the namespace, [ErrSchema] when the data has another
// version, [ErrOptions] when db is nil, and those of [DB.Get].
func (db *DB) Claim(namespace byte, version uint16) error {
	return db.ClaimFrom(namespace, version, version, nil)
}

// ClaimFrom is Claim for data of the schema versions from oldest on, too.
// Upgrade then puts into b what makes it data of the given version, which is
// written together with the new number.
func (db *DB) ClaimFrom(namespace byte, oldest, version uint16, upgrade func(from uint16, b *pebble.Batch) error) error {
	if err := db.made(); err != nil {
		return err
	}
	if _, taken := db.claims.LoadOrStore(namespace, true); taken {
		return fmt.Errorf("%w: namespace %q has an open store", ErrLocked, namespace)
	}
	err := db.ensureVersion(namespace, oldest, version, upgrade)
	if err != nil {
		db.Release(namespace)
	}
	return err
}

func (db *DB) ensureVersion(namespace byte, oldest, version uint16, upgrade func(uint16, *pebble.Batch) error) error {
	key := []byte{namespace, 0}
	var is uint16
	found, err := db.Get(key, func(v []byte) error {
		if len(v) != 2 {
			return fmt.Errorf("%w: schema version of namespace %q", ErrCorrupt, namespace)
		}
		is = binary.BigEndian.Uint16(v)
		return nil
	})
	switch {
	case err != nil || found && is == version:
		return err
	case found && (is < oldest || is > version):
		return fmt.Errorf("%w %d of namespace %q, this release knows %d to %d", ErrSchema, is, namespace, oldest, version)
	}
	b := db.Batch()
	if found {
		if err := upgrade(is, b); err != nil {
			return fmt.Errorf("from schema version %d of namespace %q: %w", is, namespace, err)
		}
	}
	b.Set(key, binary.BigEndian.AppendUint16(nil, version), nil)
	return db.Commit(b)
}

// Release gives a namespace back.
func (db *DB) Release(namespace byte) {
	if db.made() == nil {
		db.claims.Delete(namespace)
	}
}

// Shared returns what fresh made when it was first asked for under the name in
// this database: something in memory that several stores share. A nil db has
// nothing to share and gives each its own.
func (db *DB) Shared(name string, fresh func() any) any {
	if db == nil {
		return fresh()
	}
	v, ok := db.shared.Load(name)
	if !ok {
		v, _ = db.shared.LoadOrStore(name, fresh())
	}
	return v
}
