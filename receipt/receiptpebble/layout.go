package receiptpebble

import (
	"encoding/binary"

	"github.com/computemarket/computemarket/receipt"
)

// Keys in the namespace 'r', numbers big-endian:
//
//	r 0          schema version
//	r k KEY      the index: sequence number, 8 bytes
//	r l SEQ      the log: the receipt in its binary form
//	r q SEQ      a damaged entry of the log, kept aside as it was found
//
// Invariant: each receipt of the log is named by exactly one entry of the
// index. An entry of the index that names a number without a receipt is what
// blocks the key of a damaged one.
const (
	namespace = 'r'
	schema    = 1

	spaceIndex = 'k'
	spaceLog   = 'l'
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

func bounds(space byte) (lo, hi []byte) {
	return []byte{namespace, space}, []byte{namespace, space + 1}
}

func seqOf(numbered []byte) uint64 { return binary.BigEndian.Uint64(numbered[2:]) }
