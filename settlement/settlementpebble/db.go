// Package settlementpebble keeps the ledger of credits and the state of a
// settlement engine on disk, in Pebble.
//
//	db, err := pebbledb.Open("data", nil)
//	ledger, err := settlementpebble.NewLedger(db, nil)
//	state, err := settlementpebble.NewStore(db, nil)
//
// One database can hold both, and the log of package receiptpebble besides.
// Callers that post at the same time are committed together, with one fsync.
// After a failed write every call returns settlement.ErrPoisoned until the
// database is opened again.
package settlementpebble

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/computemarket/computemarket/settlement"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const sealBytes = 4

// seal returns the CRC-32C of a key and the value under it, so that neither
// passes for another.
func seal(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// sealed returns value with its seal.
func sealed(key, value []byte) []byte {
	return binary.BigEndian.AppendUint32(value[:len(value):len(value)], seal(key, value))
}

// unseal returns the value without its seal, or settlement.ErrCorrupt.
func unseal(key, sealed []byte) ([]byte, error) {
	n := len(sealed) - sealBytes
	if n < 0 || binary.BigEndian.Uint32(sealed[n:]) != seal(key, sealed[:n]) {
		return nil, fmt.Errorf("%w: key %q", settlement.ErrCorrupt, key)
	}
	return sealed[:n], nil
}
