package courierpebble

import (
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// OpenOn is Open with the options of package kv, such as another file system.
func OpenOn(dir string, dbo *kv.Options, opts *Options) (*Store, error) {
	db, err := kv.Open(dir, dbo)
	if err != nil {
		return nil, err
	}
	s, err := New((*pebbledb.DB)(db), opts)
	if err != nil {
		db.Close()
		return nil, err
	}
	s.own = true
	return s, nil
}
