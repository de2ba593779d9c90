package receiptpebble

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/receipt"
)

// AppendWith is Append together with what also puts into the batch: both are one
// atomic write, for stores of this library that share the database. also hears
// what becomes of each receipt; its error, or a receipt that the log refuses, and
// nothing is written. It is committed by itself.
//
// Errors as of Append. With receipt.ErrConflict or receipt.ErrCorrupt the statuses
// say which receipts are refused, and nothing of all the others.
func (s *Store) AppendWith(ctx context.Context, receipts []receipt.Receipt, also func(b *pebble.Batch, statuses []receipt.Status) error) ([]receipt.Status, error) {
	if err := receipt.ValidateAll(receipts); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.db == nil {
		return nil, s.usable()
	}
	r := &request{receipts: receipts, statuses: make([]receipt.Status, len(receipts)), also: also}
	s.commit([]*request{r})
	if r.err != nil {
		return nil, r.err
	}
	for i, status := range r.statuses {
		if status == receipt.Corrupt {
			s.meet(&receipts[i].Key)
		}
	}
	return r.statuses, receipt.Refusal(receipts, r.statuses)
}

// with lets the one request that came by AppendWith add to the batch. It reports
// whether there is anything to write.
func (s *Store) with(b *pebble.Batch, reqs []*request) (write bool, err error) {
	if len(reqs) == 1 && reqs[0].also != nil {
		r := reqs[0]
		if receipt.Refusal(r.receipts, r.statuses) != nil {
			return false, nil
		}
		return true, r.also(b, r.statuses)
	}
	return len(s.entries) > 0, nil
}
