package verify

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/computemarket/computemarket/workload"
	"lukechampine.com/blake3"
)

const (
	// MaxID bounds every name: of a task, a worker, an owner, a class. Bytes of UTF-8.
	MaxID = 256
	// MaxReplicas bounds the replicas of one round.
	MaxReplicas = 64
	// MaxSignature bounds what a worker may add to its commitment, in bytes.
	MaxSignature = 512
)

// A Task is the work that a round verifies. All replicas of it have to give the
// same result.
type Task struct {
	// ID names this round of the work. Work that is done over again, after a round
	// that decided nothing, takes a new ID, so that other workers and another audit
	// are drawn.
	ID string `json:"id"`
	// Input is the hash of the input.
	Input workload.Hash `json:"input"`
	// Class is the class of machine on which results are equal, such as
	// "amd64/avx2" or a model of GPU: replicas and audits run on machines of that
	// class alone. It is empty for work whose result is the same everywhere. Name
	// it wherever that is in doubt, or honest workers on other hardware will be
	// found at fault. BOINC calls it homogeneous redundancy.
	Class string `json:"class,omitempty"`
}

func (t *Task) validate() error {
	if err := validName("task", t.ID); err != nil {
		return err
	}
	if t.Input.IsZero() {
		return fmt.Errorf("%w: no hash of the input", ErrInvalid)
	}
	if t.Class == "" {
		return nil
	}
	return validName("class", t.Class)
}

// A Candidate is a provider that could do a replica, as it is when the work is
// given out.
type Candidate struct {
	Worker string `json:"worker"`
	// Owner is who stands behind the worker, where that is known. A worker of
	// unknown owner counts as its own.
	Owner string `json:"owner,omitempty"`
	Class string `json:"class,omitempty"` // the worker's machine
	Score uint64 `json:"score"`           // see Record.ScoreAt
}

func (c *Candidate) validate() error {
	if err := validName("worker", c.Worker); err != nil {
		return err
	}
	for _, name := range [...]struct{ what, value string }{{"owner", c.Owner}, {"class", c.Class}} {
		if name.value == "" {
			continue
		}
		if err := validName(name.what, name.value); err != nil {
			return err
		}
	}
	return nil
}

// party is who is behind c, as far as is known.
func (c *Candidate) party() string {
	if c.Owner != "" {
		return c.Owner
	}
	return c.Worker
}

// does reports whether c's machine gives results that count for t.
func (c *Candidate) does(t *Task) bool { return t.Class == "" || c.Class == t.Class }

func validName(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: no name of the %s", ErrInvalid, what)
	case len(s) > MaxID:
		return fmt.Errorf("%w: the name of the %s has %d bytes, at most %d", ErrInvalid, what, len(s), MaxID)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: the name of the %s is not UTF-8", ErrInvalid, what)
	}
	return nil
}

// derive is BLAKE3 in key-derivation mode over parts, each behind its length as 8
// bytes, big-endian, so that no two lists of parts run into one another.
func derive(context string, parts ...[]byte) (key [32]byte) {
	var room [1024]byte
	b := room[:0]
	for _, part := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	blake3.DeriveKey(key[:], context, b)
	return key
}
