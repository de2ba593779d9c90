package courierpebble_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
	"github.com/computemarket/computemarket/courier/couriertest"
	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// damageable is a store and the way into what it has written.
type damageable struct {
	*courierpebble.Store
	db *pebbledb.DB
}

var _ couriertest.Damageable = damageable{}

func openDamageable(dir string) (courier.Store, error) {
	db, err := pebbledb.Open(dir, nil)
	if err != nil {
		return nil, err
	}
	s, err := courierpebble.New(db, nil)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return damageable{s, db}, nil
}

func (d damageable) Close() error { return errors.Join(d.Store.Close(), d.db.Close()) }

// ways change the record of a receipt. TestDamagedPending tries more bits.
var ways = map[string]func([]byte) []byte{
	"a bit of the ID":       flip(8 * 9),
	"a bit of the sender":   flip(8 * 78),
	"a bit of the checksum": func(v []byte) []byte { return flip(8*len(v) - 1)(v) },
	"cut short":             func(v []byte) []byte { return v[:len(v)-1] },
	"emptied":               func([]byte) []byte { return nil },
}

func (d damageable) Damages() []string { return slices.Sorted(maps.Keys(ways)) }

func (d damageable) Damage(ctx context.Context, id courier.ID, way string) error {
	r, err := d.Get(ctx, id)
	if err != nil {
		return err
	}
	b := dbtest.Inside(d.db).Batch()
	found, err := dbtest.Inside(d.db).Get(recordKey(r), func(v []byte) error {
		return b.Set(recordKey(r), ways[way](slices.Clone(v)), nil)
	})
	if !found || err != nil {
		return fmt.Errorf("no record of %v: %w", id, err)
	}
	return dbtest.Inside(d.db).Commit(b)
}
