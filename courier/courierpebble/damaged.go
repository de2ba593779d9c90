package courierpebble

import (
	"bytes"
	"context"
	"iter"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/internal/kv"
)

// Damaged is a record that failed its checksum and was kept aside.
type Damaged struct {
	State courier.State // the list it was in
	Seq   uint64
	Raw   []byte // as it was found, the caller's
	Err   error  // what is wrong with it
}

// Damaged yields what has been kept aside: damaged records that List met. Each
// was logged and is in no list any more, so the others go on without it. Its ID
// stays blocked with courier.ErrCorrupt, and its bundle stays where it is.
// Errors as of List.
func (s *Store) Damaged(ctx context.Context) iter.Seq2[Damaged, error] {
	return func(yield func(Damaged, error) bool) {
		space := []byte{namespace, asideSpace}
		if err := s.usable(ctx); err != nil {
			yield(Damaged{}, err)
			return
		}
		for pair, err := range s.db.Scan(space, after(space)) {
			if err == nil {
				err = s.usable(ctx)
			}
			if err != nil {
				yield(Damaged{}, err)
				return
			}
			key := append([]byte{namespace, recordSpace}, pair.Key[len(space):]...)
			d := Damaged{Raw: bytes.Clone(pair.Value)}
			if p, err := decodeKey(key); err == nil {
				d.State, d.Seq = p.state, p.seq
			}
			_, d.Err = decodeRecord(key, pair.Value)
			if !yield(d, nil) {
				return
			}
		}
	}
}

// setAside moves a damaged record out of the way.
func (s *Store) setAside(ctx context.Context, pair kv.Pair, why error) error {
	w := &write{damaged: bytes.Clone(pair.Key)}
	if err := s.do(ctx, w); err != nil {
		return err
	}
	if w.applied > 0 { // else another reader was first
		s.log.Error("damaged receipt kept aside", "err", why)
	}
	return w.err
}

func (st *stage) setAside(key []byte) (applied int, err error) {
	if st.aside[string(key)] {
		return 0, nil
	}
	_, err = st.store.db.Get(key, func(v []byte) error {
		if _, err := decodeRecord(key, v); err == nil {
			return nil // moved there meanwhile
		}
		applied = 1
		return st.batch.Set(asideKey(key), v, nil)
	})
	if err != nil || applied == 0 {
		return 0, err
	}
	st.batch.Delete(key, nil)
	if st.aside == nil {
		st.aside = map[string]bool{}
	}
	st.aside[string(key)] = true
	if p, err := decodeKey(key); err == nil {
		*st.meta.count(p.state)--
	}
	st.meta.counts.Aside++
	return 1, nil
}
