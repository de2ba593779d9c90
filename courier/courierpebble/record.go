package courierpebble

import (
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/computemarket/computemarket/courier"
)

// Keys, all in one namespace. Numbers are big-endian, so that keys sort as the
// numbers do.
//
//	'c' 0                   schema version
//	'c' 1                   meta
//	'c' 2 state seq         record
//	'c' 3 ID                seq
//	'c' 4 bundle ID         nothing; of pending and dead receipts that carry it
//
// A receipt keeps its seq for life. So to acknowledge it, which is done by the
// million, is to delete one key and set another, both in ascending order; the
// keys that are scattered, those by ID and bundle, are not touched.
const (
	namespace     = 'c'
	schemaVersion = 1

	metaSpace   = 1
	recordSpace = 2
	idSpace     = 3
	bundleSpace = 4
)

// place is where a record is.
type place struct {
	state courier.State
	seq   uint64
}

func (p place) before(q place) bool {
	return p.state < q.state || p.state == q.state && p.seq < q.seq
}

func (p place) key() []byte { return p.appendKey(nil) }

func (p place) appendKey(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, namespace, recordSpace, byte(p.state)), p.seq)
}

// decodeKey reads what appendKey wrote.
func decodeKey(b []byte) (place, error) {
	if len(b) != 11 || !listed(courier.State(b[2])) {
		return place{}, fmt.Errorf("%w: key %x", courier.ErrCorrupt, b)
	}
	return place{courier.State(b[2]), binary.BigEndian.Uint64(b[3:])}, nil
}

func decodeSeq(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: a seq of %d bytes", courier.ErrCorrupt, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func listed(s courier.State) bool {
	return s == courier.Pending || s == courier.Acknowledged || s == courier.Dead
}

func idKey(id courier.ID) []byte { return append([]byte{namespace, idSpace}, id[:]...) }

func bundleKey(h courier.Hash) []byte { return append([]byte{namespace, bundleSpace}, h[:]...) }

func bundleIDKey(r *courier.Receipt) []byte { return append(bundleKey(r.Bundle), r.ID[:]...) }

// after returns the least key greater than all that begin with key.
func after(key []byte) []byte {
	key = append([]byte(nil), key...)
	for i := len(key) - 1; i >= 0; i-- {
		if key[i]++; key[i] != 0 {
			return key[:i+1]
		}
	}
	return nil
}

// A record is, in this order: version, ID, bundle, size, sent at, since,
// whether carried, cause, length of the sender, sender, reason. Times are in microseconds since 1970.
const (
	recordVersion = 1
	recordHead    = 1 + 16 + 32 + 8 + 8 + 8 + 1 + 1 + 2
)

func appendRecord(b []byte, r *courier.Receipt) []byte {
	b = append(b, recordVersion)
	b = append(b, r.ID[:]...)
	b = append(b, r.Bundle[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(r.SentAt.UnixMicro()))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Since.UnixMicro()))
	carried := byte(0)
	if r.Carried {
		carried = 1
	}
	b = append(b, carried, byte(r.Cause))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Sender)))
	b = append(b, r.Sender...)
	return append(b, r.Reason...)
}

// decodeRecord reads what appendRecord wrote, and nothing else. The error is
// courier.ErrCorrupt.
func decodeRecord(b []byte, p place) (courier.Receipt, error) {
	bad := func(what string) (courier.Receipt, error) {
		return courier.Receipt{}, fmt.Errorf("%w: record %v/%d: %s", courier.ErrCorrupt, p.state, p.seq, what)
	}
	if len(b) < recordHead {
		return bad("too short")
	}
	if b[0] != recordVersion {
		return bad("unknown version")
	}
	r := courier.Receipt{State: p.state, Seq: p.seq}
	b = b[1:]
	b = b[copy(r.ID[:], b):]
	b = b[copy(r.Bundle[:], b):]
	r.Size = int64(binary.BigEndian.Uint64(b))
	r.SentAt = time.UnixMicro(int64(binary.BigEndian.Uint64(b[8:]))).UTC()
	r.Since = time.UnixMicro(int64(binary.BigEndian.Uint64(b[16:]))).UTC()
	r.Carried, r.Cause = b[24] == 1, courier.Cause(b[25])
	if b[24] > 1 {
		return bad("carried is neither yes nor no")
	}
	n := int(binary.BigEndian.Uint16(b[26:]))
	b = b[28:]
	if n > len(b) {
		return bad("too short for its sender")
	}
	r.Sender, r.Reason = string(b[:n]), string(b[n:])
	if err := r.Validate(); err != nil {
		return bad(err.Error())
	}
	if r.Cause > courier.Damaged || len(r.Reason) > courier.MaxReason || !utf8.ValidString(r.Reason) {
		return bad("cause or reason")
	}
	return r, nil
}

// meta is what the store knows of its lists without walking them. It is written
// with every change.
type meta struct {
	last   uint64 // the greatest seq given
	counts courier.Counts
}

var metaKey = []byte{namespace, metaSpace}

func (m *meta) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, m.last)
	b = binary.BigEndian.AppendUint64(b, m.counts.Pending)
	b = binary.BigEndian.AppendUint64(b, m.counts.Acknowledged)
	return binary.BigEndian.AppendUint64(b, m.counts.Dead)
}

func (m *meta) decode(b []byte) error {
	if len(b) != 32 {
		return fmt.Errorf("%w: meta of %d bytes", courier.ErrCorrupt, len(b))
	}
	m.last = binary.BigEndian.Uint64(b)
	m.counts.Pending = binary.BigEndian.Uint64(b[8:])
	m.counts.Acknowledged = binary.BigEndian.Uint64(b[16:])
	m.counts.Dead = binary.BigEndian.Uint64(b[24:])
	return nil
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
