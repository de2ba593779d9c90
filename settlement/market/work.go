package market

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

// Task is the work of one match.
type Task struct {
	Bid, Ask        string // ids of the orders
	Buyer, Provider string
	Class           string
	Slice           int // of the job; -1 where the bid is for units alone
	Units, Price    uint64
	Kind            workload.Kind
	Work            Slice // of a job

	market *Market
	order  uint64
}

// Proof is what work leaves behind.
type Proof struct {
	Output workload.Hash // BLAKE3-256 of what was made
}

// Input opens the bytes of the slice. Call done when they are no longer needed.
// Possible errors: [ErrNotFound], where the slice is over; those of the store and
// of the contents.
func (t *Task) Input(ctx context.Context) (in workload.Input, done func() error, err error) {
	nothing := func() error { return nil }
	if t.Slice < 0 {
		return in, nil, fmt.Errorf("%w: order %q has no slices", ErrNotFound, t.Bid)
	}
	if t.Work.Inline {
		data, err := t.market.store.Content(ctx, t.order, t.Slice)
		return workload.Bytes(data), nothing, err
	}
	if t.market.o.Contents == nil {
		return in, nil, fmt.Errorf("%w: the market keeps no contents", ErrNotFound)
	}
	r, err := t.market.o.Contents.Open(ctx, courier.Hash(t.Work.Content))
	if err != nil {
		return in, nil, err
	}
	if f, ok := r.(*os.File); ok {
		in, err = workload.File(f)
	} else {
		in = workload.Reader(r)
	}
	return in, r.Close, err
}

// Local does the work in this process. An output that is not the slice's
// reference says that the reference is wrong: the bid is at fault.
func Local(r *workload.Runner) func(ctx context.Context, t *Task) (Proof, error) {
	return func(ctx context.Context, t *Task) (Proof, error) {
		in, done, err := t.Input(ctx)
		if err != nil {
			return Proof{}, err
		}
		defer done()
		output, err := r.Run(ctx, workload.Slice{ID: bidName(t.Bid, t.Slice), Kind: t.Kind, Input: in})
		if err == nil && !t.Work.Reference.IsZero() {
			err = workload.SliceProof{Reference: t.Work.Reference, Output: output, Payout: t.Price}.Verify()
		}
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", match.ErrBadBid, err)
		}
		return Proof{Output: output}, err
	}
}

// Keep stores the content of a slice in Options.Contents, for a JobSlice that is
// larger than [MaxInline], in constant memory. It stays for an hour, and then for
// as long as an open job needs it. Possible errors: [ErrOptions], the market has
// no contents; [ErrStandby]; those of r and of the contents.
func (m *Market) Keep(ctx context.Context, r io.Reader) (k Kept, err error) {
	if m.o.Contents == nil {
		return k, fmt.Errorf("market: %w: no Contents", ErrOptions)
	}
	w, err := m.o.Contents.Create(ctx)
	if err != nil {
		return k, err
	}
	defer w.Abort()
	var size counter
	k.Content, err = workload.SumInput(ctx, workload.Reader(io.TeeReader(r, io.MultiWriter(w, &size))))
	if err != nil {
		return Kept{}, err
	}
	k.Size = int64(size)
	if err := m.keep(w, k.Content); err != nil {
		return Kept{}, err
	}
	return k, nil
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
