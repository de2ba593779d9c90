package courierpebble

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/computemarket/computemarket/courier"
)

var sample = courier.Receipt{
	ID: courier.ID{1, 2, 3}, Bundle: courier.Hash{4, 5}, Size: 6, Sender: "sender", Carried: true,
	SentAt: time.UnixMicro(7).UTC(), Since: time.UnixMicro(8).UTC(),
	State: courier.Dead, Seq: 9, Cause: courier.Rejected, Reason: "reason",
}

// The format of version 1.
func TestRecordGolden(t *testing.T) {
	const want = "6302030000000000000009" +
		"01" +
		"01020300000000000000000000000000" +
		"0405000000000000000000000000000000000000000000000000000000000000" +
		"0000000000000006" + "0000000000000007" + "0000000000000008" +
		"01" + "01" + "0006" + "73656e646572" + "726561736f6e" +
		"d4c15273"
	if got := hex.EncodeToString(appendPair(nil, &sample)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Each bit of a record counts, and so does where it is and that it is whole.
func TestRecordDamaged(t *testing.T) {
	pair := appendPair(nil, &sample)
	key, v := pair[:recordKey], pair[recordKey:]
	if r, err := decodeRecord(key, v); err != nil || r != sample {
		t.Fatalf("%+v, %v", r, err)
	}
	for bit := range 8 * len(v) {
		v[bit/8] ^= 1 << (bit % 8)
		if _, err := decodeRecord(key, v); !errors.Is(err, courier.ErrCorrupt) {
			t.Errorf("bit %d flipped: %v", bit, err)
		}
		v[bit/8] ^= 1 << (bit % 8)
	}
	for n := range len(v) {
		if _, err := decodeRecord(key, v[:n]); !errors.Is(err, courier.ErrCorrupt) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := decodeRecord(place{courier.Dead, 8}.key(), v); !errors.Is(err, courier.ErrCorrupt) {
		t.Errorf("in another's place: %v", err)
	}
}

// A moved record is what the moved receipt encodes to.
func TestRecordMoved(t *testing.T) {
	for _, to := range lists {
		m := courier.Move{Receipt: sample, To: to, At: time.UnixMicro(77).UTC(), Cause: courier.Expired, Reason: "another"}
		want := sample
		want.State, want.Since, want.Cause, want.Reason = to, m.At, 0, ""
		if to == courier.Dead {
			want.Cause, want.Reason = m.Cause, m.Reason
		}
		got := record(appendPair(nil, &sample)[recordKey:]).appendMoved(nil, &m)
		if !bytes.Equal(got, appendPair(nil, &want)) {
			t.Errorf("to %v: %x", to, got)
		}
	}
}

// What decodes encodes back to the same bytes.
func FuzzRecord(f *testing.F) {
	key := place{courier.Dead, 9}.key()
	good := appendPair(nil, &sample)[recordKey:]
	f.Add(good[:len(good)-recordSum], false)
	f.Add(good, true)
	f.Add(make([]byte, recordHead), false)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if !sealed { // so that more than the checksum is tested
			b = appendSum(b, append(key[:recordKey:recordKey], b...))
		}
		r, err := decodeRecord(key, b)
		if err != nil {
			if !errors.Is(err, courier.ErrCorrupt) {
				t.Errorf("%v is no ErrCorrupt", err)
			}
			return
		}
		if back := appendPair(nil, &r)[recordKey:]; !bytes.Equal(back, b) {
			t.Errorf("%x\ncomes back as\n%x", b, back)
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add(place{courier.Pending, 1}.key())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 2 || b[0] != namespace || b[1] != recordSpace {
			return
		}
		if p, err := decodeKey(b); err == nil && !bytes.Equal(p.key(), b) {
			t.Errorf("%x comes back as %x", b, p.key())
		}
	})
}
