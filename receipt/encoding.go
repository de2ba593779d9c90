package receipt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// The binary form of a receipt, big-endian:
//
//	 0  encoding version, 1
//	 1  flags: bit 0 is dry_run, the others are 0
//	 2  receipt version, 2 bytes
//	 4  quote_price, 8 bytes
//	12  issued_at, seconds since 1970, 8 bytes, and nanoseconds, 4 bytes
//	24  key, 32 bytes
//	56  job_id, buyer, provider, each as 2 bytes of length and its bytes
//	…   CRC-32C of all before it, 4 bytes
//
// It is canonical: one receipt has one encoding, and what decodes encodes back
// byte for byte.
const (
	encodingVersion = 1
	flagDryRun      = 1
	fixedBytes      = 56
	checksumBytes   = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendBinary implements [encoding.BinaryAppender]. It returns the error of
// [Receipt.Validate], and then b as it was.
func (r *Receipt) AppendBinary(b []byte) ([]byte, error) {
	if err := r.Validate(); err != nil {
		return b, err
	}
	return r.AppendValid(b), nil
}

// AppendValid is AppendBinary for a receipt that has passed Validate.
func (r *Receipt) AppendValid(b []byte) []byte {
	start := len(b)
	flags := byte(0)
	if r.DryRun {
		flags |= flagDryRun
	}
	b = append(b, encodingVersion, flags)
	b = binary.BigEndian.AppendUint16(b, r.Version)
	b = binary.BigEndian.AppendUint64(b, r.QuotePrice)
	b = binary.BigEndian.AppendUint64(b, uint64(r.IssuedAt.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(r.IssuedAt.Nanosecond()))
	b = append(b, r.Key[:]...)
	for _, id := range [...]string{r.JobID, r.Buyer, r.Provider} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(id)))
		b = append(b, id...)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// BinarySize is the length of r's binary form.
func (r *Receipt) BinarySize() int {
	return fixedBytes + 3*2 + len(r.JobID) + len(r.Buyer) + len(r.Provider) + checksumBytes
}

// MarshalBinary implements [encoding.BinaryMarshaler]; errors as of AppendBinary.
func (r *Receipt) MarshalBinary() ([]byte, error) {
	return r.AppendBinary(make([]byte, 0, r.BinarySize()))
}

// UnmarshalBinary implements [encoding.BinaryUnmarshaler]. It keeps nothing of
// data and leaves r alone on an error, which wraps [ErrCorrupt] and says what is
// wrong.
func (r *Receipt) UnmarshalBinary(data []byte) error {
	if len(data) < fixedBytes+checksumBytes {
		return fmt.Errorf("%w: %d bytes are too few", ErrCorrupt, len(data))
	}
	body := data[:len(data)-checksumBytes]
	if binary.BigEndian.Uint32(data[len(body):]) != crc32.Checksum(body, castagnoli) {
		return fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	if body[0] != encodingVersion || body[1]&^flagDryRun != 0 {
		return fmt.Errorf("%w: encoding version %d, flags %#x", ErrCorrupt, body[0], body[1])
	}
	nanos := binary.BigEndian.Uint32(body[20:])
	if nanos >= 1e9 {
		return fmt.Errorf("%w: %d nanoseconds", ErrCorrupt, nanos)
	}
	got := Receipt{
		Version:    binary.BigEndian.Uint16(body[2:]),
		QuotePrice: binary.BigEndian.Uint64(body[4:]),
		IssuedAt:   time.Unix(int64(binary.BigEndian.Uint64(body[12:])), int64(nanos)).UTC(),
		Key:        Key(body[24:fixedBytes]),
		DryRun:     body[1]&flagDryRun != 0,
	}
	ids := string(body[fixedBytes:]) // one allocation for the three
	for _, id := range [...]*string{&got.JobID, &got.Buyer, &got.Provider} {
		if len(ids) < 2 {
			return fmt.Errorf("%w: an id is cut off", ErrCorrupt)
		}
		n := int(ids[0])<<8 | int(ids[1])
		if len(ids) < 2+n {
			return fmt.Errorf("%w: an id is cut off", ErrCorrupt)
		}
		*id, ids = ids[2:2+n], ids[2+n:]
	}
	if ids != "" {
		return fmt.Errorf("%w: %d bytes too many", ErrCorrupt, len(ids))
	}
	if err := got.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	*r = got
	return nil
}
