package settlementpebble_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/pebbledb"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

// A closing store closes its database with it, as the suites want.
type closingLedger struct {
	*settlementpebble.Ledger
	db *pebbledb.DB
}

func (c closingLedger) Close() error { return c.db.Close() }

type closingStore struct {
	*settlementpebble.Store
	db *pebbledb.DB
}

func (c closingStore) Close() error { return c.db.Close() }

func TestLedgerSuite(t *testing.T) {
	for name, later := range map[string]bool{"checked": false, "unchecked": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			settlementtest.RunLedger(t, func(name string) (settlement.Ledger, error) {
				db, err := dbtest.Open(filepath.Join(dir, name), nil)
				if err != nil {
					return nil, err
				}
				l, err := settlementpebble.NewLedger(db, &settlementpebble.LedgerOptions{CheckLater: later})
				return closingLedger{l, db}, err
			})
		})
	}
}

func TestStoreSuite(t *testing.T) {
	dir := t.TempDir()
	settlementtest.RunStore(t, func(name string) (settlement.Store, error) {
		db, err := dbtest.Open(filepath.Join(dir, name), nil)
		if err != nil {
			return nil, err
		}
		s, err := settlementpebble.NewStore(db, nil)
		return closingStore{s, db}, err
	})
}

func TestFence(t *testing.T) {
	dir := t.TempDir()
	settlementtest.RunFence(t, func(name string) (b settlementtest.Books, err error) {
		db, err := dbtest.Open(filepath.Join(dir, name), nil)
		if err != nil {
			return b, err
		}
		b.Done = db.Close
		var e1, e2 error
		b.Ledger, e1 = settlementpebble.NewLedger(db, nil)
		b.Store, e2 = settlementpebble.NewStore(db, nil)
		return b, errors.Join(e1, e2)
	})
}

func TestIssuerIsFixed(t *testing.T) {
	db, err := pebbledb.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range []struct {
		issuer string
		want   error
	}{{"mint", nil}, {"mint", nil}, {"", settlement.ErrSchema}, {"\xff", settlement.ErrAccount}} {
		l, err := settlementpebble.NewLedger(db, &settlementpebble.LedgerOptions{Issuer: c.issuer})
		if !errors.Is(err, c.want) {
			t.Errorf("issuer %q: %v, want %v", c.issuer, err, c.want)
		}
		if err == nil {
			l.Close()
		}
	}
}
