package match

import (
	"context"
	"iter"

	"github.com/computemarket/computemarket/receipt"
)

// History is the log as [Resume] reads it. A receipt.Store is one.
type History interface {
	After(ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error]
}

// Resume prepares orders for a new book after a restart: it takes off what the
// log says was filled, and leaves out those with nothing left. Submit what it
// returns, in the same order, before the loop runs.
//
// The book and its matches in flight are gone after a crash; the log is what
// counts. A match without a receipt never happened, so its units are open again
// and are paid once, when they match again. A match with a receipt happened,
// whether or not the book had taken the orders out, so its units are not open
// any more, whoever the order would meet this time.
//
// Units of each order are those wanted in all, as first submitted, or for a
// replaced order Units plus Filled as Replace returned them. Pass the sequence
// number of a record from before the oldest of the orders was first submitted
// to shorten the reading; 0 reads the whole log. The memory taken grows with the
// orders, not with the log.
//
// Possible errors: those of the log.
func Resume(ctx context.Context, log History, after uint64, orders []Order) ([]Order, error) {
	type fill struct {
		side  Side
		units uint64
	}
	filled := make(map[string]*fill, len(orders))
	for i := range orders {
		filled[orders[i].ID] = &fill{side: orders[i].Side}
	}
	for rec, err := range log.After(ctx, after) {
		if err != nil {
			return nil, err
		}
		j, ok := ParseJob(rec.JobID)
		if !ok {
			continue // somebody else's receipt
		}
		if f := filled[j.Bid]; f != nil && f.side == Bid {
			// Units of a bid are numbered, so the last number counts, even if a
			// damaged receipt before it cannot be read.
			f.units = max(f.units, j.From+j.Units)
		}
		if f := filled[j.Ask]; f != nil && f.side == Ask {
			f.units += j.Units
		}
	}
	left := make([]Order, 0, len(orders))
	for _, o := range orders {
		n := filled[o.ID].units
		if n >= o.Units {
			continue
		}
		o.Units -= n
		o.Filled = n
		left = append(left, o)
	}
	return left, nil
}
