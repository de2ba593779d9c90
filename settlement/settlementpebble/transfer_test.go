package settlementpebble

import (
	"bytes"
	"errors"
	"testing"

	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement"
)

func encodeTransfer(t *settlement.Transfer) (key, value []byte) {
	key = appendTransferKey(nil, &t.ID)
	return key, appendTransfer(nil, key, t, isSettleTag(t))
}

func TestTransferEncoding(t *testing.T) {
	settle := settlement.Transfer{ID: settlement.ID{1, 2}, From: "a", To: "b", Amount: 1 << 63}
	settle.Tag = "settle:" + settle.ID.String()
	other := settle
	other.Tag = "settle:" + (settlement.ID{1, 3}).String()
	for _, want := range []settlement.Transfer{settle, other, {From: "", To: "x", Tag: "\x00"}} {
		key, value := encodeTransfer(&want)
		if len(value) != transferBytes(&want, isSettleTag(&want)) {
			t.Errorf("%d bytes, transferBytes says %d", len(value), transferBytes(&want, isSettleTag(&want)))
		}
		if got, err := decodeTransfer(key, value); err != nil || got != want {
			t.Errorf("%+v came back as %+v, %v", want, got, err)
		}
		// A sound value under another key is damage too.
		key[5] ^= 1
		if _, err := decodeTransfer(key, value); !errors.Is(err, settlement.ErrCorrupt) {
			t.Errorf("under another key: %v, want ErrCorrupt", err)
		}
	}
	if _, value := encodeTransfer(&settle); bytes.Contains(value, []byte("settle:")) {
		t.Error("a tag that follows from the id is stored")
	}
}

func FuzzDecodeTransfer(f *testing.F) {
	for _, t := range []settlement.Transfer{{From: "a", To: "b", Amount: 7, Tag: "tag"}, {ID: settlement.ID{9}, Tag: "settle:09"}} {
		key, value := encodeTransfer(&t)
		f.Add(key, value[:len(value)-kv.SealBytes])
	}
	f.Fuzz(func(t *testing.T, key, body []byte) {
		value := make([]byte, 0, len(body)+kv.SealBytes)
		value = append(value, body...)
		sum := kv.Seal(key, body)
		value = append(value, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
		got, err := decodeTransfer(key, value)
		if err != nil {
			if !errors.Is(err, settlement.ErrCorrupt) {
				t.Errorf("error %v", err)
			}
			return
		}
		if _, again := encodeTransfer(&got); !bytes.Equal(again, value) && key[0] == ledgerNamespace && key[1] == spaceTransfer {
			t.Errorf("%x decodes and encodes to %x", value, again)
		}
	})
}
