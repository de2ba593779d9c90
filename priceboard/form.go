package priceboard

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
)

// The saved form, all little-endian. Version 1 is that of other nodes; version 2
// has the parties, too. Whatever is no snapshot in just this form is refused.
//
//	magic    4 bytes "PBRD"
//	version  uint16  1 or 2
//	length   of the payload: uint32 in version 1, uint64 in version 2
//	payload  version 1: window uint64, count uint64, count prices uint64
//	         version 2: window uint64, count uint64, known uint64, names uint64,
//	         count prices uint64, names names (uint32 length, bytes), known
//	         indexes uint32 into the names: the parties of the newest prices.
//	         known is not 0. The names differ, and come in the order in which
//	         the indexes name them first.
//	crc      uint32  CRC-32 (IEEE) of all before it
const (
	magic  = "PBRD"
	crcLen = 4

	head1    = 10 // magic, version, length
	payload1 = 16 // window, count
	head2    = 14
	payload2 = 32 // window, count, known, names
)

var (
	_ encoding.BinaryAppender    = Snapshot{}
	_ encoding.BinaryMarshaler   = Snapshot{}
	_ encoding.BinaryUnmarshaler = (*Snapshot)(nil)
)

var le = binary.LittleEndian

// AppendBinary appends the form of price_board.v1.bin to b: version 2 of it if s
// has parties, and else version 1, which other nodes load, too.
//
// Possible errors: [ErrSnapshot].
func (s Snapshot) AppendBinary(b []byte) ([]byte, error) {
	if err := s.check(); err != nil {
		return b, err
	}
	start := len(b)
	b = append(b, magic...)
	if len(s.Parties) == 0 {
		b = le.AppendUint16(b, 1)
		b = le.AppendUint32(b, uint32(payload1+8*len(s.Prices)))
		b = le.AppendUint64(b, s.Window)
		b = appendPrices(le.AppendUint64(b, uint64(len(s.Prices))), s.Prices)
	} else {
		names, indexes, bytes := s.names()
		if bytes < 0 {
			return b[:start], fmt.Errorf("%w: a name of more than %d bytes", ErrSnapshot, uint32(math.MaxUint32))
		}
		b = le.AppendUint16(b, 2)
		b = le.AppendUint64(b, uint64(payload2+8*len(s.Prices)+4*len(names)+bytes+4*len(indexes)))
		b = le.AppendUint64(b, s.Window)
		b = le.AppendUint64(b, uint64(len(s.Prices)))
		b = le.AppendUint64(b, uint64(len(indexes)))
		b = appendPrices(le.AppendUint64(b, uint64(len(names))), s.Prices)
		for _, name := range names {
			b = append(le.AppendUint32(b, uint32(len(name))), name...)
		}
		for _, i := range indexes {
			b = le.AppendUint32(b, i)
		}
	}
	return le.AppendUint32(b, crc32.ChecksumIEEE(b[start:])), nil
}

func appendPrices(b []byte, prices []uint64) []byte {
	b = slices.Grow(b, 8*len(prices)+crcLen)
	for _, p := range prices {
		b = le.AppendUint64(b, p)
	}
	return b
}

// names returns each name once, which of them each party has, and how many bytes
// the names are; less than 0 if one is too long.
func (s Snapshot) names() (names []string, indexes []uint32, bytes int) {
	seen := map[string]uint32{}
	indexes = make([]uint32, len(s.Parties))
	for i, name := range s.Parties {
		at, ok := seen[name]
		if !ok {
			if uint64(len(name)) > math.MaxUint32 {
				return nil, nil, -1
			}
			at = uint32(len(names))
			seen[name] = at
			names = append(names, name)
			bytes += len(name)
		}
		indexes[i] = at
	}
	return names, indexes, bytes
}

// MarshalBinary is AppendBinary to a new slice.
func (s Snapshot) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

// UnmarshalBinary is the inverse of AppendBinary: what it accepts, AppendBinary
// writes again byte for byte. It keeps nothing of data, and leaves s as it was
// on error.
//
// Possible errors: [ErrCorrupt]; [ErrSchema] for a version that is not known.
func (s *Snapshot) UnmarshalBinary(data []byte) error {
	version, err := checkHead(data, int64(len(data)))
	if err != nil {
		return err
	}
	if version > 2 {
		return newer(data, version)
	}
	body, sum := data[:len(data)-crcLen], le.Uint32(data[len(data)-crcLen:])
	if got := crc32.ChecksumIEEE(body); got != sum {
		return fmt.Errorf("%w: CRC %08x, want %08x", ErrCorrupt, got, sum)
	}
	decode := decode1
	if version == 2 {
		decode = decode2
	}
	got, err := decode(body)
	if err != nil {
		return err
	}
	*s = got
	return nil
}

// newer is the error of data with a version that is not known: unless it is of a
// known one, but for the version, which is damage.
func newer(data []byte, version uint16) error {
	for known := range uint16(2) {
		c := slices.Clone(data)
		le.PutUint16(c[4:], known+1)
		if new(Snapshot).UnmarshalBinary(c) == nil {
			return fmt.Errorf("%w: version %d of a file that is version %d", ErrCorrupt, version, known+1)
		}
	}
	return fmt.Errorf("%w: version %d, known are 1 and 2", ErrSchema, version)
}

// checkHead checks the first bytes of a form of the given size, before anything
// is allocated for the rest.
func checkHead(head []byte, size int64) (version uint16, err error) {
	if len(head) < len(magic)+2 {
		return 0, fmt.Errorf("%w: %d bytes", ErrCorrupt, size)
	}
	if m := string(head[:len(magic)]); m != magic {
		return 0, fmt.Errorf("%w: magic %q", ErrCorrupt, m)
	}
	version = le.Uint16(head[len(magic):])
	switch known := fits1(head, size) || fits2(head, size); {
	case version == 1 && !fits1(head, size), version == 2 && !fits2(head, size), version == 0:
		return 0, fmt.Errorf("%w: version %d in %d bytes", ErrCorrupt, version, size)
	case version > 2 && !known:
		return 0, fmt.Errorf("%w: version %d, known are 1 and 2", ErrSchema, version)
	}
	return version, nil
}

// fits1 reports whether size is what a head of version 1 says.
func fits1(head []byte, size int64) bool {
	return len(head) >= head1 && size >= head1+payload1+crcLen && int64(le.Uint32(head[6:])) == size-head1-crcLen
}

// fits2 is fits1 for version 2.
func fits2(head []byte, size int64) bool {
	return len(head) >= head2 && size >= head2+payload2+crcLen && le.Uint64(head[6:]) == uint64(size-head2-crcLen)
}

func decode1(body []byte) (Snapshot, error) {
	r := reader{rest: body[head1:]}
	s := Snapshot{Window: r.uint64()}
	count := r.uint64()
	if len(r.rest)%8 != 0 || count != uint64(len(r.rest)/8) {
		return s, fmt.Errorf("%w: count %d in %d bytes of prices", ErrCorrupt, count, len(r.rest))
	}
	s.Prices = r.prices(count)
	return s, s.decoded()
}

func decode2(body []byte) (Snapshot, error) {
	r := reader{rest: body[head2:]}
	s := Snapshot{Window: r.uint64()}
	count, known, n := r.uint64(), r.uint64(), r.uint64()
	if count > uint64(len(r.rest)/8) || known == 0 || known > count || n == 0 || n > known {
		return s, fmt.Errorf("%w: %d prices, %d parties, %d names in %d bytes", ErrCorrupt, count, known, n, len(r.rest))
	}
	s.Prices = r.prices(count)
	names, seen := make([]string, 0, min(n, uint64(len(r.rest)/4))), map[string]bool{}
	for range n {
		name, ok := r.name()
		if !ok || seen[name] {
			return s, fmt.Errorf("%w: name %d", ErrCorrupt, len(names))
		}
		seen[name] = true
		names = append(names, name)
	}
	if uint64(len(r.rest)) != 4*known {
		return s, fmt.Errorf("%w: %d bytes for %d parties", ErrCorrupt, len(r.rest), known)
	}
	s.Parties = make([]string, known)
	used := uint64(0) // names are first used in their order
	for i := range s.Parties {
		at := uint64(le.Uint32(r.rest[4*i:]))
		if at > used || at == n {
			return s, fmt.Errorf("%w: party %d has name %d", ErrCorrupt, i, at)
		}
		used = max(used, at+1)
		s.Parties[i] = names[at]
	}
	if used != n {
		return s, fmt.Errorf("%w: %d of %d names are used", ErrCorrupt, used, n)
	}
	return s, s.decoded()
}

// decoded is check for what was read.
func (s Snapshot) decoded() error {
	if err := s.check(); err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return nil
}

// reader takes apart a payload whose size was checked.
type reader struct{ rest []byte }

func (r *reader) uint64() uint64 {
	v := le.Uint64(r.rest)
	r.rest = r.rest[8:]
	return v
}

func (r *reader) prices(n uint64) []uint64 {
	prices := make([]uint64, n)
	for i := range prices {
		prices[i] = r.uint64()
	}
	return prices
}

func (r *reader) name() (name string, ok bool) {
	if len(r.rest) < 4 {
		return "", false
	}
	n := uint64(le.Uint32(r.rest))
	r.rest = r.rest[4:]
	if n > uint64(len(r.rest)) {
		return "", false
	}
	name, r.rest = string(r.rest[:n]), r.rest[n:]
	return name, true
}
