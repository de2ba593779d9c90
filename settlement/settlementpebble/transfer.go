package settlementpebble

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement"
)

// Keys of the ledger, in the namespace 'l', numbers big-endian:
//
//	l 0            schema version
//	l i            name of the issuing account, and a seal
//	l a ACCOUNT    balance, 8 bytes, and a seal
//	l t ID         the transfer as below, and a seal
//
// Schema 1 differs in that the name has no seal. A transfer is kept for ever, as
// what it was:
//
//	0   flags: bit 0 says that the tag is "settle:" and the ID, and left out
//	1   amount, 8 bytes
//	9   from, to and tag, each as 2 bytes of length and its bytes
const (
	ledgerNamespace = 'l'
	ledgerSchema    = 2

	spaceAccount  = 'a'
	spaceTransfer = 't'

	flagSettleTag = 1
)

var issuerKey = []byte{ledgerNamespace, 'i'}

func appendAccountKey(b []byte, name string) []byte {
	return append(append(b, ledgerNamespace, spaceAccount), name...)
}

func appendTransferKey(b []byte, id *settlement.ID) []byte {
	return append(append(b, ledgerNamespace, spaceTransfer), id[:]...)
}

func ledgerBounds(space byte) (lo, hi []byte) {
	return []byte{ledgerNamespace, space}, []byte{ledgerNamespace, space + 1}
}

// isSettleTag reports whether the tag follows from the id.
func isSettleTag(t *settlement.Transfer) bool {
	const prefix = "settle:"
	if len(t.Tag) != len(prefix)+hex.EncodedLen(len(t.ID)) || t.Tag[:len(prefix)] != prefix {
		return false
	}
	var digits [2 * len(t.ID)]byte
	hex.Encode(digits[:], t.ID[:])
	return t.Tag[len(prefix):] == string(digits[:])
}

func transferBytes(t *settlement.Transfer, settleTag bool) int {
	n := 1 + 8 + 3*2 + len(t.From) + len(t.To) + kv.SealBytes
	if !settleTag {
		n += len(t.Tag)
	}
	return n
}

func appendTransfer(b []byte, key []byte, t *settlement.Transfer, settleTag bool) []byte {
	start := len(b)
	tag, flags := t.Tag, byte(0)
	if settleTag {
		tag, flags = "", flagSettleTag
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint64(b, t.Amount)
	for _, s := range [...]string{t.From, t.To, tag} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint32(b, kv.Seal(key, b[start:]))
}

// decodeTransfer is the inverse of appendTransfer; key is the one of the entry.
func decodeTransfer(key, sealed []byte) (settlement.Transfer, error) {
	b, err := kv.Unseal(key, sealed)
	if err != nil {
		return settlement.Transfer{}, err
	}
	damaged := func(what string) (settlement.Transfer, error) {
		return settlement.Transfer{}, fmt.Errorf("%w: key %q: %s", settlement.ErrCorrupt, key, what)
	}
	if len(key) != 2+len(settlement.ID{}) {
		return damaged("no id")
	}
	if len(b) < 9 || b[0]&^flagSettleTag != 0 {
		return damaged("shape")
	}
	t := settlement.Transfer{ID: settlement.ID(key[2:]), Amount: binary.BigEndian.Uint64(b[1:])}
	rest := string(b[9:])
	for _, s := range [...]*string{&t.From, &t.To, &t.Tag} {
		if len(rest) < 2 {
			return damaged("cut off")
		}
		n := int(rest[0])<<8 | int(rest[1])
		if len(rest) < 2+n {
			return damaged("cut off")
		}
		*s, rest = rest[2:2+n], rest[2+n:]
	}
	if rest != "" {
		return damaged("too long")
	}
	if b[0]&flagSettleTag != 0 {
		if t.Tag != "" {
			return damaged("two tags")
		}
		t.Tag = "settle:" + t.ID.String()
	} else if isSettleTag(&t) {
		return damaged("tag not left out")
	}
	return t, nil
}
