package verify

import (
	"crypto/rand"
	"encoding/hex"

	"github.com/computemarket/computemarket/internal/hexid"
	"github.com/computemarket/computemarket/workload"
)

// contextCommit is the context string of commitments, by the rules of BLAKE3's
// derive_key: hard-coded, unique, with a date.
const contextCommit = "computemarket 2026-11-26 workload/verify commitment v1"

// A Salt hides the result in a commitment: without it nobody can find the result
// by trying the likely ones. A worker makes one for each commitment, keeps it
// until the reveal, and uses it once.
type Salt [32]byte

// NewSalt returns 32 random bytes. It is for workers; the state machine itself
// draws nothing.
func NewSalt() (s Salt) {
	rand.Read(s[:]) // never fails
	return s
}

// IsZero reports whether s was never set.
func (s Salt) IsZero() bool { return s == Salt{} }

// String returns 64 lower-case hexadecimal digits.
func (s Salt) String() string { return hex.EncodeToString(s[:]) }

// AppendText implements [encoding.TextAppender]. It never fails.
func (s Salt) AppendText(b []byte) ([]byte, error) { return hex.AppendEncode(b, s[:]), nil }

// MarshalText implements [encoding.TextMarshaler]. It never fails.
func (s Salt) MarshalText() ([]byte, error) { return s.AppendText(nil) }

// UnmarshalText implements [encoding.TextUnmarshaler]. It returns [ErrText] for
// anything but 64 hexadecimal digits, and then leaves s as it was.
func (s *Salt) UnmarshalText(text []byte) error { return hexid.Decode(s[:], text, ErrText) }

// A Commitment binds a worker to a result without showing it.
type Commitment [32]byte

// Commit returns worker's commitment to result:
//
//	BLAKE3 derive_key(context, task.ID, task.Class, task.Input, worker, result, salt)
//
// where context is "computemarket 2026-11-26 workload/verify commitment v1" and each
// part stands behind its length as 8 bytes, big-endian. The hashes and the salt
// are their 32 bytes. testdata/commitments.json has known answers.
//
// The worker's name within it is what makes a copied commitment worthless: only
// the worker that it names can open it. iExec's PoCo seals results in the same way.
func Commit(task Task, worker string, result workload.Hash, salt Salt) Commitment {
	return derive(contextCommit, []byte(task.ID), []byte(task.Class), task.Input[:], []byte(worker), result[:], salt[:])
}

// IsZero reports whether c was never set.
func (c Commitment) IsZero() bool { return c == Commitment{} }

// String returns 64 lower-case hexadecimal digits.
func (c Commitment) String() string { return hex.EncodeToString(c[:]) }

// AppendText implements [encoding.TextAppender]. It never fails.
func (c Commitment) AppendText(b []byte) ([]byte, error) { return hex.AppendEncode(b, c[:]), nil }

// MarshalText implements [encoding.TextMarshaler]. It never fails.
func (c Commitment) MarshalText() ([]byte, error) { return c.AppendText(nil) }

// UnmarshalText implements [encoding.TextUnmarshaler]. It returns [ErrText] for
// anything but 64 hexadecimal digits, and then leaves c as it was.
func (c *Commitment) UnmarshalText(text []byte) error { return hexid.Decode(c[:], text, ErrText) }
