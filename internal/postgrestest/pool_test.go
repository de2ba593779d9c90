package postgrestest

import (
	"context"
	"io"
	"sync"
	"testing"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriersql"
	"github.com/computemarket/computemarket/courier/couriertest"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

// The suites, with a pool of one connection.
func TestReceiptSuiteOneConnection(t *testing.T) { receipttest.Run(t, receiptStores(t, 1)) }
func TestLedgerSuiteOneConnection(t *testing.T)  { settlementtest.RunLedger(t, ledgers(t, 1)) }
func TestStoreSuiteOneConnection(t *testing.T)   { settlementtest.RunStore(t, settlementStores(t, 1)) }
func TestCourierSuiteOneConnection(t *testing.T) { couriertest.Run(t, courierStores(t, 1)) }

// One connection is enough for every call from the body of a loop over every
// iterator, also over more than a page of it.
func TestLoopsOverPages(t *testing.T) {
	db := openDB(t, sharedServer(t), newSchema())
	db.SetMaxOpenConns(1)
	if err := exercise(t.Context(), db, 1500); err != nil {
		t.Error(err)
	}
}

// Couriers as many as there are connections forward more receipts than a page.
func TestFlushOverFewConnections(t *testing.T) {
	const n = 10_000
	for _, couriers := range []int{1, 2} {
		ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
		db.SetMaxOpenConns(couriers)
		if err := couriersql.Migrate(ctx, db); err != nil {
			t.Fatal(err)
		}
		run(t, db, `INSERT INTO courier_receipts
			SELECT decode(lpad(to_hex(i), 32, '0'), 'hex'), i, decode(repeat('00', 32), 'hex'), 0, 'a', now(), FALSE, 'pending', now(), '', ''
			FROM generate_series(1, 10000) AS i`, `UPDATE courier_log SET last_seq = 10000, pending = 10000`)
		var wg sync.WaitGroup
		for range couriers {
			wg.Go(func() {
				store, err := couriersql.New(ctx, db, nil)
				if err != nil {
					t.Error(err)
					return
				}
				c, err := courier.New(store, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := c.Flush(ctx, taker{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		store, err := couriersql.New(ctx, db, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := store.Count(ctx); err != nil || got != (courier.Counts{Acknowledged: n}) {
			t.Errorf("%d couriers: %+v, %v", couriers, got, err)
		}
	}
}

// taker takes everything.
type taker struct{}

func (taker) Forward(context.Context, courier.Receipt, io.Reader) error { return nil }

// What comes into a list while it is shown is not shown, and nothing is shown
// twice or missed that stays in it.
func TestListOverPages(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	if err := couriersql.Migrate(ctx, db); err != nil {
		t.Fatal(err)
	}
	s, err := couriersql.New(ctx, db, nil)
	if err != nil {
		t.Fatal(err)
	}
	run(t, db, `INSERT INTO courier_receipts
		SELECT decode(lpad(to_hex(i), 32, '0'), 'hex'), i, decode(repeat('00', 32), 'hex'), 0, 'a', now(), FALSE, 'pending', now(), '', ''
		FROM generate_series(1, 3000) AS i`, `UPDATE courier_log SET last_seq = 3000, pending = 3000`)
	next := uint64(1)
	for r, err := range s.List(ctx, courier.Pending, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if next == 2900 {
			next = 2901 // it has left the list
		}
		if r.Seq != next {
			t.Fatalf("receipt %d, want %d", r.Seq, next)
		}
		if next++; r.Seq%500 != 1 {
			continue
		}
		if _, err := s.Append(ctx, courier.Receipt{ID: courier.ID{1, byte(r.Seq >> 8)}, Sender: "a", SentAt: issued}); err != nil {
			t.Fatal(err)
		}
		moved := courier.Receipt{ID: courier.ID{14: 2900 >> 8, 15: 2900 & 0xff}, Seq: 2900, State: courier.Pending}
		if _, err := s.Move(ctx, []courier.Move{{Receipt: moved, To: courier.Acknowledged, At: issued}}); err != nil {
			t.Fatal(err)
		}
	}
	if next != 3001 {
		t.Errorf("it ends before %d", next)
	}
}
