package kv

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// chunk is one of Pebble's WAL, as its format says: see walcheck.go.
func chunk(encoding byte, number uint32, synced uint64, payload int) []byte {
	b := make([]byte, walHeader+payload)
	binary.LittleEndian.PutUint16(b[4:], uint16(payload))
	b[6] = encoding
	binary.LittleEndian.PutUint32(b[7:], number)
	binary.LittleEndian.PutUint64(b[11:], synced)
	sum := crc32.Checksum(b[6:], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(b, (sum>>15|sum<<17)+0xa282ead8)
	return b
}

func TestCheckWAL(t *testing.T) {
	const number = 12
	good := func(payload int) []byte { return chunk(9, number, 0, payload) }
	witness := func(synced int) []byte { return chunk(12, number, uint64(synced), 3) }
	bad := make([]byte, 40) // no chunk begins with zeros
	full := good(walBlock - walHeader)
	join := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	for name, c := range map[string]struct {
		log     []byte
		corrupt bool
	}{
		"empty":                       {nil, false},
		"sound":                       {join(good(5), good(0)), false},
		"cut off":                     {join(good(5), good(9)[:20]), false},
		"unwritten space":             {join(good(5), bad), false},
		"damage behind the sync":      {join(good(5), bad, witness(24)), false}, // synced up to where it begins
		"damage before the sync":      {join(good(5), bad, witness(25)), true},
		"the first chunk":             {join(bad, witness(1)), true},
		"a witness right behind":      {join(make([]byte, 1), witness(1)), true},
		"an empty witness at the end": {join(bad, chunk(10, number, 1, 0)), true},
		"encoding 8":                  {join(bad, chunk(8, number, 1, 3)), false},
		"encoding 13":                 {join(bad, chunk(13, number, 1, 3)), false},
		"another log's":               {join(bad, chunk(11, number+1, 1, 3)), false},
		"a full block, then sound":    {join(full, good(5)), false},
		"a full block, then damage":   {join(full, bad, witness(walBlock+1)), true},
		"a full block, then the end":  {join(full, bad, witness(walBlock)), false},
		"two full blocks":             {join(full, full), false},
		"two full blocks, damage":     {join(full, full, good(1), bad, witness(2*walBlock+21)), true},
	} {
		fs := vfs.NewMem()
		put := func(name string, b []byte) {
			f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
			if err == nil {
				_, err = f.Write(b)
			}
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}
		put("000012.log", c.log)
		// Only the newest log is looked at, and what else ends in .log is none.
		put("000009.log", join(make([]byte, 40), chunk(9, 9, 1, 3)))
		put("x.log", nil)
		put("000013.sst", nil)
		if err := checkWAL(fs, ""); errors.Is(err, ErrCorrupt) != c.corrupt || !c.corrupt && err != nil {
			t.Errorf("%s: %v, want ErrCorrupt: %v", name, err, c.corrupt)
		}
	}
	if err := checkWAL(vfs.NewMem(), ""); err != nil {
		t.Errorf("no log: %v", err)
	}
}
