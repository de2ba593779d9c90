package postgrestest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
)

// load appends receipts and settles them, again and again, and goes on after
// whatever error.
type load struct {
	*market
	appended, settled atomic.Int64 // receipts that were acknowledged
	unknown, failed   atomic.Int64 // answers
	progress          chan struct{}
}

func newLoad(ctx context.Context, m *market) (*load, error) {
	rich := settlement.Transfer{ID: settlement.ID{1}, From: "issuer", To: "buyer", Amount: 1 << 40}
	_, err := m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{rich})
	return &load{market: m, progress: make(chan struct{}, 1)}, err
}

// run appends between one and three receipts at a time, among them the last one
// once more, until ctx ends. It returns an error after which no engine can go
// on.
func (l *load) run(ctx context.Context) error {
	for ctx.Err() == nil {
		from := int(l.appended.Load())
		var rs []receipt.Receipt
		for i := max(from-1, 0); i < from+1+from%3; i++ {
			rs = append(rs, numbered(i))
		}
		statuses, err := l.receipts.Append(ctx, rs)
		if l.again(ctx, err) {
			continue
		}
		l.appended.Add(int64(len(statuses) - min(from, 1)))
		_, err = l.engine.Settle(ctx)
		if errors.Is(err, settlement.ErrFenced) || errors.Is(err, settlement.ErrLedger) {
			return err
		}
		if errors.Is(err, settlement.ErrStandby) { // a write of the state is in doubt
			err = l.engine.Lead(ctx)
		}
		if l.again(ctx, err) {
			continue
		}
		l.settled.Store(l.appended.Load())
		select {
		case l.progress <- struct{}{}:
		default:
		}
	}
	return nil
}

// again counts an error and makes room for others.
func (l *load) again(ctx context.Context, err error) bool {
	if err == nil {
		return false
	}
	l.failed.Add(1)
	if errors.Is(err, receipt.ErrUnknown) || errors.Is(err, settlement.ErrUnknown) {
		l.unknown.Add(1)
	}
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

// check looks at all that was acknowledged, from another connection, while the
// load goes on: what was paid is read before what is there.
func (l *load) check(ctx context.Context, db *sql.DB, settled, appended int64) error {
	m, err := prepareMarket(ctx, db, nil)
	if err != nil {
		return err
	}
	paid := map[receipt.Key]bool{}
	rows, err := db.QueryContext(ctx, `SELECT id FROM ledger_transfers WHERE tag LIKE 'settle:%'`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id []byte
		if err := rows.Scan(&id); err != nil {
			return err
		}
		paid[receipt.Key(id)] = true
	}
	if err := rows.Err(); err != nil {
		return err
	}
	there := map[receipt.Key]bool{}
	for rec, err := range m.receipts.After(ctx, 0) {
		if err != nil {
			return err
		}
		if there[rec.Key] {
			return fmt.Errorf("receipt %s is there twice", rec.Key)
		}
		there[rec.Key] = true
	}
	for i := range int(appended) {
		if r := numbered(i); !there[r.Key] || i < int(settled) && !paid[r.Key] {
			return fmt.Errorf("receipt %d of %d appended, %d settled: there %v, paid %v", i, appended, settled, there[r.Key], paid[r.Key])
		}
	}
	for key := range paid {
		if !there[key] {
			return fmt.Errorf("%s was paid and is not there", key)
		}
	}
	if err := m.ledger.Check(ctx); err != nil {
		return err
	}
	var moved, paidNow int64 // in one snapshot
	if err := db.QueryRowContext(ctx, `SELECT
		COALESCE((SELECT balance FROM ledger_accounts WHERE name = 'provider'), 0),
		(SELECT count(*) FROM ledger_transfers WHERE tag LIKE 'settle:%')`).Scan(&moved, &paidNow); err != nil {
		return err
	}
	if moved != paidNow {
		return fmt.Errorf("the provider has %d for %d receipts", moved, paidNow)
	}
	return nil
}
