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
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// ErrPoisoned: a write failed, so what is in memory may not be on disk.
	ErrPoisoned = errors.New("kv: a write failed; open the store again")
	// ErrClosed: the database has been closed.
	ErrClosed = errors.New("kv: closed")
	// ErrCorrupt: what is on disk fails its checksum.
	ErrCorrupt = errors.New("kv: stored data is damaged")
	// ErrLocked: another process, or this one, has the directory open.
	ErrLocked = errors.New("kv: the directory is in use")
	// ErrVersion: a newer release wrote this data.
	ErrVersion = errors.New("kv: unknown schema version")
)

// Options of [Open]. The zero value and nil are ready to use.
type Options struct {
	// Logger receives Pebble's warnings and errors. Defaults to discarding.
	Logger *slog.Logger
	// CacheBytes is the size of the block cache. Defaults to 64 MiB.
	CacheBytes int64
	// MemTableBytes is the size of one memtable, of which up to four live at
	// once. Random 32-byte keys want large ones. Defaults to 64 MiB.
	MemTableBytes uint64
	// FS is the file system. Defaults to the operating system's.
	FS vfs.FS
}

// DB is an open database that several stores share, each in a namespace of its
// own. All methods are safe for concurrent use.
type DB struct {
	pebble *pebble.DB
	lock   *pebble.Lock
	fence  *fence
	claims sync.Map // namespaces that have an open store

	mu        sync.RWMutex   // held for writing from apply to fsync
	closed    atomic.Bool    // set under mu
	scans     sync.WaitGroup // in progress; added to under mu
	abandoned bool           // a panic left Pebble's own locks held: never call it again
}

// Open opens the database in dir, creating both as needed. Possible errors:
// [ErrLocked], [ErrCorrupt], and those of the file system.
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
	db := &DB{fence: newFence(o.FS)}
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
	log := logger{o.Logger, db.fence}
	po := &pebble.Options{
		FS:                          db.fence,
		Logger:                      log,
		Lock:                        db.lock,
		CacheSize:                   o.CacheBytes + 2*int64(o.MemTableBytes), // Pebble takes memtables out of it
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { log.Errorf("%v", err) },
			DataCorruption:  func(info pebble.DataCorruptionInfo) { log.Errorf("%s", info) },
		},
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return po
}

// usable returns why the database may not be used. db.mu is held.
func (db *DB) usable() error {
	if db.closed.Load() {
		return ErrClosed
	}
	if err := db.fence.reason(); err != nil {
		return fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
	return nil
}

// Close waits for the scans in progress, which end with [ErrClosed] at their
// next step, and closes the database. It is idempotent. Do not call it from
// within a scan.
func (db *DB) Close() error {
	db.mu.Lock()
	again := db.closed.Swap(true)
	db.mu.Unlock()
	if again {
		return nil
	}
	db.scans.Wait()
	var err error
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

// logger adapts slog. Pebble calls Fatalf where it would rather not live on;
// the fence makes that true for the disk, and the process lives.
type logger struct {
	*slog.Logger
	fence *fence
}

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	if l.fence.reason() == nil { // what comes after the first failure follows from it
		l.Error("pebble", "err", fmt.Sprintf(format, args...))
	}
}

func (l logger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.fence.fail(errors.New(msg))
	l.Error("pebble: fatal, the store is poisoned", "err", msg)
}
