package courierpebble

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
	"unicode/utf8"

	"github.com/computemarket/computemarket/courier"
)

// Keys, all in one namespace. Numbers are big-endian, so that keys sort as the
// numbers do.
//
//	'c' 0                   schema version
//	'c' 1                   meta, see meta.go
//	'c' 6                   the courier's note, which has a checksum of its own
//	'c' 2 state seq         record
//	'c' 3 ID                seq
//	'c' 4 bundle ID         nothing; of pending and dead receipts that carry it
//	'c' 5 state seq         a damaged record, kept aside
//
// A receipt keeps its seq for life. So to acknowledge it, which is done by the
// million, is to delete one key and set another, both in ascending order; the
// keys that are scattered, those by ID and bundle, are not touched.
const (
	namespace     = 'c'
	schemaVersion = 2 // 1 had a meta without a checksum

	metaSpace   = 1
	recordSpace = 2
	idSpace     = 3
	bundleSpace = 4
	asideSpace  = 5
	noteSpace   = 6
)

// place is where a record is.
type place struct {
	state courier.State
	seq   uint64
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.state, q.state), cmp.Compare(p.seq, q.seq))
}

// recordKey is the length of a record's key.
const recordKey = 1 + 1 + 1 + 8

func (p place) key() []byte { return p.appendKey(make([]byte, 0, recordKey+1)) }

func (p place) appendKey(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, namespace, recordSpace, byte(p.state)), p.seq)
}

// decodeKey reads what appendKey wrote.
func decodeKey(b []byte) (place, error) {
	if len(b) != recordKey || !listed(courier.State(b[2])) {
		return place{}, fmt.Errorf("%w: key %x", courier.ErrCorrupt, b)
	}
	return place{courier.State(b[2]), binary.BigEndian.Uint64(b[3:])}, nil
}

// asideKey is where the damaged record of a key is kept.
func asideKey(key []byte) []byte { return append([]byte{namespace, asideSpace}, key[2:]...) }

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

func bundleIDKey(h courier.Hash, id courier.ID) []byte { return append(bundleKey(h), id[:]...) }

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
// whether carried, cause, length of the sender, sender, reason, and the CRC-32C
// of its key and all that. Times are in microseconds since 1970.
const (
	recordVersion = 1
	recordHead    = 1 + 16 + 32 + 8 + 8 + 8 + 1 + 1 + 2
	recordSum     = 4

	sinceAt   = 1 + 16 + 32 + 8 + 8
	carriedAt = sinceAt + 8
	causeAt   = carriedAt + 1
	senderAt  = causeAt + 1 // its length
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendPair appends the key and then the record of r.
func appendPair(b []byte, r *courier.Receipt) []byte {
	start := len(b)
	b = place{r.State, r.Seq}.appendKey(b)
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
	b = append(b, r.Reason...)
	return appendSum(b, b[start:])
}

func appendSum(b, of []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(of, castagnoli))
}

// record is a stored one whose checksum is right.
type record []byte

// checkRecord returns v, stored under key, as a record, or courier.ErrCorrupt.
func checkRecord(key, v []byte) (record, error) {
	bad := func(what string) (record, error) {
		return nil, fmt.Errorf("%w: record %x: %s", courier.ErrCorrupt, key, what)
	}
	if len(v) < recordHead+recordSum {
		return bad("too short")
	}
	body, sum := v[:len(v)-recordSum], binary.BigEndian.Uint32(v[len(v)-recordSum:])
	if crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body) != sum {
		return bad("wrong checksum")
	}
	if v[0] != recordVersion {
		return bad("unknown version")
	}
	if int(binary.BigEndian.Uint16(v[senderAt:])) > len(body)-recordHead {
		return bad("too short for its sender")
	}
	return v, nil
}

func (r record) id() courier.ID       { return courier.ID(r[1:17]) }
func (r record) bundle() courier.Hash { return courier.Hash(r[17:49]) }
func (r record) carried() bool        { return r[carriedAt] == 1 }

// senderEnd is where the sender ends and the reason begins.
func (r record) senderEnd() int { return recordHead + int(binary.BigEndian.Uint16(r[senderAt:])) }

// appendMoved appends the key and the record that m makes of r. It is appendPair
// for those who have only bytes, and leaves them as they are but for what a move
// changes.
func (r record) appendMoved(b []byte, m *courier.Move) []byte {
	start := len(b)
	b = place{m.To, m.Receipt.Seq}.appendKey(b)
	value := len(b)
	b = append(b, r[:r.senderEnd()]...)
	binary.BigEndian.PutUint64(b[value+sinceAt:], uint64(m.At.UnixMicro()))
	b[value+causeAt] = 0
	if m.To == courier.Dead {
		b[value+causeAt] = byte(m.Cause)
		b = append(b, m.Reason...)
	}
	return appendSum(b, b[start:])
}

// decodeRecord reads what appendPair wrote, and nothing else. The error is
// courier.ErrCorrupt.
func decodeRecord(key, v []byte) (courier.Receipt, error) {
	p, err := decodeKey(key)
	if err != nil {
		return courier.Receipt{}, err
	}
	rec, err := checkRecord(key, v)
	if err != nil {
		return courier.Receipt{}, err
	}
	end := rec.senderEnd()
	r := courier.Receipt{
		ID: rec.id(), Bundle: rec.bundle(), Carried: rec.carried(), State: p.state, Seq: p.seq,
		Size:   int64(binary.BigEndian.Uint64(v[49:])),
		SentAt: time.UnixMicro(int64(binary.BigEndian.Uint64(v[57:]))).UTC(),
		Since:  time.UnixMicro(int64(binary.BigEndian.Uint64(v[sinceAt:]))).UTC(),
		Cause:  courier.Cause(v[causeAt]),
		Sender: string(v[recordHead:end]), Reason: string(v[end : len(v)-recordSum]),
	}
	err = r.Validate()
	if err == nil && (v[carriedAt] > 1 || r.Cause > courier.Damaged || len(r.Reason) > courier.MaxReason || !utf8.ValidString(r.Reason)) {
		err = errors.New("carried, cause or reason")
	}
	if err != nil {
		return courier.Receipt{}, fmt.Errorf("%w: record %x: %w", courier.ErrCorrupt, key, err)
	}
	return r, nil
}

var noteKey = []byte{namespace, noteSpace}

// micros is what a record keeps of t.
func micros(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }
