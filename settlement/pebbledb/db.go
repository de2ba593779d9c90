// Package pebbledb opens the database that the stores on Pebble share: the log of
// receipts, the ledger, the engine's state, the market's orders and a courier's
// queue can lie in one, and then share its fsyncs.
//
//	db, err := pebbledb.Open("data", nil)
//	receipts, err := receiptpebble.New(db, nil)
//	ledger, err := settlementpebble.NewLedger(db, nil)
//	state, err := settlementpebble.NewStore(db, nil)
package pebbledb

import (
	"log/slog"

	"github.com/computemarket/computemarket/internal/fault"
	"github.com/computemarket/computemarket/internal/kv"
)

var (
	// ErrLocked: another process, or this one, has the folder open.
	ErrLocked = fault.ErrLocked
	// ErrCorrupt: what is on disk is damaged beyond single records.
	ErrCorrupt = fault.ErrCorrupt
	// ErrOptions: an option makes no sense.
	ErrOptions = fault.ErrOptions
)

// DB is an open database. Each store keeps to a namespace of its own, in which
// one store is open at a time. [Open] makes it. It is safe for concurrent use.
type DB kv.DB

// Options of [Open]. The zero value and nil are ready to use.
type Options struct {
	// Logger receives Pebble's warnings and errors. Defaults to discarding.
	Logger *slog.Logger
	// CacheBytes is the size of the block cache, up to 1 TiB. Defaults to 64 MiB.
	CacheBytes int64
	// MemTableBytes is the size of one memtable, 4 KiB to 2 GiB, of which up to
	// four live at once. Random keys, as ids and hashes are, want large ones.
	// Defaults to 64 MiB.
	MemTableBytes uint64
}

// Open opens the database in dir, creating both as needed. Close it after its
// stores. Possible errors: [ErrLocked], [ErrCorrupt], [ErrOptions], and those of
// the file system.
func Open(dir string, opts *Options) (*DB, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	db, err := kv.Open(dir, &kv.Options{Logger: o.Logger, CacheBytes: o.CacheBytes, MemTableBytes: o.MemTableBytes})
	return (*DB)(db), err
}

// Close waits for the commit in progress and closes the database; its stores
// answer ErrClosed from then on, and so do their iterations at the next step. It
// may be called from within one. It is idempotent.
func (db *DB) Close() error { return (*kv.DB)(db).Close() }
