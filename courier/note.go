package courier

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// note is what a Courier keeps in its store from one flush to the next.
type note struct {
	round round
	age   age
}

const (
	noteVersion = 1
	noteHead    = 1 + 8 + 8 + 8 + 2
	noteMark    = 8 + 8
	noteSum     = 4
)

// A note is, in big-endian: version, next, last, lived, number of marks, each
// with seq and lived, and the CRC-32C of all that. Durations are in nanoseconds.
func (n *note) append(b []byte) []byte {
	start := len(b)
	b = append(b, noteVersion)
	b = binary.BigEndian.AppendUint64(b, n.round.next)
	b = binary.BigEndian.AppendUint64(b, n.round.last)
	b = binary.BigEndian.AppendUint64(b, uint64(n.age.lived))
	b = binary.BigEndian.AppendUint16(b, uint16(len(n.age.marks)))
	for _, m := range n.age.marks {
		b = binary.BigEndian.AppendUint64(b, m.seq)
		b = binary.BigEndian.AppendUint64(b, uint64(m.lived))
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// decodeNote reads what append wrote, and nothing else. The error is ErrCorrupt,
// or ErrSchema for what a newer release wrote.
func decodeNote(b []byte) (n note, err error) {
	if len(b) < noteHead+noteSum {
		return n, fmt.Errorf("%w: a note of %d bytes", ErrCorrupt, len(b))
	}
	body, sum := b[:len(b)-noteSum], binary.BigEndian.Uint32(b[len(b)-noteSum:])
	if crc32.Checksum(body, castagnoli) != sum {
		return n, fmt.Errorf("%w: the note's checksum", ErrCorrupt)
	}
	if b[0] != noteVersion {
		return n, fmt.Errorf("%w: a note of version %d", ErrSchema, b[0])
	}
	n.round = round{binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:])}
	n.age.lived = time.Duration(binary.BigEndian.Uint64(b[17:]))
	marks := body[noteHead:]
	if len(marks) != int(binary.BigEndian.Uint16(b[25:]))*noteMark || n.age.lived < 0 {
		return note{}, fmt.Errorf("%w: the note's marks", ErrCorrupt)
	}
	before := mark{}
	for ; len(marks) > 0; marks = marks[noteMark:] {
		m := mark{binary.BigEndian.Uint64(marks), time.Duration(binary.BigEndian.Uint64(marks[8:]))}
		if m.seq <= before.seq || m.lived < before.lived || m.lived > n.age.lived {
			return note{}, fmt.Errorf("%w: the note's marks", ErrCorrupt)
		}
		n.age.marks = append(n.age.marks, m)
		before = m
	}
	return n, nil
}

// readNote returns where a flush that begins now goes on, and what is too old
// for it. A damaged note is as good as none: a round begins anew, and nothing has
// been seen to age.
func (c *Courier) readNote(ctx context.Context) (r round, last, expired uint64, err error) {
	raw, last, err := c.notebook.Note(ctx)
	if err != nil {
		return r, 0, 0, err
	}
	now := c.opts.Clock.Now()
	stored, damage := note{}, error(nil)
	if len(raw) > 0 {
		stored, damage = decodeNote(raw)
	}
	c.mu.Lock()
	first := !c.noted
	if first {
		c.noted, c.note = true, stored
	}
	n, lifetime := &c.note, c.opts.Lifetime
	n.round.last = min(n.round.last, last)
	n.age.pass(now, c.system, lifetime)
	n.age.see(last, lifetime)
	r, expired = n.round, n.age.expired(lifetime)
	c.mu.Unlock()
	if first && damage != nil {
		c.opts.Logger.Error("the courier's note is lost", "err", damage)
	}
	return r, last, expired, nil
}

// moveRound says that the round has moved on and returns where it is, unless
// another flush moved it meanwhile.
func (c *Courier) moveRound(from, to round) round {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.note.round == from {
		c.note.round = to
	}
	return c.note.round
}

// writeNote writes down where the round is, and what has been seen to age.
func (c *Courier) writeNote(ctx context.Context, r round) error {
	now := c.opts.Clock.Now()
	c.mu.Lock()
	c.note.age.pass(now, c.system, c.opts.Lifetime)
	n := note{r, c.note.age}
	b := n.append(nil)
	c.mu.Unlock()
	return c.notebook.SetNote(ctx, b)
}
