package marketpebble_test

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement/market/marketpebble"
	"github.com/computemarket/computemarket/settlement/market/markettest"
)

func openOn(disk vfs.FS, dir string) (markettest.Place, error) {
	db, err := dbtest.Open(dir, &kv.Options{FS: disk, MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
	if err != nil {
		return markettest.Place{}, err
	}
	log, err := receiptpebble.New(db, nil)
	if err != nil {
		return markettest.Place{}, errors.Join(err, db.Close())
	}
	s, err := marketpebble.New(db, log, nil)
	if err != nil {
		return markettest.Place{}, errors.Join(err, log.Close(), db.Close())
	}
	return markettest.Place{Store: s, Log: log, Done: func() error {
		return errors.Join(s.Close(), log.Close(), db.Close())
	}}, nil
}

func TestSuite(t *testing.T) {
	disk := vfs.NewMem()
	markettest.Run(t, func(name string) (markettest.Place, error) { return openOn(disk, name) })
}
