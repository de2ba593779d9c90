// Package receipttest holds an in-memory log of receipts and the suite that any
// implementation of receipt.Store passes.
package receipttest

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/computemarket/computemarket/receipt"
)

// Mem is a receipt.Store in memory: the plain model of what the others do on
// disk. The zero Mem is empty and ready.
type Mem struct {
	mu    sync.Mutex
	last  uint64
	byKey map[receipt.Key]receipt.Record
}

var _ receipt.Store = (*Mem)(nil)

// Append implements receipt.Store.
func (m *Mem) Append(ctx context.Context, receipts []receipt.Receipt) ([]receipt.Status, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := receipt.ValidateAll(receipts); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byKey == nil {
		m.byKey = map[receipt.Key]receipt.Record{}
	}
	statuses := make([]receipt.Status, len(receipts))
	for i := range receipts {
		statuses[i] = m.append(&receipts[i])
	}
	return statuses, receipt.Refusal(receipts, statuses)
}

func (m *Mem) append(r *receipt.Receipt) receipt.Status {
	old, ok := m.byKey[r.Key]
	switch {
	case ok && !r.SameContent(&old.Receipt):
		return receipt.Conflict
	case ok && (!old.DryRun || r.DryRun):
		return receipt.Duplicate
	}
	m.last++
	m.byKey[r.Key] = receipt.Record{Seq: m.last, Receipt: *r}
	return receipt.Inserted
}

// Get implements receipt.Store.
func (m *Mem) Get(ctx context.Context, key receipt.Key) (receipt.Record, error) {
	if err := ctx.Err(); err != nil {
		return receipt.Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.byKey[key]
	if !ok {
		return receipt.Record{}, receipt.ErrNotFound
	}
	return rec, nil
}

// After implements receipt.Store.
func (m *Mem) After(ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error] {
	return func(yield func(receipt.Record, error) bool) {
		for _, rec := range m.sortedAfter(seq) {
			if err := ctx.Err(); err != nil {
				yield(receipt.Record{}, err)
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}

func (m *Mem) sortedAfter(seq uint64) []receipt.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	var recs []receipt.Record
	for _, rec := range m.byKey {
		if rec.Seq > seq {
			recs = append(recs, rec)
		}
	}
	slices.SortFunc(recs, func(a, b receipt.Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return recs
}
