package receiptpebble

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/internal/bloom"
	"github.com/computemarket/computemarket/receipt"
)

// reconcile compares every receipt of the log with the index and mends the
// index: a receipt that it does not know could be recorded twice. Then it looks
// for entries of the index that lead to no receipt.
func (s *Store) reconcile(ctx context.Context, filter *bloom.Filter) error {
	for rec, err := range s.After(ctx, 0) {
		if err != nil {
			return err
		}
		if rec.Seq >= s.first {
			break
		}
		filter.Add((*[32]byte)(&rec.Key))
		if err := s.mend(&rec); err != nil {
			return err
		}
	}
	for p, err := range s.scan(ctx, spaceIndex) {
		if err != nil {
			return err
		}
		if len(p.Key) != indexBytes {
			continue // no key of a receipt
		}
		key := receipt.Key(p.Key[2:])
		filter.Add((*[32]byte)(&key))
		_, _, err := s.lookup(&key)
		if errors.Is(err, receipt.ErrCorrupt) {
			err = s.meet(&key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mend makes the index name rec, unless it rightly names another record.
func (s *Store) mend(rec *receipt.Record) error {
	mended, aside, err := s.mendEntry(rec)
	if mended {
		s.tell(damage{key: rec.Key}, "receipt index mended", "key", rec.Key, "seq", rec.Seq)
	}
	if aside > 0 {
		s.tell(damage{seq: aside}, "second record of a receipt kept aside", "key", rec.Key, "seq", aside)
	}
	return err
}

// mendEntry tells whether it has written the entry, and the number of a second
// record that it has moved aside.
func (s *Store) mendEntry(rec *receipt.Record) (mended bool, aside uint64, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.usable(); err != nil {
		return false, 0, err
	}
	if still, err := s.has(spaceLog, rec.Seq); err != nil || !still {
		return false, 0, err // promoted meanwhile
	}
	named, found, err := s.lookup(&rec.Key)
	b := s.db.Batch()
	switch {
	case err != nil && !errors.Is(err, receipt.ErrCorrupt):
		return false, 0, err
	case found && err == nil && named.Seq == rec.Seq:
		return false, 0, nil
	case found && err == nil && (rec.DryRun || !named.DryRun):
		aside = rec.Seq
	case found && err == nil:
		aside, mended = named.Seq, true
	default:
		if blocked, err := s.blocked(&rec.Key); err != nil || blocked {
			return false, 0, err
		}
		mended = true
	}
	if mended {
		b.Set(appendIndex(nil, &rec.Key), binary.BigEndian.AppendUint64(nil, rec.Seq), nil)
	}
	if aside > 0 {
		if _, err := s.moveAside(b, aside); err != nil {
			return false, 0, err
		}
	}
	if err := s.db.Commit(b); err != nil {
		return false, 0, err
	}
	return mended, aside, nil
}

// meet is told of a key that lookup calls damaged, and sees to it that it is
// counted: what is damaged in its place is moved aside, what is lost is told of.
func (s *Store) meet(key *receipt.Key) error {
	seq, found, err := s.named(key)
	if err != nil {
		return err
	}
	var why error
	var rec receipt.Receipt
	there := false
	if found {
		there, err = s.db.Get(appendNumbered(nil, spaceLog, seq), func(v []byte) error {
			why = rec.UnmarshalBinary(v)
			return nil
		})
	}
	switch {
	case err != nil:
		return err
	case there && why != nil:
		return s.setAside(seq, why)
	case there && rec.Key == *key:
		return nil // mended meanwhile
	}
	if blocked, err := s.blocked(key); err != nil || blocked {
		return err
	}
	s.tell(damage{key: *key}, "receipt lost or unknown to the index", "key", *key)
	return nil
}

// named returns the number that the index has for a key.
func (s *Store) named(key *receipt.Key) (seq uint64, found bool, err error) {
	_, err = s.db.Get(appendIndex(nil, key), func(v []byte) error {
		if found = len(v) == 8; found {
			seq = binary.BigEndian.Uint64(v)
		}
		return nil
	})
	return seq, found, err
}

// blocked reports whether the index leads the key to what was kept aside.
func (s *Store) blocked(key *receipt.Key) (bool, error) {
	seq, found, err := s.named(key)
	if err != nil || !found {
		return false, err
	}
	return s.has(spaceAside, seq)
}

func (s *Store) has(space byte, seq uint64) (bool, error) {
	found, err := s.db.Get(appendNumbered(nil, space, seq), func([]byte) error { return nil })
	return found, err
}

// setAside moves a damaged entry of the log out of the way.
func (s *Store) setAside(seq uint64, why error) error {
	moved, err := s.setAsideNow(seq)
	if moved {
		s.tell(damage{seq: seq}, "damaged receipt kept aside", "seq", seq, "err", why)
	}
	return err
}

func (s *Store) setAsideNow(seq uint64) (moved bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.usable(); err != nil {
		return false, err
	}
	b := s.db.Batch()
	moved, err = s.moveAside(b, seq)
	if err != nil || !moved { // another reader was first
		return false, err
	}
	if err := s.db.Commit(b); err != nil {
		return false, err
	}
	return true, nil
}

// moveAside puts the move of an entry of the log into b, if it is there.
func (s *Store) moveAside(b *pebble.Batch, seq uint64) (found bool, err error) {
	key := appendNumbered(nil, spaceLog, seq)
	found, err = s.db.Get(key, func(raw []byte) error {
		return b.Set(appendNumbered(nil, spaceAside, seq), raw, nil)
	})
	if err != nil || !found {
		return found, err
	}
	return true, b.Delete(key, nil)
}

// damage is what is damaged: a record of the log, the index of a key, or the
// mark.
type damage struct {
	seq  uint64
	key  receipt.Key
	mark bool
}

// tell logs and counts damage, once while the store is open. No lock is held.
func (s *Store) tell(d damage, msg string, args ...any) {
	s.telling.Lock()
	known := s.told[d]
	s.told[d] = true
	s.telling.Unlock()
	if known {
		return
	}
	s.log.Error(msg, args...)
	if s.metrics != nil {
		s.metrics.Corrupt(1)
	}
}
