package verify

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/computemarket/computemarket/workload"
)

const (
	contextPublish = "computemarket 2026-11-26 workload/verify secret v1"
	contextSeed    = "computemarket 2026-11-26 workload/verify seed v1"
	contextTicket  = "computemarket 2026-11-26 workload/verify ticket v1"
)

// A Secret is where a market's chance comes from: which workers get a task, and
// whether it is audited. The market draws 32 random bytes, publishes [Secret.Hash],
// uses the secret for a while, and then publishes the secret itself, so that
// everybody can draw again ([VerifyDraw], [Choose]). Before that, nobody but the
// market can tell what is coming; and the market cannot choose, as it was bound
// before the tasks were known. Keep it as you keep a key: whoever has it knows
// which tasks are never looked at.
//
// It never prints, and has no text form: store its bytes. (fmt prints what stands
// in an unexported field of another struct without asking it; keep a Secret behind
// a pointer there.)
type Secret [32]byte

// String hides the secret.
func (s Secret) String() string { return "verify.Secret(hidden)" }

// Format hides the secret, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// MarshalText returns [ErrText], lest a secret be shown, or be lost by whoever
// meant to store it.
func (s Secret) MarshalText() ([]byte, error) {
	return nil, fmt.Errorf("%w: a Secret has none", ErrText)
}

// Hash returns what is published of s beforehand.
func (s Secret) Hash() workload.Hash { return derive(contextPublish, s[:]) }

// Seed returns the randomness with which [Choose] picks the workers of t.
func (s Secret) Seed(t Task) Seed { return s.draw(contextSeed, t) }

// Ticket returns the number that decides whether t is audited by chance.
//
// It depends on the task alone. Were the commitments part of it, the last worker
// to commit could try salts until the ticket spares it.
func (s Secret) Ticket(t Task) Ticket {
	d := s.draw(contextTicket, t)
	return Ticket(binary.BigEndian.Uint64(d[:]))
}

func (s Secret) draw(context string, t Task) [32]byte {
	return derive(context, s[:], []byte(t.ID), []byte(t.Class), t.Input[:])
}

// A Seed is the randomness of one choice. It comes from [Secret.Seed], or is any
// 32 bytes that no provider can foresee.
type Seed [32]byte

// A Ticket is a number drawn evenly from 0 to 2^64-1.
type Ticket uint64

// Hits reports whether t is among the share p of all tickets: never for 0, always
// for [Certain], and otherwise with a probability of p or up to 2^-64 more.
func (t Ticket) Hits(p Probability) bool {
	hi, _ := bits.Mul64(uint64(t), uint64(Certain))
	return hi < uint64(p)
}

// VerifyDraw checks, once the market has published secret, that it is the one
// whose hash was published before, and that t was audited if it had to be: if
// its ticket hits p. An audit that the ticket does not ask for is no fault; there
// are other reasons for one. It returns an error that wraps [ErrDraw] otherwise.
func VerifyDraw(published workload.Hash, secret Secret, t Task, p Probability, audited bool) error {
	if secret.Hash() != published {
		return fmt.Errorf("%w: another hash was published", ErrDraw)
	}
	if !audited && secret.Ticket(t).Hits(p) {
		return fmt.Errorf("%w: the task had to be audited", ErrDraw)
	}
	return nil
}
