package receiptpebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/receipt"
)

// maxGroup bounds the receipts that are committed at once, and so the memory
// of a commit, unless one caller brings more.
const maxGroup = 1 << 16

// request is one call of Append.
type request struct {
	receipts []receipt.Receipt
	statuses []receipt.Status
	also     func(*pebble.Batch, []receipt.Status) error // of AppendWith
	err      error
}

func (r *request) weight() int { return len(r.receipts) }

// entry is a receipt that the commit in progress puts into the log.
type entry struct {
	seq     uint64
	receipt *receipt.Receipt // nil: promoted further on
}

// Append implements receipt.Store.
func (s *Store) Append(ctx context.Context, receipts []receipt.Receipt) ([]receipt.Status, error) {
	if err := receipt.ValidateAll(receipts); err != nil {
		return nil, err
	}
	if s.db == nil {
		return nil, s.usable()
	}
	r := &request{receipts: receipts, statuses: make([]receipt.Status, len(receipts))}
	if err := s.appends.Do(ctx, r); err != nil {
		return nil, err
	}
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

// commit decides on every receipt of a group and writes what is new in one
// batch. It is never called twice at once, so nothing changes between the
// look-up of a key and the write.
func (s *Store) commit(reqs []*request) {
	s.writing.Lock()
	defer s.writing.Unlock()
	defer s.forget() // also when something panics
	if err := s.commitGroup(reqs); err != nil {
		for _, r := range reqs {
			r.err = err
		}
	}
}

func (s *Store) commitGroup(reqs []*request) error {
	if err := s.usable(); err != nil {
		return err
	}
	b := s.db.Batch()
	if err := s.decide(b, reqs); err != nil {
		b.Close()
		return err
	}
	if write, err := s.with(b, reqs); err != nil || !write {
		return errors.Join(err, b.Close())
	}
	next := s.next + uint64(len(s.entries))
	if len(s.entries) > 0 {
		s.write(b)
		b.Set(markKey, encodeMark(next-1), nil)
	}
	if err := s.db.Commit(b); err != nil {
		return err
	}
	s.next = next
	for _, e := range s.entries {
		s.recent.Add((*[32]byte)(&e.receipt.Key))
	}
	return nil
}

// forget lets go of the callers' receipts, and of memory that only an uncommonly
// long call needs.
func (s *Store) forget() {
	if len(s.entries) > maxGroup {
		s.entries, s.pending = nil, map[receipt.Key]int{}
		return
	}
	clear(s.entries)
	s.entries = s.entries[:0]
	clear(s.pending)
}

// decide fills in the statuses, s.entries and s.pending; of a promoted receipt
// it removes the old place from the log.
func (s *Store) decide(b *pebble.Batch, reqs []*request) error {
	for _, req := range reqs {
		for i := range req.receipts {
			status, err := s.decideOne(b, &req.receipts[i])
			if err != nil {
				return err
			}
			req.statuses[i] = status
		}
	}
	return nil
}

func (s *Store) decideOne(b *pebble.Batch, r *receipt.Receipt) (receipt.Status, error) {
	if i, ok := s.pending[r.Key]; ok {
		e := &s.entries[i]
		switch {
		case !r.SameContent(e.receipt):
			return receipt.Conflict, nil
		case !e.receipt.DryRun || r.DryRun:
			return receipt.Duplicate, nil
		}
		e.receipt = nil // nobody has seen the dry run yet
	} else if s.mayHave(&r.Key) {
		old, found, err := s.lookup(&r.Key)
		switch {
		case found && errors.Is(err, receipt.ErrCorrupt):
			return receipt.Corrupt, nil
		case err != nil:
			return 0, err
		case !found: // a false positive of the filter
		case !r.SameContent(&old.Receipt):
			return receipt.Conflict, nil
		case !old.DryRun || r.DryRun:
			return receipt.Duplicate, nil
		default:
			if err := b.Delete(appendNumbered(nil, spaceLog, old.Seq), nil); err != nil {
				return 0, err
			}
		}
	}
	s.pending[r.Key] = len(s.entries)
	s.entries = append(s.entries, entry{s.next + uint64(len(s.entries)), r})
	return receipt.Inserted, nil
}

// mayHave reports whether the key may be in the index.
func (s *Store) mayHave(key *receipt.Key) bool {
	k := (*[32]byte)(key)
	stored := s.stored.Load()
	return stored == nil || stored.Has(k) || s.recent.Has(k)
}

// write puts s.entries into the log and the index, each in the order of its
// keys, which Pebble takes in faster than any other.
func (s *Store) write(b *pebble.Batch) {
	s.entries = slices.DeleteFunc(s.entries, func(e entry) bool { return e.receipt == nil })
	for _, e := range s.entries {
		op := b.SetDeferred(numberedBytes, e.receipt.BinarySize())
		appendNumbered(op.Key[:0], spaceLog, e.seq)
		e.receipt.AppendValid(op.Value[:0])
		op.Finish()
	}
	slices.SortFunc(s.entries, func(a, b entry) int {
		return bytes.Compare(a.receipt.Key[:], b.receipt.Key[:])
	})
	for _, e := range s.entries {
		op := b.SetDeferred(indexBytes, 8)
		appendIndex(op.Key[:0], &e.receipt.Key)
		binary.BigEndian.PutUint64(op.Value, e.seq)
		op.Finish()
	}
}
