// Package dbtest opens databases for tests: on other file systems, and with a way
// into what lies in them.
package dbtest

import (
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement/pebbledb"
)

// Open is pebbledb.Open with the options of package kv.
func Open(dir string, opts *kv.Options) (*pebbledb.DB, error) {
	db, err := kv.Open(dir, opts)
	return (*pebbledb.DB)(db), err
}

// Inside returns what is behind a database.
func Inside(db *pebbledb.DB) *kv.DB { return (*kv.DB)(db) }
