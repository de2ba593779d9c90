// Package markettest has the conformance suite that every market.Store passes.
package markettest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/market"
)

// Place is a store with the log of receipts that it writes to.
type Place struct {
	Store market.Store
	Log   receipt.Store
	Done  func() error // closes both; optional
}

// Close calls Done, if there is one.
func (p Place) Close() error {
	if p.Done == nil {
		return nil
	}
	return p.Done()
}

// Open opens the place with the given name, which is new in each clause. Opened
// again under the same name, after it was closed, it has what was acknowledged
// before.
type Open func(name string) (Place, error)

// Clause is one promise of market.Store.
type Clause struct {
	Name  string
	Check func(ctx context.Context, open Open) error
}

// Run checks every clause of market.Store, each in a subtest of its own.
func Run(t *testing.T, open Open) {
	for _, c := range Clauses() {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Check(t.Context(), open); err != nil {
				t.Error(err)
			}
		})
	}
}

// Clauses returns all clauses of the suite.
func Clauses() []Clause {
	return []Clause{
		{"NewIsEmpty", newIsEmpty},
		{"WholeOrder", wholeOrder},
		{"LargestOrder", largestOrder},
		{"Reopened", reopened},
		{"IDUsedOnce", idUsedOnce},
		{"SameBatchAgain", sameBatchAgain},
		{"ProgressAddsUp", progressAddsUp},
		{"ContentWhileOpen", contentWhileOpen},
		{"Filters", filters},
		{"Pages", pages},
		{"ReadsWithin", readsWithin},
		{"Assignments", assignments},
		{"ReceiptWithProgress", receiptWithProgress},
		{"RefusedReceipt", refusedReceipt},
		{"Invalid", invalidBatches},
		{"Fenced", fenced},
		{"ForgedLease", forgedLease},
		{"NothingKept", nothingKept},
		{"Together", together},
		{"Cancelled", cancelled},
	}
}

// with opens a place for f, has it acquire, and closes it.
func with(ctx context.Context, name string, open Open, f func(p Place, lease settlement.Lease) error) error {
	p, err := open(name)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	lease, err := p.Store.Acquire(ctx)
	if err == nil {
		err = f(p, lease)
	}
	return errors.Join(err, p.Close())
}

// write writes a batch that nothing speaks against.
func write(ctx context.Context, p Place, lease settlement.Lease, b market.Batch) error {
	w, err := p.Store.Write(ctx, lease, &b)
	switch {
	case err != nil:
		return fmt.Errorf("writing: %w", err)
	case w.Existing != nil:
		return fmt.Errorf("writing: %d new orders are said to be there", len(b.Orders))
	case len(w.Appended) != len(b.Receipts):
		return fmt.Errorf("writing: %d statuses for %d receipts", len(w.Appended), len(b.Receipts))
	}
	return nil
}

// wantOrder checks what the store has under the order's ID.
func wantOrder(ctx context.Context, p Place, want market.Order) error {
	got, err := p.Store.Order(ctx, want.ID)
	if err != nil {
		return fmt.Errorf("order %q: %w", want.ID, err)
	}
	return sameOrder(got, want)
}

func sameOrder(got, want market.Order) error {
	if len(got.Slices) == 0 && len(want.Slices) == 0 {
		got.Slices, want.Slices = nil, nil
	}
	if len(got.Outcomes) == 0 && len(want.Outcomes) == 0 {
		got.Outcomes, want.Outcomes = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("order\n%+v, want\n%+v", got, want)
	}
	return nil
}

// wantSeqs checks which orders a filter lists.
func wantSeqs(ctx context.Context, p Place, f market.Filter, want ...uint64) error {
	var got []uint64
	for o, err := range p.Store.Orders(ctx, f) {
		if err != nil {
			return fmt.Errorf("listing orders: %w", err)
		}
		got = append(got, o.Seq)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%+v lists %d, want %d", f, got, want)
	}
	return nil
}

// wantError checks that err is target.
func wantError(what string, err, target error) error {
	if !errors.Is(err, target) {
		return fmt.Errorf("%s: %w, want %w", what, err, target)
	}
	return nil
}
