package kv

import (
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Pair is a key and its value.
type Pair struct{ Key, Value []byte }

// Scan yields the pairs with lo <= key < hi in key order, as they stood, all
// durable, when the iteration began. The slices are valid until the next step.
// Any method of db may be called from the body of the loop, Close too, after
// which the next step is [ErrClosed]. Errors as of [DB.Get]; the first ends the
// iteration.
func (db *DB) Scan(lo, hi []byte) iter.Seq2[Pair, error] {
	return db.walk(lo, hi, (*pebble.Iterator).First, (*pebble.Iterator).Next)
}

// ScanBack is Scan from the greatest key to the least.
func (db *DB) ScanBack(lo, hi []byte) iter.Seq2[Pair, error] {
	return db.walk(lo, hi, (*pebble.Iterator).Last, (*pebble.Iterator).Prev)
}

func (db *DB) walk(lo, hi []byte, begin, next func(*pebble.Iterator) bool) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		s, err := db.scan(lo, hi)
		if err != nil {
			yield(Pair{}, err)
			return
		}
		defer db.log.flush()
		defer db.scans.end(s)
		for move := begin; ; move = next {
			ok, err := s.step(move)
			if err != nil {
				yield(Pair{}, err)
				return
			}
			if !ok || !yield(s.pair, nil) {
				return
			}
		}
	}
}

// Last returns the greatest key below hi that is not below lo, and its value,
// the caller's both; ok is false when there is none. Errors as of [DB.Get].
func (db *DB) Last(lo, hi []byte) (p Pair, ok bool, err error) {
	s, err := db.scan(lo, hi)
	if err != nil {
		return Pair{}, false, err
	}
	defer db.log.flush()
	defer db.scans.end(s)
	ok, err = s.step((*pebble.Iterator).Last)
	return s.pair, ok, err
}

// scan opens a snapshot while no commit is in flight: all it shows is durable.
// The caller ends it.
func (db *DB) scan(lo, hi []byte) (*scan, error) {
	if err := db.made(); err != nil {
		return nil, err
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	if err := db.usable(); err != nil {
		return nil, err
	}
	it, err := db.pebble.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return nil, translate(err)
	}
	return db.scans.begin(it), nil
}

// A scan is an iteration in progress. Its lock is held for a step, and not while
// the caller looks at the pair, which is a copy: so Close can take the iterator
// away between two steps, and need not wait for anybody's loop.
type scan struct {
	mu   sync.Mutex
	it   *pebble.Iterator // nil once closed
	pair Pair
}

func (s *scan) step(move func(*pebble.Iterator) bool) (ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.it == nil {
		return false, ErrClosed
	}
	if !move(s.it) {
		return false, translate(s.it.Error())
	}
	v, err := s.it.ValueAndErr()
	if err != nil {
		return false, translate(err)
	}
	s.pair.Key = append(s.pair.Key[:0], s.it.Key()...)
	s.pair.Value = append(s.pair.Value[:0], v...)
	return true, nil
}

func (s *scan) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.it != nil {
		s.it.Close()
		s.it = nil
	}
}

// scans are those in progress.
type scans struct {
	mu  sync.Mutex
	all map[*scan]bool
}

func (ss *scans) begin(it *pebble.Iterator) *scan {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.all == nil {
		ss.all = map[*scan]bool{}
	}
	s := &scan{it: it}
	ss.all[s] = true
	return s
}

func (ss *scans) end(s *scan) {
	s.close()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.all, s)
}

// closeAll closes every scan in progress. None begins any more.
func (ss *scans) closeAll() {
	ss.mu.Lock()
	all := slices.Collect(maps.Keys(ss.all))
	ss.mu.Unlock()
	for _, s := range all {
		s.close()
	}
}
