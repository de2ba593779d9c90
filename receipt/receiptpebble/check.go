package receiptpebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/maphash"
	"iter"

	"github.com/computemarket/computemarket/internal/bloom"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
)

// Check reads all that is stored. A damaged receipt is moved aside, logged and
// counted, and its key stays blocked with receipt.ErrCorrupt. A receipt that the
// index has lost is put back into it. When Check returns nil, appending new
// receipts no longer needs to look for them on disk.
//
// Open calls it, unless Options.CheckLater says otherwise; then the caller does,
// while the store is in use. Possible errors: receipt.ErrCorrupt (more than
// single receipts is damaged), receipt.ErrPoisoned, receipt.ErrClosed, that of
// ctx.
func (s *Store) Check(ctx context.Context) error {
	// What the log and the index say is compared by a sum over both, so that
	// each is read once and in order.
	seed := maphash.MakeSeed()
	sum := func(key []byte, seq uint64) uint64 {
		var b [40]byte
		binary.BigEndian.PutUint64(b[copy(b[:], key):], seq)
		return maphash.Bytes(seed, b[:])
	}
	var logged, indexed uint64
	for rec, err := range s.After(ctx, 0) {
		if err != nil {
			return err
		}
		if rec.Seq >= s.first {
			break
		}
		logged += sum(rec.Key[:], rec.Seq)
	}
	aside, err := s.asideNumbers()
	if err != nil {
		return err
	}
	filter := new(bloom.Filter)
	for p, err := range s.scan(ctx, spaceIndex) {
		if err != nil {
			return err
		}
		if len(p.Key) != indexBytes || len(p.Value) != 8 {
			continue // no key of a receipt; the sums tell
		}
		key := p.Key[2:]
		filter.Add((*[32]byte)(key))
		if seq := binary.BigEndian.Uint64(p.Value); seq < s.first && !aside[seq] {
			indexed += sum(key, seq)
		}
	}
	if logged != indexed {
		// Damage, or a promotion that happened between the two readings.
		if err := s.repairIndex(ctx, filter); err != nil {
			return err
		}
	}
	s.stored.Store(filter)
	return nil
}

func (s *Store) scan(ctx context.Context, space byte) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		for p, err := range s.db.Scan(bounds(space)) {
			if err == nil {
				err = ctx.Err()
			}
			if !yield(p, sentinels.Translate(err)) || err != nil {
				return
			}
		}
	}
}

func (s *Store) asideNumbers() (map[uint64]bool, error) {
	aside := map[uint64]bool{}
	for p, err := range s.scan(context.Background(), spaceAside) {
		if err != nil {
			return nil, err
		}
		aside[seqOf(p.Key)] = true
	}
	return aside, nil
}

// repairIndex compares every receipt of the log with the index, and mends the
// index: a receipt that it does not know could be recorded twice.
func (s *Store) repairIndex(ctx context.Context, filter *bloom.Filter) error {
	for rec, err := range s.After(ctx, 0) {
		if err != nil {
			return err
		}
		if rec.Seq >= s.first {
			break
		}
		filter.Add((*[32]byte)(&rec.Key))
		if err := s.repairEntry(&rec); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) repairEntry(rec *receipt.Record) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	still, err := s.db.Get(appendNumbered(nil, spaceLog, rec.Seq), ignore)
	if err != nil || !still {
		return sentinels.Translate(err) // promoted meanwhile
	}
	key, want := appendIndex(nil, &rec.Key), binary.BigEndian.AppendUint64(nil, rec.Seq)
	right := false
	_, err = s.db.Get(key, func(v []byte) error {
		right = bytes.Equal(v, want)
		return nil
	})
	if err != nil || right {
		return sentinels.Translate(err)
	}
	b := s.db.Batch()
	b.Set(key, want, nil)
	if err := s.db.Commit(b); err != nil {
		return sentinels.Translate(err)
	}
	s.log.Error("receipt index repaired", "key", rec.Key, "seq", rec.Seq)
	s.countCorrupt()
	return nil
}

// setAside moves a damaged entry of the log out of the way.
func (s *Store) setAside(seq uint64, raw []byte, why error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	key := appendNumbered(nil, spaceLog, seq)
	still, err := s.db.Get(key, ignore)
	if err != nil || !still {
		return sentinels.Translate(err) // another reader was first
	}
	b := s.db.Batch()
	b.Set(appendNumbered(nil, spaceAside, seq), raw, nil)
	b.Delete(key, nil)
	if err := s.db.Commit(b); err != nil {
		return sentinels.Translate(err)
	}
	s.log.Error("damaged receipt kept aside", "seq", seq, "err", why)
	s.countCorrupt()
	return nil
}

func ignore([]byte) error { return nil }

func (s *Store) countCorrupt() {
	if s.metrics != nil {
		s.metrics.Corrupt(1)
	}
}

// Damaged is an entry of the log that was kept aside.
type Damaged struct {
	Seq uint64
	Raw []byte // as it was found
	Err error  // what is wrong with it
}

// Damaged yields what has been kept aside, in order of sequence numbers. The
// raw bytes are the caller's. Errors as of After.
func (s *Store) Damaged(ctx context.Context) iter.Seq2[Damaged, error] {
	return func(yield func(Damaged, error) bool) {
		for p, err := range s.scan(ctx, spaceAside) {
			if err != nil {
				yield(Damaged{}, err)
				return
			}
			var r receipt.Receipt
			d := Damaged{Seq: seqOf(p.Key), Raw: append([]byte(nil), p.Value...), Err: r.UnmarshalBinary(p.Value)}
			if !yield(d, nil) {
				return
			}
		}
	}
}
