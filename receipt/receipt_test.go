package receipt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

var issued = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// The vectors are receipts in JSON, so they check the field names too.
func TestKeyVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/receipt_keys.json")
	if err != nil {
		t.Fatal(err)
	}
	var rs []receipt.Receipt
	if err := json.Unmarshal(data, &rs); err != nil {
		t.Fatal(err)
	}
	if len(rs) != 4 {
		t.Fatalf("%d vectors", len(rs))
	}
	for _, r := range rs {
		if err := r.Validate(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
		if made := receipt.New(r.JobID, r.Buyer, r.Provider, r.QuotePrice, issued); made.Key != r.Key {
			t.Errorf("%+v: key %s", r, made.Key)
		}
	}
	if rs[2].Key != rs[3].Key || rs[2].SameContent(&rs[3]) {
		t.Error("the known collision must have one key and two contents")
	}
}

func TestValidate(t *testing.T) {
	for _, bad := range receipttest.Invalid() {
		err := bad.Receipt.Validate()
		if !errors.Is(err, bad.Err) || !errors.Is(err, receipt.ErrInvalid) {
			t.Errorf("%s: %v, want %v", bad.Name, err, bad.Err)
		}
		if b, err := bad.Receipt.AppendBinary([]byte("x")); err == nil || string(b) != "x" {
			t.Errorf("%s encodes to %q, %v", bad.Name, b, err)
		}
	}
	long := strings.Repeat("x", receipt.MaxIDBytes)
	ok := receipt.New(long, long[1:]+"b", long[1:]+"p", math.MaxUint64, time.Time{})
	if err := ok.Validate(); err != nil {
		t.Errorf("the longest ids: %v", err)
	}
}

func TestBinary(t *testing.T) {
	for _, r := range []receipt.Receipt{
		receipt.New("job", "buyer", "provider", 10, issued),
		receipt.New("j", "b", "p", math.MaxUint64, time.Time{}),
		receipt.New("j", "b", "p", 0, time.Unix(-5, 999_999_999)),
		{Version: 1, JobID: "j", Buyer: "b", Provider: "p", DryRun: true,
			Key: receipt.MakeKey("j", "b", "p", 0, 1), IssuedAt: issued},
	} {
		b, err := r.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != r.BinarySize() {
			t.Errorf("%d bytes, BinarySize says %d", len(b), r.BinarySize())
		}
		var got receipt.Receipt
		if err := got.UnmarshalBinary(b); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v came back as %+v, %v", r, got, err)
		}
	}
}

func TestBinaryIsChecked(t *testing.T) {
	r := receipt.New("job", "buyer", "provider", 10, issued)
	good, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var got receipt.Receipt
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if err := got.UnmarshalBinary(bad); !errors.Is(err, receipt.ErrCorrupt) {
			t.Errorf("bit %d flipped: %v", i, err)
		}
	}
	for n := range good {
		if err := got.UnmarshalBinary(good[:n]); !errors.Is(err, receipt.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if err := got.UnmarshalBinary(append(good, 0)); !errors.Is(err, receipt.ErrCorrupt) {
		t.Errorf("a byte too many: %v", err)
	}
	if !reflect.DeepEqual(got, receipt.Receipt{}) {
		t.Errorf("an error left %+v", got)
	}
}

func TestJSON(t *testing.T) {
	r := receipt.New("job", "buyer", "provider", math.MaxUint64, issued)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":1,"job_id":"job","buyer":"buyer","provider":"provider",` +
		`"quote_price":"18446744073709551615","issued_at":"2026-01-02T03:04:05.000000006Z",` +
		`"idempotency_key":"` + r.Key.String() + `","dry_run":false}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var got receipt.Receipt
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("came back as %+v, %v", got, err)
	}
	// A number for the price, no key, no time.
	short := `{"version":1,"job_id":"job","buyer":"buyer","provider":"provider","quote_price":7}`
	if err := json.Unmarshal([]byte(short), &got); err != nil || got.Validate() != nil || got.QuotePrice != 7 {
		t.Errorf("got %+v, %v, %v", got, err, got.Validate())
	}
	for _, bad := range []string{`[]`, `{"quote_price":-1}`, `{"quote_price":1.5}`, `{"quote_price":"1e3"}`,
		`{"quote_price":18446744073709551616}`, `{"idempotency_key":"00"}`, `{"issued_at":"yesterday"}`} {
		before := got
		if err := got.UnmarshalJSON([]byte(bad)); !errors.Is(err, receipt.ErrJSONSyntax) {
			t.Errorf("%s: %v", bad, err)
		}
		if !reflect.DeepEqual(got, before) {
			t.Errorf("%s changed the receipt", bad)
		}
	}
}

func TestKeyText(t *testing.T) {
	k := receipt.MakeKey("j", "b", "p", 1, 1)
	for _, s := range []string{k.String(), strings.ToUpper(k.String())} {
		if got, err := receipt.ParseKey(s); err != nil || got != k {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", k.String()[1:], k.String() + "00", strings.Repeat("g", 64)} {
		if _, err := receipt.ParseKey(s); !errors.Is(err, receipt.ErrKeySyntax) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzUnmarshalBinary(f *testing.F) {
	for _, r := range []receipt.Receipt{
		receipt.New("job", "buyer", "provider", 10, issued),
		receipt.New("j", "b", "p", math.MaxUint64, time.Time{}),
	} {
		b, err := r.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r receipt.Receipt
		if err := r.UnmarshalBinary(data); err != nil {
			if !errors.Is(err, receipt.ErrCorrupt) {
				t.Errorf("error %v", err)
			}
			return
		}
		b, err := r.MarshalBinary()
		if err != nil || !bytes.Equal(b, data) {
			t.Errorf("%x decodes and encodes to %x, %v", data, b, err)
		}
	})
}

// Different fields give different keys, unless their concatenation is equal.
func FuzzMakeKey(f *testing.F) {
	f.Add("ab", "c", "p", uint64(1), "a", "bc", "p", uint64(1))
	f.Add("a", "b", "c", uint64(1), "a", "b", "c", uint64(2))
	f.Fuzz(func(t *testing.T, j1, b1, p1 string, q1 uint64, j2, b2, p2 string, q2 uint64) {
		equal := j1+b1+p1 == j2+b2+p2 && q1 == q2
		if k1, k2 := receipt.MakeKey(j1, b1, p1, q1, 1), receipt.MakeKey(j2, b2, p2, q2, 1); equal != (k1 == k2) {
			// Ids of different length could still run into the price.
			if len(j1+b1+p1) == len(j2+b2+p2) {
				t.Errorf("%q %q %q %d and %q %q %q %d: keys equal %v", j1, b1, p1, q1, j2, b2, p2, q2, k1 == k2)
			}
		}
	})
}
