package priceboard

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const vector = "testdata/price_board.v1.bin"

// seal puts the right CRC behind body.
func seal(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(slices.Clone(body), crc32.ChecksumIEEE(body))
}

func TestVector(t *testing.T) {
	want, err := os.ReadFile(vector)
	if err != nil {
		t.Fatal(err)
	}
	var s Snapshot
	if err := s.UnmarshalBinary(want); err != nil {
		t.Fatal(err)
	}
	if s.Window != 100 || !slices.Equal(s.Prices, []uint64{1, 2, 3, 4, 5}) {
		t.Errorf("%+v", s)
	}

	// Through a board and its file, load and save give the same bytes.
	path := filepath.Join(t.TempDir(), "price_board.v1.bin")
	if err := os.WriteFile(path, want, 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), File(path, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got, ok := b.Bands(); got != (Bands{2, 3, 4, 5}) || !ok {
		t.Errorf("Bands: %+v, %v", got, ok)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("saved again: %x, %v", got, err)
	}
}

// damages are the ways in which saved bytes can be wrong.
func damages(t *testing.T) map[string][]byte {
	good, err := os.ReadFile(vector)
	if err != nil {
		t.Fatal(err)
	}
	body := good[:len(good)-crcLen]
	with := func(at int, b ...byte) []byte {
		c := slices.Clone(body)
		copy(c[at:], b)
		return seal(c)
	}
	return map[string][]byte{
		"nothing":              {},
		"one byte":             good[:1],
		"cut in the header":    good[:7],
		"cut in the prices":    good[:len(good)-9],
		"a byte more":          append(slices.Clone(good), 0),
		"wrong magic":          with(0, 'p'),
		"version 2 of 1":       with(4, 2),
		"version 3 of 1":       slices.Concat(good[:4], []byte{3}, good[5:]),
		"version 0":            with(4, 0),
		"length too small":     with(6, 55),
		"length too big":       with(6, 0xff, 0xff, 0xff, 0xff),
		"window 0":             with(10, 0),
		"count beyond window":  with(10, 4),
		"count too small":      with(18, 4),
		"count too big":        with(18, 6),
		"count huge":           with(18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"count wraps to 5":     with(18, 5, 0, 0, 0, 0, 0, 0, 0x20),
		"odd payload":          seal(append(with(6, 57)[:len(body)], 0)),
		"payload without room": seal([]byte("PBRD\x01\x00\x00\x00\x00\x00")),
		"half a payload head":  seal([]byte("PBRD\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00")),
		"all but a byte of it": seal(append([]byte("PBRD\x01\x00\x0f\x00\x00\x00\x01"), make([]byte, 14)...)),
		"wrong CRC":            append(slices.Clone(body), 0, 0, 0, 0),
		"zeros":                make([]byte, len(good)),
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for name, data := range damages(t) {
		s := Snapshot{Window: 7}
		if err := s.UnmarshalBinary(data); !errors.Is(err, ErrCorrupt) || s.Window != 7 {
			t.Errorf("%s: %v, %+v, want ErrCorrupt", name, err, s)
		}
	}
	// Any single flipped bit.
	good, _ := os.ReadFile(vector)
	for i := range len(good) * 8 {
		data := slices.Clone(good)
		data[i/8] ^= 1 << (i % 8)
		if err := new(Snapshot).UnmarshalBinary(data); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit %d flipped: %v, want ErrCorrupt", i, err)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	for _, s := range []Snapshot{{}, {Prices: []uint64{1}}, {Window: 1, Prices: []uint64{1, 2}}} {
		if b, err := s.AppendBinary([]byte("x")); !errors.Is(err, ErrSnapshot) || string(b) != "x" {
			t.Errorf("%+v: %q, %v, want ErrSnapshot", s, b, err)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	good, err := os.ReadFile(vector)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:20])
	f.Add(good[:4]) // with a sum behind it, of a newer version
	f.Add([]byte{})
	s := Snapshot{Window: math.MaxUint64, Prices: []uint64{0, math.MaxUint64}}
	if b, err := s.MarshalBinary(); err != nil {
		f.Fatal(err)
	} else {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, d := range [][]byte{data, seal(data)} { // or the CRC stops it all
			var s Snapshot
			if err := s.UnmarshalBinary(d); err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrSchema) {
					t.Fatalf("%v, want ErrCorrupt", err)
				}
				continue
			}
			if again, err := s.MarshalBinary(); err != nil || !bytes.Equal(again, d) {
				t.Fatalf("%x came back as %x, %v", d, again, err)
			}
		}
	})
}

func FuzzMarshal(f *testing.F) {
	f.Add(uint64(100), []byte("12345678abcdefgh"))
	f.Fuzz(func(t *testing.T, window uint64, b []byte) {
		s := Snapshot{Window: window}
		for ; len(b) >= 8; b = b[8:] {
			s.Prices = append(s.Prices, binary.BigEndian.Uint64(b))
		}
		data, err := s.MarshalBinary()
		if err != nil {
			if window != 0 && window >= uint64(len(s.Prices)) {
				t.Fatal(err)
			}
			return
		}
		var back Snapshot
		if err := back.UnmarshalBinary(data); err != nil || back.Window != window || !slices.Equal(back.Prices, s.Prices) {
			t.Fatalf("%+v came back as %+v, %v", s, back, err)
		}
	})
}

// TestDamagedFile: every kind of damage is kept aside, byte for byte, and the
// next board starts fresh and can save.
func TestDamagedFile(t *testing.T) {
	for name, data := range damages(t) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "price_board.v1.bin")
			for round, aside := range []string{".corrupt", ".corrupt.1", ".corrupt.2"} {
				if err := os.WriteFile(path, data, 0o644); err != nil {
					t.Fatal(err)
				}
				log := new(recorder)
				b, err := Open(t.Context(), File(path, nil), &Options{Logger: log.logger()})
				if err != nil {
					t.Fatal(err)
				}
				r := b.LoadResult()
				if r.Outcome != Damaged || !errors.Is(r.Err, ErrCorrupt) || r.Aside != path+aside || r.Prices != 0 {
					t.Errorf("%+v", r)
				}
				if got := log.messages(); !slices.Equal(got, []string{"WARN price board damaged, starts empty"}) {
					t.Errorf("logged %q, want one warning", got)
				}
				if got, err := os.ReadFile(r.Aside); err != nil || !bytes.Equal(got, data) {
					t.Errorf("round %d: kept %x, %v", round, got, err)
				}
				if bands, ok := b.Bands(); ok || bands != (Bands{}) {
					t.Errorf("%+v, %v", bands, ok)
				}
				b.Record(7)
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				var s Snapshot
				if got, err := os.ReadFile(path); err != nil || s.UnmarshalBinary(got) != nil || !slices.Equal(s.Prices, []uint64{7}) {
					t.Errorf("saved %+v, %v", s, err)
				}
			}
		})
	}
}

func TestFileOpenErrors(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{
		"a folder":       dir,
		"missing folder": filepath.Join(dir, "no", "such", "file"),
	} {
		b, err := Open(t.Context(), File(path, nil), nil)
		if err == nil || b != nil {
			t.Errorf("%s: opened", name)
		}
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(done, File(filepath.Join(dir, "x"), nil), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("done context: %v", err)
	}
	if _, err := Open(t.Context(), nil, nil); !errors.Is(err, ErrNoStore) {
		t.Errorf("no store: %v", err)
	}
	if _, err := Open(t.Context(), File(filepath.Join(dir, "x"), nil), &Options{Window: -1}); !errors.Is(err, ErrOptions) {
		t.Errorf("bad options: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(dir)+".lock" {
			t.Errorf("%s is left behind", e.Name())
		}
	}
}
