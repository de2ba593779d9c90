package courierpebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/courier"
)

// write is one call of Append, Move or SetNote, or a record to set aside, and its
// result.
type write struct {
	receipt *courier.Receipt // Append
	moves   []courier.Move   // Move
	note    []byte           // SetNote
	damaged []byte           // the key of the record

	stored  courier.Receipt
	applied int
	err     error
}

func (w *write) weight() int { return max(1, len(w.moves)) }

// Append implements [courier.Store].
func (s *Store) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	if err := r.Validate(); err != nil {
		return courier.Receipt{}, err
	}
	r.SentAt = micros(r.SentAt)
	w := &write{receipt: &r}
	if err := s.do(ctx, w); err != nil {
		return courier.Receipt{}, err
	}
	return w.stored, w.err
}

// Move implements [courier.Store].
func (s *Store) Move(ctx context.Context, moves []courier.Move) (int, error) {
	for i := range moves {
		if err := moves[i].Validate(); err != nil {
			return 0, err
		}
	}
	w := &write{moves: moves}
	if err := s.do(ctx, w); err != nil {
		return 0, err
	}
	return w.applied, w.err
}

func (s *Store) do(ctx context.Context, w *write) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	return s.writes.Do(ctx, w)
}

// run makes one batch of the writes that have gathered and commits it.
func (s *Store) run(writes []*write) {
	s.writing.Lock()
	defer s.writing.Unlock()
	defer s.scratch.trim()
	if s.closed.Load() {
		fail(writes, courier.ErrClosed)
		return
	}
	st := stage{store: s, scratch: &s.scratch, meta: s.meta, batch: s.db.Batch()}
	if len(writes) > 1 {
		st.touched = make(map[courier.ID]stored, len(writes))
	}
	for _, w := range writes {
		switch {
		case w.receipt != nil:
			w.stored, w.err = st.append(w.receipt)
		case w.note != nil:
			st.batch.Set(noteKey, w.note, nil)
		case w.damaged != nil:
			w.applied, w.err = st.setAside(w.damaged)
		default:
			st.call++
			w.applied, w.err = st.move(w.moves)
		}
	}
	if st.batch.Empty() {
		st.batch.Close()
		return
	}
	st.batch.Set(metaKey, st.meta.encode(), nil)
	if err := s.db.Commit(st.batch); err != nil {
		fail(writes, err)
		return
	}
	s.meta = st.meta
	s.head.committed(s.meta.last, st.requeued)
}

func fail(writes []*write, err error) {
	for _, w := range writes {
		*w = write{err: err}
	}
}

// stage is a batch in the making.
type stage struct {
	*scratch
	store   *Store
	meta    meta
	batch   *pebble.Batch
	touched map[courier.ID]stored // by this batch; nil if it is of one write
	call    int                   // the number of the Move in this batch
	aside   map[string]bool       // keys of records set aside by this batch

	requeued uint64 // the lowest seq that comes back to the pending list, or 0
}

// stored is a record and where it is; nil when gone.
type stored struct {
	place
	record
	call int // the Move that left it so, or 0
}

// touch remembers what the batch makes of a receipt, for the writes after this.
func (st *stage) touch(id courier.ID, p place, rec []byte, call int) {
	if st.touched != nil {
		st.touched[id] = stored{p, bytes.Clone(rec), call}
	}
}

func (st *stage) append(r *courier.Receipt) (courier.Receipt, error) {
	old, err := st.lookup(r.ID)
	if err != nil {
		return courier.Receipt{}, err
	}
	if old != nil {
		if !old.Same(*r) {
			return *old, fmt.Errorf("%w: %v", courier.ErrConflict, r.ID)
		}
		return *old, nil
	}
	st.meta.last++
	st.meta.counts.Pending++
	n := *r
	n.Seq, n.State, n.Since, n.Cause, n.Reason = st.meta.last, courier.Pending, r.SentAt, 0, ""
	st.buf = appendPair(st.buf[:0], &n)
	st.batch.Set(st.buf[:recordKey], st.buf[recordKey:], nil)
	st.touch(n.ID, place{n.State, n.Seq}, st.buf[recordKey:], 0)
	st.buf = binary.BigEndian.AppendUint64(st.buf[:0], n.Seq)
	st.batch.Set(idKey(n.ID), st.buf, nil)
	if n.Carried {
		st.batch.Set(bundleIDKey(n.Bundle, n.ID), nil, nil)
	}
	return n, nil
}

// lookup returns the receipt as the batch leaves it, or nil.
func (st *stage) lookup(id courier.ID) (*courier.Receipt, error) {
	now, known := st.touched[id]
	if known && now.record == nil {
		return nil, nil
	}
	if known {
		r, err := decodeRecord(now.key(), now.record)
		return &r, err
	}
	r, found, err := st.store.lookup(id)
	if !found || err != nil {
		return nil, err
	}
	return &r, nil
}

func (st *stage) move(moves []courier.Move) (applied int, err error) {
	found, err := st.current(moves) // all of them first: an error leaves the batch as it was
	if err != nil {
		return 0, err
	}
	for i, rec := range found {
		m := &moves[st.order[i]]
		from, to := at(m), place{m.To, m.Receipt.Seq}
		id := m.Receipt.ID
		if now, known := st.touched[id]; known {
			rec = nil
			if now.place == from && now.call != st.call { // else an earlier one of moves took it
				rec = now.record
			}
		}
		if rec == nil {
			continue
		}
		applied++
		st.buf = from.appendKey(st.buf[:0])
		st.batch.Delete(st.buf, nil)
		*st.meta.count(from.state)--
		if m.To == courier.Gone {
			st.batch.Delete(idKey(id), nil)
			st.touch(id, to, nil, st.call)
		} else {
			st.buf = rec.appendMoved(st.buf[:0], m)
			st.batch.Set(st.buf[:recordKey], st.buf[recordKey:], nil)
			*st.meta.count(m.To)++
			st.touch(id, to, st.buf[recordKey:], st.call)
			if m.To == courier.Pending && (st.requeued == 0 || to.seq < st.requeued) {
				st.requeued = to.seq
			}
		}
		if !rec.carried() {
			continue
		}
		needed := from.state != courier.Acknowledged
		needs := m.To == courier.Pending || m.To == courier.Dead
		if needed && !needs {
			st.batch.Delete(bundleIDKey(rec.bundle(), id), nil)
		} else if needs && !needed {
			st.batch.Set(bundleIDKey(rec.bundle(), id), nil, nil)
		}
	}
	return applied, nil
}
