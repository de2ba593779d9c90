package verify

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/computemarket/computemarket/workload"
)

// The binary form of a Round, big-endian; a text is 2 bytes of length and its
// bytes:
//
//	encoding version, 1; step, 1 byte
//	task: id, class, input of 32 bytes
//	policy: replicas and NoAudits, 1 byte each; audit, 4; trust and newcomer, 8
//	each; the three times in nanoseconds, 8 each
//	ticket, 8; deadline in nanoseconds since 1970, 8, or 0 if over; audit, 32
//	each replica: worker, owner, class, score of 8, commitment of 32, signature,
//	opened of 1, and if it was opened result and salt of 32 each
//	CRC-32C of all before it, 4 bytes
//
// It is canonical: what decodes encodes back byte for byte. A Record is its
// version, 1 byte, whether Since is set, 1, Since in nanoseconds, 8, its numbers
// in the order of the fields, 8 each, and the same checksum.
const encodingVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendBinary implements [encoding.BinaryAppender]. What it appends is for the
// market's own store: it has what the workers revealed so far, and the ticket. It
// returns [ErrOptions] for a Round that [New] did not make, and then b as it was.
func (r *Round) AppendBinary(b []byte) ([]byte, error) {
	if r.state == nil {
		return b, errZero
	}
	start := len(b)
	b = append(b, encodingVersion, byte(r.step))
	b = appendText(b, r.task.ID, r.task.Class)
	b = append(b, r.task.Input[:]...)
	p := &r.policy
	b = append(b, byte(p.Replicas), boolByte(p.NoAudits))
	b = binary.BigEndian.AppendUint32(b, uint32(p.Audit))
	deadline := int64(0)
	if r.step != stepOver {
		deadline = r.deadline.UnixNano()
	}
	b = appendUint64s(b, p.Trust, p.Newcomer, uint64(p.CommitWithin), uint64(p.RevealWithin), uint64(p.AuditWithin),
		uint64(r.ticket), uint64(deadline))
	b = append(b, r.audit[:]...)
	for i := range r.replicas {
		rep := &r.replicas[i]
		b = appendText(b, rep.who.Worker, rep.who.Owner, rep.who.Class)
		b = appendUint64s(b, rep.who.Score)
		b = append(b, rep.commitment[:]...)
		b = appendText(b, string(rep.signature))
		b = append(b, byte(rep.opened))
		if rep.opened >= openedTime {
			b = append(b, rep.result[:]...)
			b = append(b, rep.salt[:]...)
		}
	}
	return appendSum(b, start), nil
}

// MarshalBinary implements [encoding.BinaryMarshaler]; see AppendBinary.
func (r *Round) MarshalBinary() ([]byte, error) { return r.AppendBinary(nil) }

// UnmarshalBinary implements [encoding.BinaryUnmarshaler]. It keeps nothing of data
// and leaves r alone on an error: [ErrCorrupt] for what no Round encodes to,
// [ErrSchema] for what a newer release wrote.
func (r *Round) UnmarshalBinary(data []byte) error {
	d, err := newDecoder(data)
	if err != nil {
		return err
	}
	got := &state{step: step(d.byte())}
	got.task = Task{ID: d.text(), Class: d.text(), Input: d.hash()}
	p := &got.policy
	p.Replicas, p.NoAudits, p.Audit = int(d.byte()), d.bool(), Probability(d.uint32())
	p.Trust, p.Newcomer = d.uint64(), d.uint64()
	p.CommitWithin, p.RevealWithin, p.AuditWithin = time.Duration(d.uint64()), time.Duration(d.uint64()), time.Duration(d.uint64())
	got.ticket = Ticket(d.uint64())
	deadline := int64(d.uint64())
	if got.step != stepOver {
		got.deadline = time.Unix(0, deadline).UTC()
	} else if deadline != 0 {
		d.fail("a deadline of what is over")
	}
	got.audit = d.hash()
	for range min(p.Replicas, MaxReplicas) {
		rep := replica{who: Candidate{Worker: d.text(), Owner: d.text(), Class: d.text(), Score: d.uint64()}}
		rep.commitment = Commitment(d.hash())
		if signature := d.text(); signature != "" {
			rep.signature = []byte(signature)
		}
		if rep.opened = opened(d.byte()); rep.opened >= openedTime {
			rep.result, rep.salt = d.hash(), Salt(d.hash())
		}
		got.replicas = append(got.replicas, rep)
	}
	if err := d.end(); err != nil {
		return err
	}
	if err := got.validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	r.state = got
	return nil
}

// validate tells a Round that messages could have led to from others.
func (r *state) validate() error {
	if filled, err := r.policy.filled(); err != nil {
		return err
	} else if filled != r.policy {
		return fmt.Errorf("%w: a policy without its defaults", ErrInvalid)
	}
	if err := r.validateWho(); err != nil {
		return err
	}
	var count [openedLate + 1]int // of those who committed
	for i := range r.replicas {
		rep := &r.replicas[i]
		switch {
		case rep.opened > openedLate || len(rep.signature) > MaxSignature:
			return fmt.Errorf("%w: a replica that is none", ErrInvalid)
		case rep.commitment.IsZero() && (rep.opened != notOpened || len(rep.signature) > 0):
			return fmt.Errorf("%w: a reveal without a commitment", ErrInvalid)
		case rep.opened >= openedTime && (rep.result.IsZero() || Commit(r.task, rep.who.Worker, rep.result, rep.salt) != rep.commitment):
			return ErrReveal
		case !rep.commitment.IsZero():
			count[rep.opened]++
		}
	}
	committed := count[notOpened] + count[misopened] + count[openedTime] + count[openedLate]
	called := r.reason() != NoReason
	possible := false
	switch r.step {
	case stepCommit:
		possible = committed == count[notOpened] && committed < len(r.replicas)
	case stepReveal:
		possible = count[openedTime] < committed && count[openedLate] == 0
	case stepAudit:
		possible = called
	case stepOver:
		possible = called || count[openedLate] == 0 && r.audit.IsZero()
	}
	if !possible || r.step != stepOver && !r.audit.IsZero() {
		return fmt.Errorf("%w: no message leads to this step", ErrInvalid)
	}
	return nil
}

func (r *Record) numbers() []*uint64 {
	return []*uint64{
		&r.Score, &r.Assigned, &r.Agreed, &r.Confirmed, &r.Wrong, &r.Copied, &r.Misopened, &r.Missing,
		&r.Late, &r.Absent, &r.Outvoted, &r.Undecided,
	}
}

// AppendBinary implements [encoding.BinaryAppender]. It returns [ErrInvalid] for a
// Since beyond what 64 bits of nanoseconds can count, which Apply never sets, and
// then b as it was.
func (r *Record) AppendBinary(b []byte) ([]byte, error) {
	since := int64(0)
	if !r.Since.IsZero() {
		if !r.Since.Equal(later(r.Since, 0)) {
			return b, fmt.Errorf("%w: a record since %v", ErrInvalid, r.Since)
		}
		since = r.Since.UnixNano()
	}
	start := len(b)
	b = append(b, encodingVersion, boolByte(!r.Since.IsZero()))
	b = appendUint64s(b, uint64(since))
	for _, n := range r.numbers() {
		b = appendUint64s(b, *n)
	}
	return appendSum(b, start), nil
}

// MarshalBinary implements [encoding.BinaryMarshaler]; errors as of AppendBinary.
func (r *Record) MarshalBinary() ([]byte, error) { return r.AppendBinary(nil) }

// UnmarshalBinary implements [encoding.BinaryUnmarshaler]. It leaves r alone on an
// error: [ErrCorrupt] for what no Record encodes to, [ErrSchema] for what a newer
// release wrote.
func (r *Record) UnmarshalBinary(data []byte) error {
	d, err := newDecoder(data)
	if err != nil {
		return err
	}
	var got Record
	if set, since := d.bool(), int64(d.uint64()); set {
		got.Since = time.Unix(0, since).UTC()
	} else if since != 0 {
		d.fail("a time that is not set")
	}
	for _, n := range got.numbers() {
		*n = d.uint64()
	}
	if err := d.end(); err != nil {
		return err
	}
	*r = got
	return nil
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func appendText(b []byte, texts ...string) []byte {
	for _, s := range texts {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	return b
}

func appendUint64s(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func appendSum(b []byte, start int) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// A decoder reads a body whose checksum holds. After its first failure it gives
// zeros.
type decoder struct {
	rest []byte
	err  error
}

func newDecoder(data []byte) (*decoder, error) {
	if len(data) < 5 {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrCorrupt, len(data))
	}
	body := data[:len(data)-4]
	if binary.BigEndian.Uint32(data[len(body):]) != crc32.Checksum(body, castagnoli) {
		return nil, fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	if body[0] != encodingVersion {
		return nil, fmt.Errorf("%w: encoding version %d", ErrSchema, body[0])
	}
	return &decoder{rest: body[1:]}, nil
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
}

// take returns the next n bytes, or as many zeros after a failure.
func (d *decoder) take(n int) []byte {
	if d.err == nil && len(d.rest) < n {
		d.fail("cut off")
	}
	if d.err != nil {
		return make([]byte, n)
	}
	var taken []byte
	taken, d.rest = d.rest[:n], d.rest[n:]
	return slices.Clip(taken)
}

func (d *decoder) byte() byte     { return d.take(1)[0] }
func (d *decoder) uint32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) uint64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }
func (d *decoder) text() string {
	return string(d.take(int(binary.BigEndian.Uint16(d.take(2)))))
}
func (d *decoder) hash() workload.Hash { return workload.Hash(d.take(len(workload.Hash{}))) }

func (d *decoder) bool() bool {
	b := d.byte()
	if b > 1 {
		d.fail("neither true nor false")
	}
	return b == 1
}

func (d *decoder) end() error {
	if len(d.rest) > 0 {
		d.fail(fmt.Sprintf("%d bytes too many", len(d.rest)))
	}
	return d.err
}
