package courierpebble

import (
	"bytes"
	"slices"

	"github.com/computemarket/computemarket/courier"
)

// scratch is memory that one batch hands on to the next.
type scratch struct {
	buf   []byte
	order []int    // moves by where their receipts are, see current
	found []record // of those moves, in that order
	raw   []byte   // what found points to
}

// maxScratch bounds, in bytes and in moves, the memory that a batch hands on: a
// longer call than most is no reason to keep more.
const (
	maxScratchBytes = 1 << 20
	maxScratchMoves = 4 * groupLimit
)

func (sc *scratch) trim() {
	if cap(sc.buf) > maxScratchBytes || cap(sc.raw) > maxScratchBytes || cap(sc.order) > maxScratchMoves {
		*sc = scratch{}
	}
}

// at is where m's receipt was.
func at(m *courier.Move) place { return place{m.Receipt.State, m.Receipt.Seq} }

// current returns, for the moves in st.order, which it makes, the record in the
// database, or nil if it no longer is where it was. Of moves for one receipt the
// first alone is in that order.
func (st *stage) current(moves []courier.Move) ([]record, error) {
	compare := func(i, j int) int {
		if c := at(&moves[i]).compare(at(&moves[j])); c != 0 {
			return c
		}
		return bytes.Compare(moves[i].Receipt.ID[:], moves[j].Receipt.ID[:])
	}
	st.order, st.found, st.raw = st.order[:0], st.found[:0], st.raw[:0]
	for i := range moves {
		st.order = append(st.order, i)
	}
	slices.SortStableFunc(st.order, compare)
	st.order = slices.CompactFunc(st.order, func(i, j int) bool { return compare(i, j) == 0 })
	st.found = append(st.found, make([]record, len(st.order))...)
	if len(st.order) == 0 {
		return nil, nil
	}
	lo, hi := at(&moves[st.order[0]]), at(&moves[st.order[len(st.order)-1]])
	// A flush moves neighbours: one walk finds them for a tenth of the time.
	if lo.state == hi.state && hi.seq-lo.seq < 4*uint64(len(st.order)) {
		return st.found, st.walk(moves, lo, hi)
	}
	for i, n := range st.order {
		key := at(&moves[n]).key()
		_, err := st.store.db.Get(key, func(v []byte) error {
			st.take(i, &moves[n], key, v)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return st.found, nil
}

func (st *stage) walk(moves []courier.Move, lo, hi place) error {
	i := 0
	for pair, err := range st.store.db.Scan(lo.key(), append(hi.key(), 0)) {
		if err != nil {
			return err
		}
		p, err := decodeKey(pair.Key)
		if err != nil {
			continue // List sees to it
		}
		for ; i < len(st.order); i++ {
			m := &moves[st.order[i]]
			if c := at(m).compare(p); c > 0 {
				break
			} else if c == 0 {
				st.take(i, m, pair.Key, pair.Value)
			}
		}
	}
	return nil
}

// take keeps v as the record found for m, if it is that. A damaged one is not:
// the next List sets it aside.
func (st *stage) take(i int, m *courier.Move, key, v []byte) {
	rec, err := checkRecord(key, v)
	if err != nil || rec.id() != m.Receipt.ID {
		return
	}
	n := len(st.raw)
	st.raw = append(st.raw, rec...)
	st.found[i] = st.raw[n:len(st.raw):len(st.raw)]
}
