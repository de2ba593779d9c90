package courierpebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/courier"
)

// meta is what the store knows of its lists without walking them. It is written
// with every change: a version, five numbers of 8 bytes, and the CRC-32C of its
// key and all that. In schema 1 it was the five numbers alone.
type meta struct {
	last   uint64 // the greatest seq given
	counts courier.Counts
}

const (
	metaVersion = 1
	metaNumbers = 5 * 8
	metaBytes   = 1 + metaNumbers + recordSum
)

var metaKey = []byte{namespace, metaSpace}

func (m *meta) encode() []byte {
	b := append(make([]byte, 0, metaBytes), metaVersion)
	for _, n := range m.numbers() {
		b = binary.BigEndian.AppendUint64(b, *n)
	}
	sum := crc32.Update(crc32.Checksum(metaKey, castagnoli), castagnoli, b)
	return binary.BigEndian.AppendUint32(b, sum)
}

func (m *meta) decode(b []byte) error {
	if len(b) != metaBytes {
		return fmt.Errorf("%w: the head record has %d bytes", courier.ErrCorrupt, len(b))
	}
	body := b[:len(b)-recordSum]
	sum := crc32.Update(crc32.Checksum(metaKey, castagnoli), castagnoli, body)
	if sum != binary.BigEndian.Uint32(b[len(body):]) || b[0] != metaVersion {
		return fmt.Errorf("%w: the head record", courier.ErrCorrupt)
	}
	m.decodeNumbers(body[1:])
	return nil
}

func (m *meta) decodeNumbers(b []byte) {
	for i, n := range m.numbers() {
		*n = binary.BigEndian.Uint64(b[8*i:])
	}
}

func (m *meta) numbers() [5]*uint64 {
	return [...]*uint64{&m.last, &m.counts.Pending, &m.counts.Acknowledged, &m.counts.Dead, &m.counts.Aside}
}

// count returns the counter of a list.
func (m *meta) count(s courier.State) *uint64 {
	switch s {
	case courier.Pending:
		return &m.counts.Pending
	case courier.Acknowledged:
		return &m.counts.Acknowledged
	}
	return &m.counts.Dead
}

// upgrade puts a meta with a checksum into b. It believes of one without only
// what it finds.
func (s *Store) upgrade(_ uint16, b *pebble.Batch) error {
	var old meta
	found, err := s.db.Get(metaKey, func(v []byte) error {
		if len(v) != metaNumbers {
			return fmt.Errorf("%w: the head record has %d bytes", courier.ErrCorrupt, len(v))
		}
		old.decodeNumbers(v)
		return nil
	})
	if err != nil || !found {
		return err
	}
	m, err := s.walk()
	if err != nil {
		return err
	}
	m.last = max(m.last, old.last)
	return b.Set(metaKey, m.encode(), nil)
}

// load reads the meta. A store that has receipts and no sound meta is damaged.
func (s *Store) load(recount bool) error {
	found, err := s.db.Get(metaKey, s.meta.decode)
	if err == nil && !found {
		var m meta
		if m, err = s.walk(); err == nil && m.last > 0 {
			err = fmt.Errorf("%w: the head record is lost", courier.ErrCorrupt)
		}
	}
	switch {
	case err == nil:
		return nil
	case !recount || !errors.Is(err, courier.ErrCorrupt):
		return err
	}
	s.log.Error("head record made anew", "err", err)
	return s.recount()
}

// gone is more than the numbers of all receipts that were deleted behind the last
// that is there: a meta made anew must not give one of them again.
const gone = 1 << 40

func (s *Store) recount() error {
	m, err := s.walk()
	if err != nil {
		return err
	}
	if m.last > math.MaxUint64-gone {
		return fmt.Errorf("%w: no number is left", courier.ErrCorrupt)
	}
	m.last += gone
	b := s.db.Batch()
	b.Set(metaKey, m.encode(), nil)
	if err := s.db.Commit(b); err != nil {
		return err
	}
	s.meta = m
	return nil
}

// walk makes a meta of what is stored.
func (s *Store) walk() (m meta, err error) {
	for _, space := range []byte{recordSpace, asideSpace} {
		lo, hi := []byte{namespace, space}, []byte{namespace, space + 1}
		for p, err := range s.db.Scan(lo, hi) {
			if err != nil {
				return meta{}, err
			}
			at, err := decodeKey(append([]byte{namespace, recordSpace}, p.Key[2:]...))
			if err != nil {
				continue // no record
			}
			m.last = max(m.last, at.seq)
			if space == asideSpace {
				m.counts.Aside++
			} else {
				*m.count(at.state)++
			}
		}
	}
	return m, nil
}
