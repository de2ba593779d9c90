package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The format of Pebble's WAL (package record, FormatWALSyncChunks): blocks of 32
// KiB, filled with chunks. A chunk's header, little-endian:
//
//	 0  checksum of all from 6 on, 4 bytes
//	 4  length of what follows the header, 2 bytes
//	 6  encoding: 9 to 12 for chunks of this format
//	 7  low 32 bits of the log's number
//	11  up to where the log had been synced when the chunk was written, 8 bytes
const (
	walBlock  = 32 << 10
	walHeader = 19
)

// checkWAL finds damage in the newest WAL that Pebble takes for its end: Pebble
// looks for chunks behind an invalid one only from the next block on, and so
// loses in silence what had been synced in the last block. A later chunk in the
// same block tells: it says how far the log was durable.
func checkWAL(fs vfs.FS, dir string) error {
	name, number, err := newestWAL(fs, dir)
	if err != nil || name == "" {
		return err
	}
	file, err := fs.Open(fs.PathJoin(dir, name))
	if err != nil {
		return err
	}
	defer file.Close()
	buf := make([]byte, walBlock)
	for start := int64(0); ; start += walBlock {
		n, err := io.ReadFull(file, buf)
		if n == 0 || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		block := buf[:n]
		pos := 0
		for pos+walHeader <= n {
			size, _, ok := walChunk(block[pos:], uint32(number))
			if !ok {
				return witness(block, pos, start, uint32(number))
			}
			pos += size
		}
	}
}

// witness looks behind the invalid chunk at pos for one that was written when
// the log had been synced beyond it.
func witness(block []byte, pos int, start int64, number uint32) error {
	for q := pos + 1; q+walHeader <= len(block); q++ {
		if _, synced, ok := walChunk(block[q:], number); ok && synced > uint64(start)+uint64(pos) {
			return fmt.Errorf("%w: WAL %06d at offset %d, synced up to %d", ErrCorrupt, number, start+int64(pos), synced)
		}
	}
	return nil // the end, or a write that a crash cut off
}

// walChunk returns the size of the chunk that b starts with, and how far the
// log was synced when it was written; ok is false when there is none.
func walChunk(b []byte, number uint32) (size int, synced uint64, ok bool) {
	if b[6] < 9 || b[6] > 12 || binary.LittleEndian.Uint32(b[7:]) != number {
		return 0, 0, false
	}
	size = walHeader + int(binary.LittleEndian.Uint16(b[4:]))
	if size > len(b) {
		return 0, 0, false
	}
	sum := crc32.Checksum(b[6:size], castagnoli)
	if sum = (sum>>15 | sum<<17) + 0xa282ead8; sum != binary.LittleEndian.Uint32(b) {
		return 0, 0, false
	}
	return size, binary.LittleEndian.Uint64(b[11:]), true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newestWAL(fs vfs.FS, dir string) (name string, number uint64, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return "", 0, err
	}
	for _, candidate := range names {
		digits, ok := strings.CutSuffix(candidate, ".log")
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 64); err == nil && (name == "" || n > number) {
			name, number = candidate, n
		}
	}
	return name, number, nil
}
