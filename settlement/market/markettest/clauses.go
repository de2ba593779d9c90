package markettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/market"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

func newIsEmpty(ctx context.Context, open Open) error {
	return with(ctx, "new", open, func(p Place, lease settlement.Lease) error {
		if lease.Epoch == 0 || lease.Holder == "" {
			return fmt.Errorf("the first lease is %+v", lease)
		}
		_, err := p.Store.Order(ctx, "job-1")
		_, err2 := p.Store.Content(ctx, 1, 0)
		return errors.Join(
			wantError("Order", err, market.ErrNotFound),
			wantError("Content", err2, market.ErrNotFound),
			wantSeqs(ctx, p, market.Filter{}),
			wantSeqs(ctx, p, market.Filter{Newest: true}),
			wantAssignments(ctx, p))
	})
}

func wholeOrder(ctx context.Context, open Open) error {
	return with(ctx, "whole", open, func(p Place, lease settlement.Lease) error {
		j, o := job(1, "one", "two"), offer(2)
		j.Slices[1].Reference = workload.Hash{}
		err := write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{j, o}})
		return errors.Join(err, wantOrder(ctx, p, j.Order), wantOrder(ctx, p, o.Order))
	})
}

func largestOrder(ctx context.Context, open Open) error {
	return with(ctx, "largest", open, func(p Place, lease settlement.Lease) error {
		n := largest()
		if err := write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{n}}); err != nil {
			return err
		}
		data, err := p.Store.Content(ctx, n.Seq, 0)
		if err == nil && !bytes.Equal(data, n.Inline[0]) {
			err = fmt.Errorf("the content has %d other bytes", len(data))
		}
		return errors.Join(err, wantOrder(ctx, p, n.Order), wantSeqs(ctx, p, market.Filter{}, n.Seq))
	})
}

// reopened: what was acknowledged is there when the place is opened again.
func reopened(ctx context.Context, open Open) error {
	j := job(1, "one", "two")
	a := market.Assignment{ID: match.MatchID{1}, Bid: 1, Ask: 2, Slice: 1, Units: 1, Price: 20, DryRun: true, Deadline: day}
	r := receiptFor(j.Order, 0)
	u := market.Update{Seq: 1, Progress: market.Progress{
		State: market.Open, Filled: 1,
		Outcomes: []market.Outcome{{Slice: 0, State: market.Done, Receipt: r.Key, Output: workload.Hash{9}}},
	}}
	err := with(ctx, "reopened", open, func(p Place, lease settlement.Lease) error {
		return errors.Join(
			write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{j, offer(2)}}),
			write(ctx, p, lease, market.Batch{Receipts: []receipt.Receipt{r}, Updates: []market.Update{u}, Assign: []market.Assignment{a}}))
	})
	if err != nil {
		return err
	}
	return with(ctx, "reopened", open, func(p Place, lease settlement.Lease) error {
		if lease.Epoch < 2 {
			return fmt.Errorf("the second lease is %+v", lease)
		}
		_, err := p.Log.Get(ctx, r.Key)
		return errors.Join(err,
			wantOrder(ctx, p, after(j.Order, u)), wantOrder(ctx, p, offer(2).Order),
			wantAssignments(ctx, p, a), wantContent(ctx, p, 1, 1, "two"))
	})
}

// idUsedOnce: an ID names the order that had it first, for ever.
func idUsedOnce(ctx context.Context, open Open) error {
	return with(ctx, "once", open, func(p Place, lease settlement.Lease) error {
		first := job(1, "one")
		over := market.Update{Seq: 1, Progress: market.Progress{State: market.Cancelled, Reason: "why", Ended: day}}
		err := errors.Join(
			write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{first}}),
			write(ctx, p, lease, market.Batch{Updates: []market.Update{over}}))
		if err != nil {
			return err
		}
		again, other := job(2, "another"), job(3, "three")
		again.ID = first.ID
		w, err := p.Store.Write(ctx, lease, &market.Batch{Orders: []market.NewOrder{again, other}})
		switch {
		case err != nil:
			return fmt.Errorf("writing: %w", err)
		case len(w.Existing) != 2 || w.Existing[0] == nil || w.Existing[1] != nil:
			return fmt.Errorf("of Existing it says %v, want the order of the first and nil", w.Existing)
		}
		return errors.Join(
			sameOrder(*w.Existing[0], after(first.Order, over)),
			wantOrder(ctx, p, after(first.Order, over)), wantOrder(ctx, p, other.Order),
			wantSeqs(ctx, p, market.Filter{}, 1, 3))
	})
}

// sameBatchAgain: after ErrUnknown the whole batch may come again.
func sameBatchAgain(ctx context.Context, open Open) error {
	return with(ctx, "again", open, func(p Place, lease settlement.Lease) error {
		if err := write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{job(1, "one", "two")}}); err != nil {
			return err
		}
		j := job(1, "one", "two")
		r := receiptFor(j.Order, 0)
		u := market.Update{Seq: 1, Progress: market.Progress{
			State: market.Open, Filled: 1,
			Outcomes: []market.Outcome{{Slice: 0, State: market.Done, Receipt: r.Key}},
		}}
		a := market.Assignment{ID: match.MatchID{1}, Bid: 1, Ask: 2, Slice: 1, Units: 1}
		b := market.Batch{
			Orders: []market.NewOrder{job(2, "three")}, Receipts: []receipt.Receipt{r}, Updates: []market.Update{u},
			Assign: []market.Assignment{a}, Unassign: []match.MatchID{{2}},
		}
		for i, want := range []receipt.Status{receipt.Inserted, receipt.Duplicate} {
			w, err := p.Store.Write(ctx, lease, &b)
			if err != nil || w.Existing != nil || !slices.Equal(w.Appended, []receipt.Status{want}) {
				return fmt.Errorf("time %d: %+v, %w, want %v", i+1, w, err, want)
			}
		}
		return errors.Join(
			wantOrder(ctx, p, after(j.Order, u)), wantOrder(ctx, p, job(2, "three").Order),
			wantAssignments(ctx, p, a), wantSeqs(ctx, p, market.Filter{}, 1, 2))
	})
}

// progressAddsUp: each update adds its outcomes, and replaces all else.
func progressAddsUp(ctx context.Context, open Open) error {
	return with(ctx, "progress", open, func(p Place, lease settlement.Lease) error {
		j := job(1, "a", "b", "c")
		err := write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{j}})
		want := j.Order
		for _, progress := range []market.Progress{
			{State: market.Open, Filled: 1, Outcomes: []market.Outcome{{Slice: 2, State: market.Done, Receipt: receipt.Key{1}, Output: workload.Hash{2}}}},
			{State: market.Open, Filled: 1, Outcomes: []market.Outcome{{Slice: 0, State: market.Failed, Reason: "why ü"}}},
			{State: market.Open, Filled: 1},
			{State: market.Failed, Filled: 1, Reason: "a slice failed", Ended: day, Outcomes: []market.Outcome{{Slice: 1, State: market.Cancelled}}},
		} {
			err = errors.Join(err, write(ctx, p, lease, market.Batch{Updates: []market.Update{{Seq: 1, Progress: progress}}}))
			outcomes := append(slices.Clone(want.Outcomes), progress.Outcomes...)
			slices.SortFunc(outcomes, func(a, b market.Outcome) int { return a.Slice - b.Slice })
			want.Progress = progress
			want.Outcomes = outcomes
			err = errors.Join(err, wantOrder(ctx, p, want))
		}
		return err
	})
}

func wantContent(ctx context.Context, p Place, order uint64, slice int, want string) error {
	data, err := p.Store.Content(ctx, order, slice)
	if err != nil || string(data) != want {
		return fmt.Errorf("slice %d of order %d: %q, %w, want %q", slice, order, data, err, want)
	}
	return nil
}

// contentWhileOpen: an inline slice can be read until it is over.
func contentWhileOpen(ctx context.Context, open Open) error {
	return with(ctx, "content", open, func(p Place, lease settlement.Lease) error {
		j := job(1, "a", "", "c")
		err := errors.Join(
			write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{j}}),
			wantContent(ctx, p, 1, 0, "a"), wantContent(ctx, p, 1, 1, ""), wantContent(ctx, p, 1, 2, "c"))
		if err != nil {
			return err
		}
		_, err = p.Store.Content(ctx, 1, 3)
		_, err2 := p.Store.Content(ctx, 2, 0)
		_, err3 := p.Store.Content(ctx, 1, -1)
		err = errors.Join(wantError("no such slice", err, market.ErrNotFound),
			wantError("no such order", err2, market.ErrNotFound), wantError("slice -1", err3, market.ErrNotFound))
		one := market.Update{Seq: 1, Progress: market.Progress{
			State: market.Open, Outcomes: []market.Outcome{{Slice: 0, State: market.Failed, Reason: "why"}},
		}}
		return errors.Join(err,
			write(ctx, p, lease, market.Batch{Updates: []market.Update{one}}),
			wantContent(ctx, p, 1, 2, "c"))
	})
}

func filters(ctx context.Context, open Open) error {
	return with(ctx, "filters", open, func(p Place, lease settlement.Lease) error {
		carol := job(4, "x")
		carol.Account = "carol"
		long := job(5, "x")
		long.Account = "alice\x00" // no prefix of another's
		err := errors.Join(
			write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{job(1, "x"), offer(2), job(3, "x"), carol, long, offer(6)}}),
			write(ctx, p, lease, market.Batch{Updates: []market.Update{
				{Seq: 1, Progress: market.Progress{State: market.Done, Filled: 1, Ended: day}},
				{Seq: 2, Progress: market.Progress{State: market.Expired, Ended: day}},
				{Seq: 4, Progress: market.Progress{State: market.Failed, Ended: day}},
			}}))
		for _, tt := range []struct {
			f    market.Filter
			want []uint64
		}{
			{market.Filter{}, []uint64{1, 2, 3, 4, 5, 6}},
			{market.Filter{Newest: true}, []uint64{6, 5, 4, 3, 2, 1}},
			{market.Filter{Account: "alice"}, []uint64{1, 3}},
			{market.Filter{Account: "alice", Newest: true}, []uint64{3, 1}},
			{market.Filter{Account: "nobody"}, nil},
			{market.Filter{Side: match.Ask}, []uint64{2, 6}},
			{market.Filter{State: market.Open}, []uint64{3, 5, 6}},
			{market.Filter{State: market.Open, Newest: true}, []uint64{6, 5, 3}},
			{market.Filter{State: market.Done}, []uint64{1}},
			{market.Filter{State: market.Expired}, []uint64{2}},
			{market.Filter{State: market.Failed}, []uint64{4}},
			{market.Filter{State: market.Open, Account: "alice"}, []uint64{3}},
			{market.Filter{State: market.Open, Account: "alice", Side: match.Ask}, nil},
			{market.Filter{From: 3}, []uint64{3, 4, 5, 6}},
			{market.Filter{From: 3, Newest: true}, []uint64{3, 2, 1}},
			{market.Filter{From: 7}, nil},
			{market.Filter{From: 7, Newest: true}, []uint64{6, 5, 4, 3, 2, 1}},
			{market.Filter{From: 2, Account: "alice"}, []uint64{3}},
			{market.Filter{From: 2, Account: "alice", Newest: true}, []uint64{1}},
			{market.Filter{From: 4, State: market.Open}, []uint64{5, 6}},
		} {
			err = errors.Join(err, wantSeqs(ctx, p, tt.f, tt.want...))
		}
		return err
	})
}

// pages: a list longer than any page that a store may read at once.
func pages(ctx context.Context, open Open) error {
	const n = 2500
	return with(ctx, "pages", open, func(p Place, lease settlement.Lease) error {
		var up, down []uint64
		for seq := uint64(1); seq <= n; seq += 500 {
			var b market.Batch
			for s := seq; s < seq+500; s++ {
				b.Orders = append(b.Orders, offer(2*s))
				up = append(up, 2*s)
			}
			if err := write(ctx, p, lease, b); err != nil {
				return err
			}
		}
		down = slices.Clone(up)
		slices.Reverse(down)
		err := errors.Join(
			wantSeqs(ctx, p, market.Filter{}, up...),
			wantSeqs(ctx, p, market.Filter{Newest: true, Account: "bob"}, down...),
			wantSeqs(ctx, p, market.Filter{State: market.Open, From: 1001}, up[500:]...))
		for o, err2 := range p.Store.Orders(ctx, market.Filter{From: 2001}) {
			if err2 != nil || o.Seq != 2002 {
				err = errors.Join(err, fmt.Errorf("from 2001: %d, %w", o.Seq, err2))
			}
			break
		}
		return err
	})
}

// readsWithin: every method may be called from the body of a loop.
func readsWithin(ctx context.Context, open Open) error {
	return with(ctx, "within", open, func(p Place, lease settlement.Lease) error {
		err := write(ctx, p, lease, market.Batch{
			Orders: []market.NewOrder{job(1, "x"), job(2, "y")},
			Assign: []market.Assignment{{ID: match.MatchID{1}, Bid: 1, Ask: 2, Units: 1}},
		})
		var last uint64
		for o, err2 := range p.Store.Orders(ctx, market.Filter{}) {
			if err2 != nil {
				return errors.Join(err, err2)
			}
			last = o.Seq
			err = errors.Join(err, wantSeqs(ctx, p, market.Filter{Newest: true, From: 2}, 2, 1), wantContent(ctx, p, o.Seq, 0, []string{"x", "y"}[o.Seq-1]))
			for range p.Store.Assignments(ctx) {
				err = errors.Join(err, write(ctx, p, lease, market.Batch{Updates: []market.Update{{Seq: o.Seq, Progress: market.Progress{State: market.Open, Filled: 1}}}}))
			}
		}
		if last != 2 {
			err = errors.Join(err, fmt.Errorf("the list ended at %d", last))
		}
		return err
	})
}

func wantAssignments(ctx context.Context, p Place, want ...market.Assignment) error {
	var got []market.Assignment
	for a, err := range p.Store.Assignments(ctx) {
		if err != nil {
			return fmt.Errorf("listing assignments: %w", err)
		}
		got = append(got, a)
	}
	slices.SortFunc(got, func(a, b market.Assignment) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if !slices.Equal(got, want) {
		return fmt.Errorf("assignments %+v, want %+v", got, want)
	}
	return nil
}

func assignments(ctx context.Context, open Open) error {
	return with(ctx, "assignments", open, func(p Place, lease settlement.Lease) error {
		full := market.Assignment{ID: match.MatchID{1, 15: 0xff}, Bid: 1<<63 - 1, Ask: 2, Slice: -1, Units: 1 << 40, Price: 1<<64 - 1, DryRun: true, Deadline: day}
		small := market.Assignment{ID: match.MatchID{2}, Bid: 1, Ask: 2, Slice: 0, Units: 1}
		err := errors.Join(
			write(ctx, p, lease, market.Batch{Assign: []market.Assignment{full, small}}),
			wantAssignments(ctx, p, full, small))
		small.Deadline = day
		return errors.Join(err,
			write(ctx, p, lease, market.Batch{Assign: []market.Assignment{small}, Unassign: []match.MatchID{full.ID, {3}}}),
			wantAssignments(ctx, p, small))
	})
}

// receiptWithProgress: the log has the receipt when the order has its outcome.
func receiptWithProgress(ctx context.Context, open Open) error {
	return with(ctx, "receipt", open, func(p Place, lease settlement.Lease) error {
		j := job(1, "a", "b")
		err := write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{j}})
		var keys []receipt.Key
		for i := range j.Slices {
			r := receiptFor(j.Order, i)
			keys = append(keys, r.Key)
			err = errors.Join(err, write(ctx, p, lease, market.Batch{
				Receipts: []receipt.Receipt{r},
				Updates: []market.Update{{Seq: 1, Progress: market.Progress{
					State: market.Open, Filled: uint64(i) + 1,
					Outcomes: []market.Outcome{{Slice: i, State: market.Done, Receipt: r.Key}},
				}}},
			}))
		}
		var got []receipt.Key
		for rec, err2 := range p.Log.After(ctx, 0) {
			if err2 != nil {
				return errors.Join(err, err2)
			}
			got = append(got, rec.Key)
		}
		if !slices.Equal(got, keys) {
			err = errors.Join(err, fmt.Errorf("the log has %v, want %v", got, keys))
		}
		return err
	})
}

// refusedReceipt: when the log refuses one receipt, nothing of the batch happens.
func refusedReceipt(ctx context.Context, open Open) error {
	return with(ctx, "refused", open, func(p Place, lease settlement.Lease) error {
		j := job(1, "a")
		one := receipt.New("ab", "c", "d", 1, day)
		other := receipt.New("a", "bc", "d", 1, day) // has the same key
		good := receiptFor(j.Order, 0)
		err := write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{j}, Receipts: []receipt.Receipt{one}})
		w, err2 := p.Store.Write(ctx, lease, &market.Batch{
			Receipts: []receipt.Receipt{good, other},
			Orders:   []market.NewOrder{offer(2)},
			Updates:  []market.Update{{Seq: 1, Progress: market.Progress{State: market.Done, Filled: 1}}},
			Assign:   []market.Assignment{{ID: match.MatchID{1}, Bid: 1, Ask: 2, Units: 1}},
		})
		err = errors.Join(err, wantError("Write", err2, receipt.ErrConflict))
		if len(w.Appended) != 2 || w.Appended[1] != receipt.Conflict || w.Appended[0] == receipt.Conflict {
			err = errors.Join(err, fmt.Errorf("of Appended it says %v, want a Conflict for the second", w.Appended))
		}
		_, err3 := p.Log.Get(ctx, good.Key)
		return errors.Join(err,
			wantError("the receipt beside it", err3, receipt.ErrNotFound),
			wantOrder(ctx, p, j.Order), wantSeqs(ctx, p, market.Filter{}, 1), wantAssignments(ctx, p))
	})
}

// invalidBatches: nothing of a batch is written that no store can hold.
func invalidBatches(ctx context.Context, open Open) error {
	return with(ctx, "invalid", open, func(p Place, lease settlement.Lease) error {
		change := func(f func(*market.NewOrder)) market.Batch {
			n := job(2, "x")
			f(&n)
			return market.Batch{Orders: []market.NewOrder{offer(1), n}}
		}
		var err error
		for what, b := range map[string]market.Batch{
			"no id":            change(func(n *market.NewOrder) { n.ID = "" }),
			"a long id":        change(func(n *market.NewOrder) { n.ID = string(make([]byte, market.MaxID+1)) }),
			"an id with |":     change(func(n *market.NewOrder) { n.ID = "a|b" }),
			"an id with /":     change(func(n *market.NewOrder) { n.ID = "a/0" }),
			"no UTF-8":         change(func(n *market.NewOrder) { n.ID = "\xff" }),
			"no Seq":           change(func(n *market.NewOrder) { n.Seq = 0 }),
			"over already":     change(func(n *market.NewOrder) { n.State = market.Done }),
			"no state":         change(func(n *market.NewOrder) { n.State = 0 }),
			"units of slices":  change(func(n *market.NewOrder) { n.Units = 2 }),
			"an ask of slices": change(func(n *market.NewOrder) { n.Side = match.Ask }),
			"content missing":  change(func(n *market.NewOrder) { n.Inline = nil }),
			"content too much": change(func(n *market.NewOrder) { n.Inline = append(n.Inline, []byte("y")) }),
			"content not said": change(func(n *market.NewOrder) { n.Slices[0].Inline = false }),
			"content cut":      change(func(n *market.NewOrder) { n.Inline[0] = nil }),
			"a size below 0":   change(func(n *market.NewOrder) { n.Slices[0].Size = -1 }),
			"one id twice":     {Orders: []market.NewOrder{offer(1), offer(1)}},
			"a bad receipt":    {Orders: []market.NewOrder{offer(1)}, Receipts: []receipt.Receipt{{}}},
			"no such state":    {Orders: []market.NewOrder{offer(1)}, Updates: []market.Update{{Seq: 1, Progress: market.Progress{State: 99}}}},
			"no such order":    {Orders: []market.NewOrder{offer(1)}, Updates: []market.Update{{Seq: 9, Progress: market.Progress{State: market.Open}}}},
			"an open outcome":  {Orders: []market.NewOrder{offer(1)}, Updates: []market.Update{{Seq: 1, Progress: market.Progress{State: market.Open, Outcomes: []market.Outcome{{State: market.Open}}}}}},
			"a match of none":  {Orders: []market.NewOrder{offer(1)}, Assign: []market.Assignment{{Bid: 1, Ask: 2, Units: 1}}},
		} {
			_, err2 := p.Store.Write(ctx, lease, &b)
			err = errors.Join(err, wantError(what, err2, market.ErrInvalid))
		}
		return errors.Join(err, wantSeqs(ctx, p, market.Filter{}), wantAssignments(ctx, p))
	})
}

// fenced: after another Acquire nothing is written under the lease before.
func fenced(ctx context.Context, open Open) error {
	return with(ctx, "fenced", open, func(p Place, old settlement.Lease) error {
		j := job(1, "x")
		if err := write(ctx, p, old, market.Batch{Orders: []market.NewOrder{j}}); err != nil {
			return err
		}
		lease, err := p.Store.Acquire(ctx)
		if err != nil || lease.Epoch <= old.Epoch || lease.Holder == old.Holder {
			return fmt.Errorf("the lease after %+v is %+v, %w", old, lease, err)
		}
		r := receiptFor(j.Order, 0)
		_, err = p.Store.Write(ctx, old, &market.Batch{
			Orders: []market.NewOrder{offer(2)}, Receipts: []receipt.Receipt{r},
			Updates:  []market.Update{{Seq: 1, Progress: market.Progress{State: market.Done, Filled: 1}}},
			Assign:   []market.Assignment{{ID: match.MatchID{1}, Bid: 1, Ask: 2, Units: 1}},
			Unassign: []match.MatchID{{2}},
		})
		_, err2 := p.Log.Get(ctx, r.Key)
		_, err3 := p.Store.Write(ctx, settlement.Lease{}, &market.Batch{})
		return errors.Join(
			wantError("Write under the old lease", err, market.ErrFenced),
			wantError("its receipt", err2, receipt.ErrNotFound),
			wantError("Write under none", err3, market.ErrFenced),
			wantOrder(ctx, p, j.Order), wantSeqs(ctx, p, market.Filter{}, 1), wantAssignments(ctx, p),
			write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{offer(2)}}))
	})
}

// forgedLease: epoch and holder are both compared.
func forgedLease(ctx context.Context, open Open) error {
	return with(ctx, "forged", open, func(p Place, lease settlement.Lease) error {
		epoch, holder := lease, lease
		epoch.Holder = "somebody else"
		holder.Epoch++
		var err error
		for _, l := range []settlement.Lease{epoch, holder} {
			_, err2 := p.Store.Write(ctx, l, &market.Batch{Orders: []market.NewOrder{offer(1)}})
			err = errors.Join(err, wantError(fmt.Sprintf("%+v", l), err2, market.ErrFenced))
		}
		return errors.Join(err, wantSeqs(ctx, p, market.Filter{}))
	})
}

// nothingKept: the caller's slices are the caller's again, and so is what it got.
func nothingKept(ctx context.Context, open Open) error {
	return with(ctx, "kept", open, func(p Place, lease settlement.Lease) error {
		n := job(1, "abc")
		u := market.Update{Seq: 1, Progress: market.Progress{
			State: market.Open, Outcomes: []market.Outcome{{Slice: 0, State: market.Failed, Reason: "why"}},
		}}
		want := after(job(1, "abc").Order, u)
		want.Outcomes = slices.Clone(u.Outcomes)
		if err := write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{n, job(2, "def")}}); err != nil {
			return err
		}
		if err := write(ctx, p, lease, market.Batch{Updates: []market.Update{u}}); err != nil {
			return err
		}
		copy(n.Inline[0], "xyz")
		n.Slices[0] = market.Slice{}
		u.Outcomes[0] = market.Outcome{}
		data, err := p.Store.Content(ctx, 2, 0)
		if err != nil {
			return err
		}
		copy(data, "xyz")
		got, err := p.Store.Order(ctx, n.ID)
		if err != nil {
			return err
		}
		err = sameOrder(got, want)
		clear(got.Slices)
		clear(got.Outcomes)
		return errors.Join(err, wantOrder(ctx, p, want), wantContent(ctx, p, 2, 0, "def"))
	})
}

// together: of equal orders written at once one is there, and each batch wholly.
func together(ctx context.Context, open Open) error {
	const writers = 8
	return with(ctx, "together", open, func(p Place, lease settlement.Lease) error {
		errs := make([]error, writers)
		news := make([]int, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				shared, own := job(uint64(1+i), "x"), offer(uint64(101+i))
				shared.ID, shared.Asked = "shared", [32]byte{byte(i)}
				w, err := p.Store.Write(ctx, lease, &market.Batch{Orders: []market.NewOrder{shared, own}})
				errs[i] = err
				if w.Existing == nil {
					news[i] = 1
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		won := slices.Index(news, 1)
		if won < 0 || slices.Contains(news[won+1:], 1) {
			return fmt.Errorf("of equal ids these were new: %d", news)
		}
		want := []uint64{uint64(1 + won)}
		for i := range writers {
			want = append(want, uint64(101+i))
		}
		return wantSeqs(ctx, p, market.Filter{}, want...)
	})
}

// cancelled: with a context that has ended nothing happens.
func cancelled(ctx context.Context, open Open) error {
	return with(ctx, "cancelled", open, func(p Place, lease settlement.Lease) error {
		if err := write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{job(1, "x")}}); err != nil {
			return err
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err := p.Store.Write(ended, lease, &market.Batch{Orders: []market.NewOrder{offer(2)}})
		_, err2 := p.Store.Order(ended, "job-1")
		_, err3 := p.Store.Content(ended, 1, 0)
		_, err4 := p.Store.Acquire(ended)
		var err5, err6 error
		for _, err5 = range p.Store.Orders(ended, market.Filter{}) {
		}
		for _, err6 = range p.Store.Assignments(ended) {
		}
		err = errors.Join(
			wantError("Write", err, context.Canceled), wantError("Order", err2, context.Canceled),
			wantError("Content", err3, context.Canceled), wantError("Acquire", err4, context.Canceled),
			wantError("Orders", err5, context.Canceled))
		_ = err6 // an empty list may end before it looks
		return errors.Join(err, write(ctx, p, lease, market.Batch{Orders: []market.NewOrder{offer(3)}}), wantSeqs(ctx, p, market.Filter{}, 1, 3))
	})
}
