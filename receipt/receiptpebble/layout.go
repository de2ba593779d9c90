package receiptpebble

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/computemarket/computemarket/receipt"
)

// Keys in the namespace 'r', numbers big-endian:
//
//	r 0          schema version
//	r k KEY      the index: sequence number, 8 bytes
//	r l SEQ      the log: the receipt in its binary form
//	r n          the mark: the last sequence number given, and a CRC-32C
//	r q SEQ      a damaged entry of the log, kept aside as it was found
//
// Invariant: each receipt of the log is named by exactly one entry of the
// index. An entry of the index that names a number without a receipt is what
// blocks the key of a damaged one. The index needs no checksum: an entry counts
// only if the receipt that it names has its key.
//
// Stores of the first releases have no mark. It only keeps the number of a last
// receipt that is lost from being given again, so its absence is no error.
const (
	namespace = 'r'
	schema    = 1

	spaceIndex = 'k'
	spaceLog   = 'l'
	spaceMark  = 'n'
	spaceAside = 'q'

	numberedBytes = 2 + 8
	indexBytes    = 2 + len(receipt.Key{})
)

func appendNumbered(b []byte, space byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, namespace, space), seq)
}

func appendIndex(b []byte, key *receipt.Key) []byte {
	return append(append(b, namespace, spaceIndex), key[:]...)
}

var (
	markKey    = []byte{namespace, spaceMark}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func encodeMark(last uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 12), last)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeMark(b []byte) (last uint64, err error) {
	if len(b) != 12 || binary.BigEndian.Uint32(b[8:]) != crc32.Checksum(b[:8], castagnoli) {
		return 0, fmt.Errorf("%w: the mark of the last number", receipt.ErrCorrupt)
	}
	return binary.BigEndian.Uint64(b), nil
}

func bounds(space byte) (lo, hi []byte) {
	return []byte{namespace, space}, []byte{namespace, space + 1}
}

// seqOf returns the number in a key of the log, or 0, which is none, where the key
// has another length.
func seqOf(numbered []byte) uint64 {
	if len(numbered) != numberedBytes {
		return 0
	}
	return binary.BigEndian.Uint64(numbered[2:])
}
