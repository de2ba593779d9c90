package receiptpebble

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"iter"

	"github.com/computemarket/computemarket/internal/bloom"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
)

// Check reads all that is stored and compares the log with the index. What it
// finds is logged, and counted once for each time the store is opened:
//
//   - A damaged receipt is moved aside, and its key stays blocked with
//     receipt.ErrCorrupt.
//   - A key whose receipt is lost stays blocked too.
//   - A receipt that the index has lost, or leads elsewhere, is put back into it.
//   - Of two records of one receipt, which a lost entry of the index leads to,
//     the one for real stays in the log, and else the one that the index names;
//     the other is moved aside.
//
// When Check returns nil, appending new receipts no longer needs to look for
// them on disk.
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
	malformed, highest := false, uint64(0)
	for p, err := range s.scan(ctx, spaceIndex) {
		if err != nil {
			return err
		}
		if len(p.Key) != indexBytes || len(p.Value) != 8 {
			malformed = true
			continue
		}
		key := p.Key[2:]
		filter.Add((*[32]byte)(key))
		seq := binary.BigEndian.Uint64(p.Value)
		highest = max(highest, seq)
		if seq < s.first && !aside[seq] {
			indexed += sum(key, seq)
		}
	}
	if logged != indexed || malformed || highest >= s.nextNumber() {
		// Damage, or a promotion that happened between the two readings.
		if err := s.reconcile(ctx, filter); err != nil {
			return err
		}
	}
	s.stored.Store(filter)
	return nil
}

// nextNumber is above all that have been given.
func (s *Store) nextNumber() uint64 {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.next
}

func (s *Store) scan(ctx context.Context, space byte) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		if err := s.usable(); err != nil {
			yield(kv.Pair{}, err)
			return
		}
		for p, err := range s.db.Scan(bounds(space)) {
			if err == nil {
				err = s.going(ctx)
			}
			if !yield(p, err) || err != nil {
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

// Damaged is an entry of the log that was kept aside.
type Damaged struct {
	Seq uint64
	Raw []byte // as it was found
	Err error  // what is wrong with it; nil: another record of the receipt is in the log
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
