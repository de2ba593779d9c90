package kv

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// SealBytes is how much longer a sealed value is.
const SealBytes = 4

// Seal returns the CRC-32C of a key and the value under it, so that neither
// passes for another.
func Seal(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// Sealed returns value with its seal behind it, in an array of its own.
func Sealed(key, value []byte) []byte {
	return binary.BigEndian.AppendUint32(value[:len(value):len(value)], Seal(key, value))
}

// Unseal returns the value without its seal, or [ErrCorrupt].
func Unseal(key, sealed []byte) ([]byte, error) {
	n := len(sealed) - SealBytes
	if n < 0 || binary.BigEndian.Uint32(sealed[n:]) != Seal(key, sealed[:n]) {
		return nil, fmt.Errorf("%w: key %q", ErrCorrupt, key)
	}
	return sealed[:n], nil
}
