package priceboard

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// golden2 is version 2: window 100, prices 7 to 11, of which the last four came
// from a, b, a and nobody.
var golden2 = Snapshot{Window: 100, Prices: []uint64{7, 8, 9, 10, 11}, Parties: []string{"a", "b", "a", ""}}

const vector2 = "testdata/price_board.v2.bin"

func TestVector2(t *testing.T) {
	want, err := os.ReadFile(vector2)
	if err != nil {
		t.Fatal(err)
	}
	got, err := golden2.MarshalBinary()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n%s", err, hex.Dump(got))
	}
	var s Snapshot
	if err := s.UnmarshalBinary(want); err != nil || s.Window != 100 ||
		!slices.Equal(s.Prices, golden2.Prices) || !slices.Equal(s.Parties, golden2.Parties) {
		t.Errorf("%+v, %v", s, err)
	}
}

// form2 makes a form of version 2 of its parts, with the right sum.
func form2(window, count, known, names uint64, rest ...any) []byte {
	payload := le.AppendUint64(nil, window)
	for _, v := range []uint64{count, known, names} {
		payload = le.AppendUint64(payload, v)
	}
	for _, v := range rest {
		switch v := v.(type) {
		case string:
			payload = append(le.AppendUint32(payload, uint32(len(v))), v...)
		default:
			payload, _ = binary.Append(payload, le, v)
		}
	}
	b := le.AppendUint16([]byte(magic), 2)
	b = le.AppendUint64(b, uint64(len(payload)))
	return seal(append(b, payload...))
}

// cutPayload is version 2 with a payload of n zeros, with the right sum.
func cutPayload(n int) []byte {
	b := le.AppendUint16([]byte(magic), 2)
	return seal(append(le.AppendUint64(b, uint64(n)), make([]byte, n)...))
}

// damages2 are the ways in which version 2 can be wrong with a sum that is right.
func damages2() map[string][]byte {
	u, i := func(v uint64) uint64 { return v }, func(v uint32) uint32 { return v }
	return map[string][]byte{
		"no known":            form2(9, 1, 0, 0, u(1)),
		"no names":            form2(9, 1, 1, 0, u(1), i(0)),
		"known beyond count":  form2(9, 1, 2, 1, u(1), "a", i(0), i(0)),
		"names beyond known":  form2(9, 2, 1, 2, u(1), u(2), "a", "b", i(0)),
		"count beyond window": form2(1, 2, 1, 1, u(1), u(2), "a", i(0)),
		"window 0":            form2(0, 1, 1, 1, u(1), "a", i(0)),
		"count huge":          form2(math.MaxUint64, math.MaxUint64/8+2, 1, 1, u(1), "a", i(0)),
		"known huge":          form2(9, 1, math.MaxUint64, 1, u(1), "a", i(0)),
		"names huge":          form2(9, 1, 1, math.MaxUint64, u(1), "a", i(0)),
		"a name twice":        form2(9, 2, 2, 2, u(1), u(2), "a", "a", i(0), i(1)),
		"a name unused":       form2(9, 2, 2, 2, u(1), u(2), "a", "b", i(0), i(0)),
		"names out of order":  form2(9, 2, 2, 2, u(1), u(2), "a", "b", i(1), i(0)),
		"index out of range":  form2(9, 2, 2, 2, u(1), u(2), "a", "b", i(0), i(2)),
		"index huge":          form2(9, 1, 1, 1, u(1), "a", i(math.MaxUint32)),
		"a name cut short":    form2(9, 1, 1, 1, u(1), i(5), []byte("abcd")),
		"no room for a name":  form2(9, 1, 1, 1, u(1), []byte("ab")),
		"bytes left over":     form2(9, 1, 1, 1, u(1), "a", i(0), []byte("x")),
		"count beyond bytes":  form2(9, 9, 1, 1, u(1), "a", i(0)),
		"no payload":          cutPayload(0),
		"half a payload head": cutPayload(16),
		"three of its four":   cutPayload(24),
		"all but a byte":      cutPayload(payload2 - 1),
		"an index missing":    form2(9, 2, 2, 1, u(1), u(2), "a", i(0)),
	}
}

func TestUnmarshalRefuses2(t *testing.T) {
	for name, data := range damages2() {
		s := Snapshot{Window: 7}
		if err := s.UnmarshalBinary(data); !errors.Is(err, ErrCorrupt) || s.Window != 7 {
			t.Errorf("%s: %v, %+v, want ErrCorrupt", name, err, s)
		}
	}
	good, err := golden2.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(good) * 8 {
		data := slices.Clone(good)
		data[i/8] ^= 1 << (i % 8)
		if err := new(Snapshot).UnmarshalBinary(data); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit %d flipped: %v, want ErrCorrupt", i, err)
		}
	}
	for n := range len(good) {
		if err := new(Snapshot).UnmarshalBinary(good[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v, want ErrCorrupt", n, err)
		}
	}
}

// newerForms are files that a later version of this package might write: in the
// form of today with more in it, shorter, or in another form.
func newerForms() map[string][]byte {
	v3 := form2(100, 1, 1, 1, uint64(5), "a", uint32(0), []byte("and more"))
	v3[4] = 3
	v3 = seal(v3[:len(v3)-crcLen])
	return map[string][]byte{
		"like version 2": v3,
		"short":          []byte("PBRD\x03\x00\x01"),
		"nothing more":   []byte("PBRD\x03\x00"),
		"another form":   append([]byte("PBRD\xff\xff"), make([]byte, 100)...),
	}
}

// TestNewerVersion: after a downgrade the file stays, Open fails, and nothing
// is claimed.
func TestNewerVersion(t *testing.T) {
	for name, data := range newerForms() {
		if err := new(Snapshot).UnmarshalBinary(data); !errors.Is(err, ErrSchema) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrSchema", name, err)
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "price_board.v1.bin")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		store := File(path, nil)
		for range 2 {
			if b, err := Open(t.Context(), store, nil); b != nil || !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: Open: %v, want ErrSchema", name, err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: the file was touched: %x, %v", name, got, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 2 { // with the lock
			t.Errorf("%s: %v, %v", name, left, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		b := openBoard(t, File(path, nil), nil) // another handle: nothing is claimed
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPartiesAcrossRestart: a party at its limit stays at its limit.
func TestPartiesAcrossRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "price_board.v1.bin")
	opts := &Options{Window: 6, MaxPerParty: 2}
	open := func(opts *Options, file *FileOptions) *Board {
		t.Helper()
		return openBoard(t, File(path, file), opts)
	}
	closing := func(b *Board) {
		t.Helper()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(b *Board, what string, want ...uint64) {
		t.Helper()
		if got := b.queue.appendTo(nil); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	b := open(opts, nil)
	for price := range uint64(3) {
		b.RecordOffer(Offer{Price: 10 + price, Party: "loud"})
		b.Record(20 + price) // of nobody, which is a party as well
	}
	closing(b)

	b = open(opts, nil)
	holds(b, "loaded", 11, 21, 12, 22)
	if r := b.LoadResult(); r.Prices != 4 || r.Dropped != 0 {
		t.Errorf("%+v", r)
	}
	b.RecordOffer(Offer{Price: 13, Party: "loud"})
	b.Record(23)
	holds(b, "after a restart", 12, 22, 13, 23)
	closing(b)

	b = open(&Options{Window: 6, MaxPerParty: 1}, nil) // a stricter limit
	holds(b, "one each", 13, 23)
	if r := b.LoadResult(); r.Prices != 2 || r.Dropped != 2 {
		t.Errorf("%+v", r)
	}
	closing(b) // which saves, for what is loaded is not what was saved
	f := File(path, nil)
	if s, err := f.Load(t.Context()); err != nil || !slices.Equal(s.Prices, []uint64{13, 23}) {
		t.Errorf("after a stricter limit: %+v, %v", s, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	b = open(&Options{Window: 3, MaxPerParty: 2}, &FileOptions{Version: 2})
	b.RecordOffer(Offer{Price: 14, Party: "loud"})
	b.RecordOffer(Offer{Price: 15, Party: "loud"})
	holds(b, "a smaller window", 23, 14, 15)
	closing(b)

	b = open(opts, &FileOptions{Version: 1}) // for another node
	b.RecordOffer(Offer{Price: 16, Party: "loud"})
	closing(b)
	if data, err := os.ReadFile(path); err != nil || data[4] != 1 {
		t.Errorf("version %d, %v, want 1", data[4], err)
	}

	b = open(opts, nil) // which says nothing of parties
	for price := range uint64(3) {
		b.RecordOffer(Offer{Price: 17 + price, Party: "loud"})
	}
	holds(b, "from version 1", 23, 15, 16, 18, 19)
	closing(b)
	if data, err := os.ReadFile(path); err != nil || data[4] != 2 {
		t.Errorf("version %d, %v, want 2", data[4], err)
	}

	b = open(opts, nil) // some known, some not
	b.RecordOffer(Offer{Price: 20, Party: "loud"})
	holds(b, "a part known", 23, 15, 16, 19, 20)
	closing(b)

	b = open(&Options{Window: 6}, nil) // no limit, no parties
	holds(b, "without a limit", 23, 15, 16, 19, 20)
	b.Record(1)
	closing(b)
	if data, err := os.ReadFile(path); err != nil || data[4] != 1 {
		t.Errorf("version %d, %v, want 1", data[4], err)
	}
}

func FuzzUnmarshal2(f *testing.F) {
	good, err := golden2.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:len(good)-crcLen])
	for _, data := range damages2() {
		f.Add(data[:len(data)-crcLen])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) >= head2 {
			le.PutUint64(body[6:], uint64(len(body)-head2))
		}
		data := seal(body)
		var s Snapshot
		if err := s.UnmarshalBinary(data); err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrSchema) {
				t.Fatalf("%v, want ErrCorrupt", err)
			}
			return
		}
		if again, err := s.MarshalBinary(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x came back as %x, %v", data, again, err)
		}
	})
}

// TestMarshalAppends: what is in front stays.
func TestMarshalAppends(t *testing.T) {
	for _, s := range []Snapshot{oldSnap, golden2} {
		want, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.AppendBinary([]byte("before"))
		if err != nil || string(got) != "before"+string(want) {
			t.Errorf("%x, %v", got, err)
		}
	}
	if _, err := (Snapshot{Window: 2, Prices: []uint64{1}, Parties: []string{"a", "b"}}).MarshalBinary(); !errors.Is(err, ErrSnapshot) {
		t.Errorf("more parties than prices: %v", err)
	}
}

func ExampleFileOptions() {
	// A file that nodes of other makes read, too.
	store := File("/var/lib/node/price_board.v1.bin", &FileOptions{Version: 1})
	fmt.Println(store.Close())
	// Output:
	// <nil>
}
