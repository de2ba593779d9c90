package match

import (
	"context"
	"fmt"
	"iter"

	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/receipt"
)

// History is the log as [Resume] reads it. A receipt.Store is one.
type History interface {
	After(ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error]
}

// Resume prepares orders for a new book after a restart: it asks the log what of
// each was filled, moves that from Units to Filled, and leaves out the orders
// with nothing left. Submit what it returns, in the same order, before the loop
// runs.
//
// Give it each order as it was submitted first, or as Replace returned it last,
// or as Get or Snapshot showed it at any time since: Units plus Filled is the
// same in all of them, and is what the order wants in all. Leave out the orders
// that were cancelled, have expired, or were dropped (see [ErrBadBid]).
//
// The book and its matches in flight are gone after a crash; the log is what
// counts. A match without a receipt never happened, so its units are open again
// and are paid once, when they match again. A match with a receipt happened,
// whether or not the book had taken the orders out, so its units are not open
// any more, whoever the order would meet this time. No order comes back with
// less Filled than it was given with, even if the log cannot read a receipt of
// it any more.
//
// Pass the sequence number of a record from before the oldest of the orders was
// first submitted to shorten the reading; 0 reads the whole log. The memory
// taken grows with the orders, not with the log.
//
// Possible errors: [ErrOptions], no log; those of the log.
func Resume(ctx context.Context, log History, after uint64, orders []Order) ([]Order, error) {
	if log == nil {
		return nil, fmt.Errorf("%w: no log", ErrOptions)
	}
	filled := make(map[string]*fill, len(orders))
	for i := range orders {
		filled[orders[i].ID] = &fill{side: orders[i].Side}
	}
	err := callback.Run("History.After", func() error {
		for rec, err := range log.After(ctx, after) {
			if err != nil {
				return err
			}
			if j, ok := ParseJob(rec.JobID); ok { // else it is somebody else's
				count(filled, j)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	left := make([]Order, 0, len(orders))
	for _, o := range orders {
		n := max(filled[o.ID].units, o.Filled)
		if n-o.Filled >= o.Units {
			continue
		}
		o.Units -= n - o.Filled
		o.Filled = n
		left = append(left, o)
	}
	return left, nil
}

// fill is what the log says of an order.
type fill struct {
	side  Side
	units uint64
}

func count(filled map[string]*fill, j Job) {
	if f := filled[j.Bid]; f != nil && f.side == Bid {
		// Units of a bid are numbered, so the last number counts, even if a
		// damaged receipt before it cannot be read.
		f.units = max(f.units, j.From+j.Units)
	}
	if f := filled[j.Ask]; f != nil && f.side == Ask {
		f.units += min(j.Units, ^f.units)
	}
}
