package marketpebble

import (
	"encoding/binary"
	"math"

	"github.com/computemarket/computemarket/settlement/match"
)

// Keys, in the namespace 'm', numbers big-endian. Every value has a seal over its
// key and itself.
//
//	m 0                    schema version
//	m e                    the lease: epoch, 8 bytes, and holder
//	m i ID                 the index of ids: Seq, 8 bytes
//	m a LENGTH ACCOUNT SEQ the index of accounts: nothing
//	m l SEQ                the index of what is open: nothing
//	m o SEQ                what never changes of an order: market.Order.AppendTerms
//	m p SEQ                how it stands: market.Progress.AppendHead
//	m r SEQ SLICE          the outcome of a slice: market.Outcome.Append
//	m c SEQ SLICE          the bytes of an inline slice that has no outcome
//	m s MATCHID            an assignment: market.Assignment.Append
//
// Invariant: an order has one entry under i, a, o and p each, and one under l while
// it is open.
const (
	namespace = 'm'
	schema    = 1

	spaceIndex      = 'i'
	spaceAccount    = 'a'
	spaceOpen       = 'l'
	spaceTerms      = 'o'
	spaceProgress   = 'p'
	spaceOutcome    = 'r'
	spaceContent    = 'c'
	spaceAssignment = 's'
)

var leaseKey = []byte{namespace, 'e'}

func indexKey(id string) []byte { return append([]byte{namespace, spaceIndex}, id...) }

func seqKey(space byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{namespace, space}, seq)
}

func sliceKey(space byte, seq uint64, slice int) []byte {
	return binary.BigEndian.AppendUint32(seqKey(space, seq), uint32(slice))
}

func accountPrefix(account string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{namespace, spaceAccount}, uint16(len(account))), account...)
}

func accountKey(account string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(accountPrefix(account), seq)
}

func assignmentKey(id match.MatchID) []byte {
	return append([]byte{namespace, spaceAssignment}, id[:]...)
}

// seqOf returns the number at the end of a key that begins with so many bytes, or
// 0, which no order has, where it has another length.
func seqOf(key []byte, prefix int) uint64 {
	if len(key) != prefix+8 {
		return 0
	}
	return binary.BigEndian.Uint64(key[prefix:])
}

// from returns the bounds of the keys with a prefix and a Seq: from the given one
// on, or, back, from it down.
func from(prefix []byte, seq uint64, back bool) (lo, hi []byte) {
	key := func(seq uint64) []byte { return binary.BigEndian.AppendUint64(prefix[:len(prefix):len(prefix)], seq) }
	switch {
	case !back:
		return key(seq), append(key(math.MaxUint64), 0)
	case seq == 0:
		return key(0), append(key(math.MaxUint64), 0)
	}
	return key(0), append(key(seq), 0)
}
