package courierpebble

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/courier"
)

// write is one call of Append or Move, and its result.
type write struct {
	receipt *courier.Receipt // Append
	moves   []courier.Move   // Move

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
	w := &write{receipt: &r}
	if err := s.do(ctx, w); err != nil {
		return courier.Receipt{}, err
	}
	return w.stored, w.err
}

// Move implements [courier.Store].
func (s *Store) Move(ctx context.Context, moves []courier.Move) (int, error) {
	for _, m := range moves {
		if err := m.Validate(); err != nil {
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
	st := stage{store: s, meta: s.meta, batch: s.db.Batch(), touched: map[courier.ID]*courier.Receipt{}}
	for _, w := range writes {
		if w.receipt != nil {
			w.stored, w.err = st.append(w.receipt)
		} else {
			w.applied, w.err = st.move(w.moves)
		}
	}
	if st.batch.Empty() {
		st.batch.Close()
		return
	}
	st.batch.Set(metaKey, st.meta.encode(), nil)
	if err := sentinels.Translate(s.db.Commit(st.batch)); err != nil {
		for _, w := range writes {
			*w = write{err: err}
		}
		return
	}
	s.meta = st.meta
	s.last.Store(s.meta.last)
}

// stage is a batch in the making.
type stage struct {
	store   *Store
	meta    meta
	batch   *pebble.Batch
	touched map[courier.ID]*courier.Receipt // as the batch leaves them; nil when gone
	buf     []byte
}

func (st *stage) append(r *courier.Receipt) (courier.Receipt, error) {
	old, known := st.touched[r.ID]
	if !known {
		p, found, err := st.store.place(r.ID)
		if err != nil {
			return courier.Receipt{}, err
		}
		if found {
			stored, found, err := st.store.record(p)
			if err == nil && !found {
				err = fmt.Errorf("%w: receipt %v points nowhere", courier.ErrCorrupt, r.ID)
			}
			if err != nil {
				return courier.Receipt{}, err
			}
			old = &stored
		}
	}
	if old != nil {
		if !old.Same(*r) {
			return *old, fmt.Errorf("%w: %v", courier.ErrConflict, r.ID)
		}
		return *old, nil
	}
	n := *r
	n.Since, n.Cause, n.Reason = r.SentAt, 0, ""
	st.put(&n, courier.Pending)
	st.batch.Set(bundleIDKey(&n), nil, nil)
	return n, nil
}

func (st *stage) move(moves []courier.Move) (applied int, err error) {
	from := make([]*courier.Receipt, len(moves))
	for i := range moves { // read first: an error leaves the batch as it was
		if from[i], err = st.current(&moves[i].Receipt); err != nil {
			return 0, err
		}
	}
	for i := range moves {
		m, r := &moves[i], from[i]
		if r == nil {
			continue
		}
		if now, known := st.touched[r.ID]; known && now != r {
			continue // twice in this call
		}
		applied++
		needed := r.State != courier.Acknowledged
		st.batch.Delete(place{r.State, r.Seq}.key(), nil)
		*st.meta.count(r.State)--
		if m.To == courier.Gone {
			st.batch.Delete(idKey(r.ID), nil)
			st.touched[r.ID] = nil
		} else {
			n := *r
			n.Since, n.Cause, n.Reason = m.At, 0, ""
			if m.To == courier.Dead {
				n.Cause, n.Reason = m.Cause, m.Reason
			}
			st.put(&n, m.To)
		}
		needs := m.To == courier.Pending || m.To == courier.Dead
		if needed && !needs {
			st.batch.Delete(bundleIDKey(r), nil)
		} else if needs && !needed {
			st.batch.Set(bundleIDKey(r), nil, nil)
		}
	}
	return applied, nil
}

// current returns the receipt if it still is where r says, else nil.
func (st *stage) current(r *courier.Receipt) (*courier.Receipt, error) {
	if now, known := st.touched[r.ID]; known {
		if now == nil || now.State != r.State || now.Seq != r.Seq {
			return nil, nil
		}
		return now, nil
	}
	now, found, err := st.store.record(place{r.State, r.Seq})
	if err != nil || !found || now.ID != r.ID {
		return nil, err
	}
	return &now, nil
}

// put writes r at the end of a list.
func (st *stage) put(r *courier.Receipt, to courier.State) {
	st.meta.last++
	*st.meta.count(to)++
	r.State, r.Seq = to, st.meta.last
	p := place{to, r.Seq}
	st.buf = appendRecord(st.buf[:0], r)
	st.batch.Set(p.key(), st.buf, nil)
	st.buf = p.append(st.buf[:0])
	st.batch.Set(idKey(r.ID), st.buf, nil)
	st.touched[r.ID] = r
}
