// Package kv opens Pebble so that a library can rely on it, and is the one
// place that commits to it.
//
// The rules, each from an experiment with Pebble v2.1.7:
//
//   - Nothing is answered before it is durable. A write is readable in Pebble
//     before its fsync returns, so [DB.Commit] holds a lock from apply to fsync,
//     and every read takes its snapshot under that lock.
//   - An fsync error reaches the caller only through ApplyNoSyncWait and
//     SyncWait; Set(Sync) may swallow it.
//   - After the first failed write nothing is written any more (see fence), and
//     every call returns [ErrPoisoned] until the store is opened again.
//   - FormatNewest, so that a damaged WAL is found and not taken for its end.
//     The first WAL of a new database is not protected: it is left behind at
//     creation.
package kv

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/fault"
)

var (
	// ErrPoisoned: a write failed, so what is in memory may not be on disk.
	ErrPoisoned = fault.ErrPoisoned
	// ErrClosed: the database has been closed.
	ErrClosed = fault.ErrClosed
	// ErrCorrupt: what is on disk fails its checksum.
	ErrCorrupt = fault.ErrCorrupt
	// ErrLocked: another process, or this one, has the directory open.
	ErrLocked = fault.ErrLocked
	// ErrSchema: a newer release wrote this data.
	ErrSchema = fault.ErrSchema
	// ErrOptions: an option makes no sense, or something that is needed is nil.
	ErrOptions = fault.ErrOptions
)

// Options of [Open]. The zero value and nil are ready to use.
type Options struct {
	// Logger receives Pebble's warnings and errors. Defaults to discarding.
	Logger *slog.Logger
	// CacheBytes is the size of the block cache, up to 1 TiB. Defaults to 64 MiB.
	CacheBytes int64
	// MemTableBytes is the size of one memtable, 4 KiB to 2 GiB, of which up to four
	// live at once. Random 32-byte keys want large ones. Defaults to 64 MiB.
	MemTableBytes uint64
	// FS is the file system. Defaults to the operating system's.
	FS vfs.FS
}

// DB is an open database that several stores share, each in a namespace of its
// own. [Open] makes it. All methods are safe for concurrent use.
type DB struct {
	pebble *pebble.DB
	lock   *pebble.Lock
	fence  *fence
	log    *logger
	claims sync.Map // namespaces that have an open store
	shared sync.Map // what stores share in memory, see Shared

	// mu is held for writing from apply to fsync, so that who holds it for
	// reading sees what is durable and nothing else. Close takes it to let the
	// commit in progress end; who has it afterwards finds closed set.
	mu        sync.RWMutex
	closed    bool
	abandoned bool // a panic left Pebble's own locks held: never call it again

	scans   scans
	closing sync.Once
}

// Open opens the database in dir, creating both as needed. Possible errors:
// [ErrLocked], [ErrCorrupt], [ErrOptions], and those of the file system.
func Open(dir string, opts *Options) (*DB, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 64 << 20
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes < 0 || o.CacheBytes > 1<<40 || o.MemTableBytes < 4<<10 || o.MemTableBytes > 2<<30 {
		return nil, fmt.Errorf("%w: CacheBytes %d, MemTableBytes %d", ErrOptions, o.CacheBytes, o.MemTableBytes)
	}
	db := &DB{fence: newFence(o.FS)}
	db.log = &logger{to: o.Logger, fence: db.fence}
	defer db.log.flush()
	if err := db.open(dir, &o); err != nil {
		return nil, fmt.Errorf("kv: open %s: %w", dir, err)
	}
	return db, nil
}

func (db *DB) open(dir string, o *Options) (err error) {
	fs := db.fence
	fs.MkdirAll(dir, 0o755)
	if err := fs.reason(); err != nil {
		return err
	}
	if db.lock, err = pebble.LockDirectory(dir, fs); err != nil {
		if _, ok := errors.AsType[*iofs.PathError](err); ok {
			return err
		}
		return fmt.Errorf("%w: %w", ErrLocked, err)
	}
	if err = db.openPebble(dir, o); err != nil {
		return errors.Join(translate(err), db.lock.Close())
	}
	return nil
}

func (db *DB) openPebble(dir string, o *Options) error {
	desc, err := pebble.Peek(dir, db.fence)
	if err != nil {
		return err
	}
	if !desc.Exists {
		// Only from its second opening on does Pebble protect its WAL against
		// bit rot: the first one is made before the format is raised.
		first, err := pebble.Open(dir, db.pebbleOptions(o))
		if err != nil {
			return err
		}
		if err := errors.Join(first.Close(), db.fence.reason()); err != nil {
			return err
		}
	}
	if err := checkWAL(db.fence, dir); err != nil {
		return err
	}
	if db.pebble, err = pebble.Open(dir, db.pebbleOptions(o)); err != nil {
		return err
	}
	if err := db.fence.reason(); err != nil { // Pebble has not heard of it
		db.closePebble()
		return err
	}
	return nil
}

func (db *DB) pebbleOptions(o *Options) *pebble.Options {
	po := &pebble.Options{
		FS:                          db.fence,
		Logger:                      db.log,
		Lock:                        db.lock,
		CacheSize:                   o.CacheBytes + 2*int64(o.MemTableBytes), // Pebble takes memtables out of it
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { db.log.Errorf("%v", err) },
			DataCorruption:  func(info pebble.DataCorruptionInfo) { db.log.Errorf("%s", info) },
		},
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return po
}

// made returns an error unless [Open] made db: a zero store has a nil one.
func (db *DB) made() error {
	if db == nil || db.fence == nil {
		return fmt.Errorf("%w: no database, or one that Open has not made", ErrOptions)
	}
	return nil
}

// usable returns why the database may not be used. db.mu is held.
func (db *DB) usable() error {
	if db.closed {
		return ErrClosed
	}
	if err := db.fence.reason(); err != nil {
		return fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
	return nil
}

// Close waits for the commit in progress and closes the database. Scans in
// progress end with [ErrClosed] at their next step; it may be called from within
// one. It is idempotent, and returns when the database is closed, whoever began.
func (db *DB) Close() (err error) {
	if db.made() != nil {
		return nil
	}
	defer db.log.flush()
	db.closing.Do(func() { err = db.close() })
	return err
}

func (db *DB) close() (err error) {
	db.mu.Lock()
	db.closed = true
	db.mu.Unlock()
	db.scans.closeAll()
	if !db.abandoned {
		err = db.closePebble()
	}
	if db.fence.reason() != nil {
		err = nil // who wrote has been told
	}
	return errors.Join(err, db.lock.Close())
}

func (db *DB) closePebble() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("pebble: %v", r)
		}
	}()
	// What is in a table is protected better than what is in the WAL: see
	// TestFlippedBitInFirstWAL.
	return errors.Join(db.pebble.Flush(), db.pebble.Close())
}

// translate gives Pebble's errors the names of this package.
func translate(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}
