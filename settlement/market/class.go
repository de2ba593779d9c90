package market

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement/match"
)

// class is the orders of one class: a book and the loop over it.
type class struct {
	m    *Market
	name string
	book *match.Book
	loop *match.Loop

	orders int // that are open; guarded by Market.mu
	stop   context.CancelFunc
}

func mustBook() *match.Book {
	b, err := match.NewBook(nil)
	if err != nil {
		panic(err) // the defaults are valid
	}
	return b
}

type noLog struct{}

func (noLog) Append(context.Context, []receipt.Receipt) ([]receipt.Status, error) {
	return nil, errors.New("market: no log")
}

// loop are the options of a class's loop.
func (o *Options) loop(c *class) *match.LoopOptions {
	l := &match.LoopOptions{
		Parallel: o.Parallel, ReturnAfter: o.ReturnAfter,
		Engine: o.Engine, Clock: o.Clock, Metrics: o.Metrics, Logger: o.Logger,
	}
	if c != nil {
		l.OnFinal, l.OnFailed, l.OnExpired = c.final, c.failed, c.expired
		if o.Work != nil {
			l.Finalize = c.finalize
		}
	}
	return l
}

// bidName is the id under which a slice of a job rests in its book.
func bidName(id string, slice int) string { return id + "/" + strconv.Itoa(slice) }

// named is the inverse of bidName; slice is -1 for an order without slices.
func named(bid string) (id string, slice int) {
	id, number, ok := strings.Cut(bid, "/")
	if !ok {
		return id, -1
	}
	slice, err := strconv.Atoi(number)
	if err != nil {
		return bid, -1
	}
	return id, slice
}

// resting yields what of an order rests in a book: a bid for each slice that is
// not over, or the order itself.
func (o *Order) resting() iter.Seq[match.Order] {
	return func(yield func(match.Order) bool) {
		r := match.Order{
			ID: o.ID, Account: o.Account, Lane: o.Lane, Side: o.Side, Price: o.Price, Expires: o.Expires,
			Units: o.Units - o.Filled, Filled: o.Filled,
		}
		if len(o.Slices) == 0 {
			yield(r)
			return
		}
		r.Units, r.Filled = 1, 0
		over := 0 // outcomes are by slice
		for i := range o.Slices {
			if over < len(o.Outcomes) && o.Outcomes[over].Slice == i {
				over++
				continue
			}
			r.ID = bidName(o.ID, i)
			if !yield(r) {
				return
			}
		}
	}
}

// Append is the loop's log: the receipts, and what they do to their orders, are
// one write.
func (c *class) Append(ctx context.Context, receipts []receipt.Receipt) ([]receipt.Status, error) {
	ch := newChange()
	for i := range receipts {
		ch.fills = append(ch.fills, fill{class: c, receipt: &receipts[i]})
	}
	if err := c.m.put(ctx, ch); err != nil {
		return nil, err
	}
	return ch.statuses, receipt.Refusal(receipts, ch.statuses)
}

// finalize does the work of a match.
func (c *class) finalize(ctx context.Context, mt match.Match) error {
	id, slice := named(mt.Bid)
	o := c.m.lookup(id)
	if o == nil {
		return fmt.Errorf("%w: %w: order %q", match.ErrBadBid, ErrNotFound, id)
	}
	t := &Task{
		Bid: id, Ask: mt.Ask, Buyer: mt.Buyer, Provider: mt.Provider, Class: c.name, Slice: slice,
		Units: mt.Units, Price: mt.Price, Kind: o.Kind, market: c.m, order: o.Seq,
	}
	if slice >= 0 && slice < len(o.Slices) {
		t.Work = o.Slices[slice]
	}
	proof, err := c.m.o.Work(ctx, t)
	if err != nil {
		return err
	}
	c.m.proved(mt.Bid, proof)
	return nil
}

// final, failed and expired are told by the loop what became of a match or an
// order. What a receipt did was written with it.
func (c *class) final(mt match.Match, r receipt.Receipt) {
	c.m.settled(c, mt.Bid, mt.Ask)
	if a := c.m.o.Admission; a != nil && mt.Lane == admission.Consumer {
		a.ObserveConsumerFee(mt.Price)
	}
	if c.m.o.OnTrade != nil {
		bid, _ := named(mt.Bid)
		c.m.o.OnTrade(Trade{
			Bid: bid, Ask: mt.Ask, Buyer: mt.Buyer, Provider: mt.Provider, Class: c.name,
			Lane: mt.Lane, Units: mt.Units, Price: mt.Price, DryRun: r.DryRun,
		})
	}
}

func (c *class) failed(mt match.Match, err error) {
	c.m.proved(mt.Bid, Proof{})
	if errors.Is(err, match.ErrBadBid) {
		c.m.give(c, mt.Bid, Failed, err.Error())
	}
	if errors.Is(err, match.ErrBadAsk) {
		c.m.give(c, mt.Ask, Failed, err.Error())
	}
	c.m.settled(c, mt.Bid, mt.Ask)
}

func (c *class) expired(r match.Resting) { c.m.give(c, r.ID, Expired, "") }
