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
	const want = "01" +
		"01020300000000000000000000000000" +
		"0405000000000000000000000000000000000000000000000000000000000000" +
		"0000000000000006" + "0000000000000007" + "0000000000000008" +
		"01" + "01" + "0006" + "73656e646572" + "726561736f6e"
	if got := hex.EncodeToString(appendRecord(nil, &sample)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p := place{courier.Dead, 9}
	if got, want := hex.EncodeToString(p.key()), "6302030000000000000009"; got != want {
		t.Errorf("key: got %s, want %s", got, want)
	}
}

func TestRecordTruncated(t *testing.T) {
	b := appendRecord(nil, &sample)
	for n := range len(b) - len(sample.Reason) {
		if _, err := decodeRecord(b[:n], place{courier.Dead, 9}); !errors.Is(err, courier.ErrCorrupt) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// What decodes encodes back to the same bytes.
func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, &sample))
	f.Add(make([]byte, recordHead))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b, place{courier.Dead, 9})
		if err != nil {
			if !errors.Is(err, courier.ErrCorrupt) {
				t.Errorf("%v is no ErrCorrupt", err)
			}
			return
		}
		if back := appendRecord(nil, &r); !bytes.Equal(back, b) {
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
