package marketpebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement/market"
)

func isNotFound(err error) bool { return errors.Is(err, market.ErrNotFound) }

// Order implements market.Store.
func (s *Store) Order(ctx context.Context, id string) (market.Order, error) {
	if err := s.usable(ctx); err != nil {
		return market.Order{}, err
	}
	return s.byID(ctx, id)
}

func (s *Store) byID(ctx context.Context, id string) (market.Order, error) {
	var seq uint64
	found, err := s.get(indexKey(id), func(v []byte) error {
		if len(v) != 8 {
			return fmt.Errorf("%w: the index of order %q", market.ErrCorrupt, id)
		}
		seq = binary.BigEndian.Uint64(v)
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: order %q", market.ErrNotFound, id)
	}
	if err != nil {
		return market.Order{}, err
	}
	o, err := s.bySeq(ctx, seq)
	if isNotFound(err) || err == nil && o.ID != id {
		err = fmt.Errorf("%w: the index leads order %q to number %d", market.ErrCorrupt, id, seq)
	}
	if err != nil {
		return market.Order{}, err
	}
	return o, nil
}

// bySeq returns the order with the number. Possible errors: market.ErrNotFound,
// market.ErrCorrupt, those of the database.
func (s *Store) bySeq(ctx context.Context, seq uint64) (o market.Order, err error) {
	found, err := s.get(seqKey(spaceTerms, seq), func(v []byte) (err error) {
		o, err = market.DecodeTerms(v)
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: order %d", market.ErrNotFound, seq)
	}
	if err == nil && o.Seq != seq {
		err = fmt.Errorf("%w: order %d says that it is %d", market.ErrCorrupt, seq, o.Seq)
	}
	if err != nil {
		return market.Order{}, err
	}
	found, err = s.get(seqKey(spaceProgress, seq), func(v []byte) (err error) {
		o.Progress, err = market.DecodeHead(v)
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: the progress of order %d is lost", market.ErrCorrupt, seq)
	}
	if err == nil && len(o.Slices) > 0 {
		o.Outcomes, err = s.outcomes(ctx, seq)
	}
	if err != nil {
		return market.Order{}, err
	}
	return o, nil
}

func (s *Store) outcomes(ctx context.Context, seq uint64) (all []market.Outcome, err error) {
	for p, err := range s.db.Scan(seqKey(spaceOutcome, seq), seqKey(spaceOutcome, seq+1)) {
		if err == nil {
			err = s.going(ctx)
		}
		var v []byte
		if err == nil {
			v, err = kv.Unseal(p.Key, p.Value)
		}
		var o market.Outcome
		if err == nil {
			o, err = market.DecodeOutcome(v)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

// going returns why an iteration ends before its end.
func (s *Store) going(ctx context.Context) error {
	if s.closed.Load() {
		return market.ErrClosed
	}
	return ctx.Err()
}

// Orders implements market.Store. It walks the index that says most: that of the
// account, that of what is open, or all.
func (s *Store) Orders(ctx context.Context, f market.Filter) iter.Seq2[market.Order, error] {
	return func(yield func(market.Order, error) bool) {
		if err := s.usable(ctx); err != nil {
			yield(market.Order{}, err)
			return
		}
		prefix := []byte{namespace, spaceTerms}
		switch {
		case f.Account != "":
			prefix = accountPrefix(f.Account)
		case f.State == market.Open:
			prefix = []byte{namespace, spaceOpen}
		}
		scan := s.db.Scan
		if f.Newest {
			scan = s.db.ScanBack
		}
		for p, err := range scan(from(prefix, f.From, f.Newest)) {
			if err == nil {
				err = s.going(ctx)
			}
			if err != nil {
				yield(market.Order{}, err)
				return
			}
			seq := seqOf(p.Key, len(prefix))
			if seq == 0 {
				continue
			}
			o, err := s.bySeq(ctx, seq)
			switch {
			case isNotFound(err) || errors.Is(err, market.ErrCorrupt):
				s.tell(seq, err)
				continue
			case err != nil:
				yield(market.Order{}, err)
				return
			}
			if f.Lets(&o) && !yield(o, nil) {
				return
			}
		}
	}
}

// tell logs and counts a damaged order, once while the store is open.
func (s *Store) tell(seq uint64, err error) {
	s.telling.Lock()
	known := s.told[seq]
	s.told[seq] = true
	s.telling.Unlock()
	if known {
		return
	}
	s.opts.Logger.Error("damaged order", "seq", seq, "err", err)
	if s.opts.Corrupt != nil {
		s.opts.Corrupt()
	}
}

// Assignments implements market.Store. One that is damaged is passed over: its
// units are open.
func (s *Store) Assignments(ctx context.Context) iter.Seq2[market.Assignment, error] {
	return func(yield func(market.Assignment, error) bool) {
		if err := s.usable(ctx); err != nil {
			yield(market.Assignment{}, err)
			return
		}
		lo, hi := []byte{namespace, spaceAssignment}, []byte{namespace, spaceAssignment + 1}
		for p, err := range s.db.Scan(lo, hi) {
			if err == nil {
				err = s.going(ctx)
			}
			if err != nil {
				yield(market.Assignment{}, err)
				return
			}
			v, err := kv.Unseal(p.Key, p.Value)
			var a market.Assignment
			if err == nil {
				a, err = market.DecodeAssignment(v)
			}
			if err != nil {
				s.opts.Logger.Error("damaged assignment", "err", err)
				continue
			}
			if !yield(a, nil) {
				return
			}
		}
	}
}

// Content implements market.Store.
func (s *Store) Content(ctx context.Context, order uint64, slice int) (data []byte, err error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	missing := fmt.Errorf("%w: slice %d of order %d", market.ErrNotFound, slice, order)
	if slice < 0 || slice >= market.MaxSlices {
		return nil, missing
	}
	found, err := s.get(sliceKey(spaceContent, order, slice), func(v []byte) error {
		data = append(make([]byte, 0, len(v)), v...)
		return nil
	})
	if err == nil && !found {
		err = missing
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}
