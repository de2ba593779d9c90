package market

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

// The binary forms that stores keep. Each begins with a version; numbers are
// varints, strings and byte strings have their length before them, hashes are 32
// bytes, times are seconds and nanoseconds of the Unix epoch. What decodes encodes
// back to the same bytes. They carry no checksum: that is the store's.
const formatVersion = 1

const inlineFlag, referenceFlag = 1, 2

// AppendTerms appends to b what never changes of an order: all but its Progress.
func (o *Order) AppendTerms(b []byte) []byte {
	b = append(b, formatVersion)
	b = binary.AppendUvarint(b, o.Seq)
	b = appendString(b, o.ID)
	b = appendString(b, o.Account)
	b = append(b, byte(o.Side), byte(o.Lane))
	b = appendString(b, o.Class)
	b = binary.AppendUvarint(b, o.Units)
	b = binary.AppendUvarint(b, o.Price)
	b = appendTime(b, o.Expires)
	b = append(b, o.Asked[:]...)
	b = appendTime(b, o.At)
	b = appendString(b, string(o.Kind))
	b = binary.AppendUvarint(b, uint64(len(o.Slices)))
	for i := range o.Slices {
		b = o.Slices[i].append(b)
	}
	return b
}

func (s *Slice) append(b []byte) []byte {
	var flags byte
	if s.Inline {
		flags |= inlineFlag
	}
	if !s.Reference.IsZero() {
		flags |= referenceFlag
	}
	b = append(b, flags)
	b = append(b, s.Content[:]...)
	b = binary.AppendUvarint(b, uint64(s.Size))
	if !s.Reference.IsZero() {
		b = append(b, s.Reference[:]...)
	}
	return b
}

// DecodeTerms reads what AppendTerms wrote. Possible errors: ErrSchema for the
// form of a newer release, ErrCorrupt.
func DecodeTerms(data []byte) (o Order, err error) {
	d := decoder{rest: data}
	d.version()
	o.Seq = d.uint()
	o.ID, o.Account = d.string(), d.string()
	o.Side, o.Lane = match.Side(d.byte()), admission.Lane(d.byte())
	o.Class = d.string()
	o.Units, o.Price = d.uint(), d.uint()
	o.Expires = d.time()
	d.fill(o.Asked[:])
	o.At = d.time()
	o.Kind = workload.Kind(d.string())
	const leastSlice = 1 + 32 + 1
	if n := d.uint(); n > 0 && d.fits(n, leastSlice) {
		o.Slices = make([]Slice, n)
		for i := range o.Slices {
			o.Slices[i] = d.slice()
		}
	}
	if err := d.end("an order", func() []byte { return o.AppendTerms(nil) }); err != nil {
		return Order{}, err
	}
	return o, nil
}

func (d *decoder) slice() (s Slice) {
	flags := d.byte()
	s.Inline = flags&inlineFlag != 0
	d.fill(s.Content[:])
	s.Size = int64(d.uint())
	if flags&referenceFlag != 0 {
		d.fill(s.Reference[:])
	}
	return s
}

// AppendHead appends p without its Outcomes.
func (p *Progress) AppendHead(b []byte) []byte {
	b = append(b, formatVersion, byte(p.State), byte(p.Ending))
	b = binary.AppendUvarint(b, p.Filled)
	b = appendString(b, p.Reason)
	return appendTime(b, p.Ended)
}

// DecodeHead reads what AppendHead wrote. Possible errors: ErrSchema for the form
// of a newer release, ErrCorrupt.
func DecodeHead(data []byte) (p Progress, err error) {
	d := decoder{rest: data}
	d.version()
	p.State, p.Ending = State(d.byte()), State(d.byte())
	p.Filled = d.uint()
	p.Reason = d.string()
	p.Ended = d.time()
	if err := d.end("an order's progress", func() []byte { return p.AppendHead(nil) }); err != nil {
		return Progress{}, err
	}
	return p, nil
}

// Append appends the outcome to b.
func (o *Outcome) Append(b []byte) []byte {
	b = append(b, formatVersion)
	b = binary.AppendUvarint(b, uint64(o.Slice))
	b = append(b, byte(o.State))
	if o.State == Done {
		b = append(b, o.Receipt[:]...)
		return append(b, o.Output[:]...)
	}
	return appendString(b, o.Reason)
}

// DecodeOutcome reads what Append wrote. Possible errors: ErrSchema for the form
// of a newer release, ErrCorrupt.
func DecodeOutcome(data []byte) (o Outcome, err error) {
	d := decoder{rest: data}
	d.version()
	o.Slice = int(d.uint())
	if o.State = State(d.byte()); o.State == Done {
		d.fill(o.Receipt[:])
		d.fill(o.Output[:])
	} else {
		o.Reason = d.string()
	}
	if err := d.end("a slice's outcome", func() []byte { return o.Append(nil) }); err != nil {
		return Outcome{}, err
	}
	return o, nil
}

// Append appends the assignment to b.
func (a *Assignment) Append(b []byte) []byte {
	b = append(b, formatVersion)
	b = append(b, a.ID[:]...)
	b = binary.AppendUvarint(b, a.Bid)
	b = binary.AppendUvarint(b, a.Ask)
	b = binary.AppendVarint(b, int64(a.Slice))
	b = binary.AppendUvarint(b, a.Units)
	b = binary.AppendUvarint(b, a.Price)
	b = append(b, boolByte(a.DryRun))
	return appendTime(b, a.Deadline)
}

// DecodeAssignment reads what Append wrote. Possible errors: ErrSchema for the
// form of a newer release, ErrCorrupt.
func DecodeAssignment(data []byte) (a Assignment, err error) {
	d := decoder{rest: data}
	d.version()
	d.fill(a.ID[:])
	a.Bid, a.Ask = d.uint(), d.uint()
	a.Slice = int(d.int())
	a.Units, a.Price = d.uint(), d.uint()
	a.DryRun = d.byte() != 0
	a.Deadline = d.time()
	if err := d.end("an assignment", func() []byte { return a.Append(nil) }); err != nil {
		return Assignment{}, err
	}
	return a, nil
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, t.Unix()), uint64(t.Nanosecond()))
}

// decoder takes values from the front of rest. After the first that is not there
// it gives zero values, and end tells.
type decoder struct {
	rest  []byte
	read  []byte // all of it
	newer byte   // the version, if it is not ours
	bad   bool
}

func (d *decoder) version() {
	d.read = d.rest
	if v := d.byte(); v != formatVersion {
		d.newer, d.bad = v, true
	}
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) fill(b []byte)  { copy(b, d.take(uint64(len(b)))) }
func (d *decoder) string() string { return string(d.take(d.uint())) }

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if d.take(uint64(max(n, 0))); n <= 0 {
		d.bad = true
	}
	if d.bad {
		return 0
	}
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.rest)
	if d.take(uint64(max(n, 0))); n <= 0 {
		d.bad = true
	}
	if d.bad {
		return 0
	}
	return v
}

func (d *decoder) time() time.Time {
	sec, nsec := d.int(), d.uint()
	return time.Unix(sec, int64(nsec%1e9)).UTC()
}

// fits reports whether n things of at least so many bytes can still come.
func (d *decoder) fits(n, least uint64) bool {
	if n > uint64(len(d.rest))/least {
		d.bad = true
	}
	return !d.bad
}

// end is the error of a value that is not what again writes.
func (d *decoder) end(what string, again func() []byte) error {
	switch {
	case d.newer > formatVersion:
		return fmt.Errorf("%w: version %d of %s", ErrSchema, d.newer, what)
	case d.bad || len(d.rest) > 0 || string(again()) != string(d.read):
		return fmt.Errorf("%w: %s of %d bytes", ErrCorrupt, what, len(d.read))
	}
	return nil
}
