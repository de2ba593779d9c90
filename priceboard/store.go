package priceboard

import (
	"context"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Snapshot is a board at one moment, as a [Store] keeps it.
type Snapshot struct {
	Window uint64   // of the board that saved it, at least 1
	Prices []uint64 // oldest first, at most Window
}

// Store keeps the latest snapshot of one board. [File] is one; priceboardtest
// has the suite that shows another to keep these promises.
//
// A handle belongs to one board: [Open] loads from it once, and Close ends it.
// All methods are safe for concurrent use, and return ctx's error, with nothing
// done, when ctx is done beforehand.
type Store interface {
	// Load claims the store and returns the snapshot saved last. The claim
	// lasts until Close or the end of the process, however it ends. The caller
	// owns the prices.
	//
	// A damaged snapshot is put where no later Save overwrites it before Load
	// returns ErrCorrupt. If that fails, Load returns another error.
	//
	// Possible errors:
	//   - ErrNoSnapshot: nothing has been saved; the store is claimed
	//   - ErrCorrupt: what was saved is damaged; the store is claimed
	//   - ErrInUse: another handle, or this one, has claimed the store already
	//   - ErrClosed
	//   - any other: the store cannot be read now
	Load(ctx context.Context) (Snapshot, error)

	// Save replaces what was saved. It is atomic: after an error or a crash,
	// Load gives the snapshot before or the new one, whole. On nil the new one
	// is durable. Save claims the store if Load has not. It does not keep or
	// change the prices after it returns.
	//
	// Possible errors:
	//   - ErrSnapshot: s cannot be saved; nothing was written
	//   - ErrInUse: another handle has claimed the store
	//   - ErrClosed
	//   - any other: the store cannot be written now; Save may be tried again
	Save(ctx context.Context, s Snapshot) error

	// Close releases the claim. It is idempotent; later calls of the other
	// methods return ErrClosed.
	Close() error
}

// The saved form, version 1, all little-endian:
//
//	magic    4 bytes "PBRD"
//	version  uint16  1
//	length   uint32  of the payload
//	payload  window uint64, count uint64, then count prices uint64
//	crc      uint32  CRC-32 (IEEE) of all before it
const (
	magic       = "PBRD"
	version     = 1
	formHead    = 10 // magic, version, length
	payloadHead = 16 // window, count
	crcLen      = 4
)

var (
	_ encoding.BinaryAppender    = Snapshot{}
	_ encoding.BinaryMarshaler   = Snapshot{}
	_ encoding.BinaryUnmarshaler = (*Snapshot)(nil)
)

// AppendBinary appends the form of price_board.v1.bin to b.
//
// Possible errors: [ErrSnapshot].
func (s Snapshot) AppendBinary(b []byte) ([]byte, error) {
	n := len(s.Prices)
	switch {
	case s.Window == 0:
		return b, fmt.Errorf("%w: window 0", ErrSnapshot)
	case uint64(n) > s.Window:
		return b, fmt.Errorf("%w: %d prices in a window of %d", ErrSnapshot, n, s.Window)
	case n > MaxWindow:
		return b, fmt.Errorf("%w: %d prices, at most %d fit", ErrSnapshot, n, MaxWindow)
	}
	start := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint32(b, uint32(payloadHead+8*n))
	b = binary.LittleEndian.AppendUint64(b, s.Window)
	b = binary.LittleEndian.AppendUint64(b, uint64(n))
	for _, p := range s.Prices {
		b = binary.LittleEndian.AppendUint64(b, p)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:])), nil
}

// MarshalBinary is AppendBinary to a new slice.
func (s Snapshot) MarshalBinary() ([]byte, error) {
	return s.AppendBinary(make([]byte, 0, formHead+payloadHead+8*len(s.Prices)+crcLen))
}

// UnmarshalBinary is the inverse of AppendBinary: what it accepts, AppendBinary
// writes again byte for byte. It keeps nothing of data, and leaves s as it was
// on error.
//
// Possible errors: [ErrCorrupt].
func (s *Snapshot) UnmarshalBinary(data []byte) error {
	if err := checkHead(data, int64(len(data))); err != nil {
		return err
	}
	body, sum := data[:len(data)-crcLen], binary.LittleEndian.Uint32(data[len(data)-crcLen:])
	if got := crc32.ChecksumIEEE(body); got != sum {
		return fmt.Errorf("%w: CRC %08x, want %08x", ErrCorrupt, got, sum)
	}
	payload := body[formHead:]
	window, count := binary.LittleEndian.Uint64(payload), binary.LittleEndian.Uint64(payload[8:])
	payload = payload[payloadHead:]
	if len(payload)%8 != 0 || count != uint64(len(payload)/8) {
		return fmt.Errorf("%w: count %d in %d bytes of prices", ErrCorrupt, count, len(payload))
	}
	if window == 0 || count > window {
		return fmt.Errorf("%w: count %d in a window of %d", ErrCorrupt, count, window)
	}
	prices := make([]uint64, count)
	for i := range prices {
		prices[i] = binary.LittleEndian.Uint64(payload[8*i:])
	}
	*s = Snapshot{Window: window, Prices: prices}
	return nil
}

// checkHead checks the first bytes of a form of the given size, before anything
// is allocated for the rest.
func checkHead(head []byte, size int64) error {
	if size < formHead+payloadHead+crcLen || len(head) < formHead {
		return fmt.Errorf("%w: %d bytes", ErrCorrupt, size)
	}
	if m := string(head[:4]); m != magic {
		return fmt.Errorf("%w: magic %q", ErrCorrupt, m)
	}
	if v := binary.LittleEndian.Uint16(head[4:]); v != version {
		return fmt.Errorf("%w: unknown version %d", ErrCorrupt, v)
	}
	if n := int64(binary.LittleEndian.Uint32(head[6:])); formHead+n+crcLen != size {
		return fmt.Errorf("%w: payload of %d in %d bytes", ErrCorrupt, n, size)
	}
	return nil
}
