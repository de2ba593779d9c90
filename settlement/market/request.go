package market

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

// Job is a buyer's request: slices to be run, each bought as one unit, or so many
// units of whatever the class trades.
type Job struct {
	// ID names the job for ever. The same ID with the same request is the same
	// job. Defaults to a random one.
	ID    string
	Buyer string
	// Lane defaults to Consumer.
	Lane admission.Lane
	// Class of the offers that it may meet. Defaults to the kind.
	Class string
	// Price is the most that one unit may cost, in credits.
	Price uint64
	// Expires is when what is not matched ends. Defaults to never.
	Expires time.Time

	// Kind says which job runs the slices. Required with slices.
	Kind workload.Kind
	// Slices are the work. Without any, Units says how much is bought.
	Slices []JobSlice
	Units  uint64
}

// JobSlice is a slice as it is submitted: its bytes, up to [MaxInline], or what
// [Market.Keep] returned for more.
type JobSlice struct {
	Data      []byte
	Kept      Kept
	Reference workload.Hash // what the output's hash must be. Defaults to any
}

// Kept is the content of a slice that lies in Options.Contents.
type Kept struct {
	Content workload.Hash
	Size    int64
}

// Offer is a provider's request: so many units of work, at a price.
type Offer struct {
	// ID names the offer for ever. The same ID with the same request is the same
	// offer. Defaults to a random one.
	ID       string
	Provider string
	// Lane defaults to Consumer.
	Lane admission.Lane
	// Class of the jobs that it may meet.
	Class string
	Units uint64
	// Price is the least that one unit may cost, in credits.
	Price uint64
	// Expires defaults to never.
	Expires time.Time
}

// order makes what is stored of a job, with the defaults filled in.
func (j *Job) order(now time.Time) (NewOrder, error) {
	n := NewOrder{Order: Order{
		ID: j.ID, Account: j.Buyer, Side: match.Bid, Class: j.Class, Lane: j.Lane,
		Units: j.Units, Price: j.Price, Expires: j.Expires.Round(0).UTC(), Kind: j.Kind,
	}}
	if len(j.Slices) > 0 && j.Units > 0 {
		return n, invalid("job %q has slices and units", j.ID)
	}
	if (len(j.Slices) > 0) != (j.Kind != "") {
		return n, invalid("job %q: slices need a kind, and units have none", j.ID)
	}
	for i := range j.Slices {
		s, err := j.Slices[i].slice()
		if err != nil {
			return n, invalid("job %q, slice %d: %w", j.ID, i, err)
		}
		n.Slices = append(n.Slices, s)
		n.Inline = append(n.Inline, nil)
		if s.Inline {
			n.Inline[i] = append([]byte{}, j.Slices[i].Data...)
		}
	}
	n.Asked = n.digest()
	if len(n.Slices) > 0 {
		n.Units = uint64(len(n.Slices))
	}
	if n.Class == "" {
		n.Class = string(n.Kind)
	}
	return n, n.complete(now)
}

func (s *JobSlice) slice() (Slice, error) {
	if s.Kept == (Kept{}) {
		if len(s.Data) > MaxInline {
			return Slice{}, invalid("%d bytes, the most is %d: see Market.Keep", len(s.Data), MaxInline)
		}
		return Slice{Content: workload.Sum(s.Data), Size: int64(len(s.Data)), Inline: true, Reference: s.Reference}, nil
	}
	if s.Data != nil {
		return Slice{}, invalid("it has data and is kept")
	}
	return Slice{Content: s.Kept.Content, Size: s.Kept.Size, Reference: s.Reference}, nil
}

// order makes what is stored of an offer, with the defaults filled in.
func (o *Offer) order(now time.Time) (NewOrder, error) {
	n := NewOrder{Order: Order{
		ID: o.ID, Account: o.Provider, Side: match.Ask, Class: o.Class, Lane: o.Lane,
		Units: o.Units, Price: o.Price, Expires: o.Expires.Round(0).UTC(),
	}}
	n.Asked = n.digest()
	return n, n.complete(now)
}

// complete fills in what every order gets, and checks what no store and no book
// would take.
func (n *NewOrder) complete(now time.Time) error {
	if n.ID == "" {
		n.ID = rand.Text()
	}
	if n.Lane == 0 {
		n.Lane = admission.Consumer
	}
	if n.Expires.IsZero() {
		n.Expires = time.Time{}
	}
	n.At = now.Round(0).UTC()
	n.State = Open
	if err := validName("id", n.ID, MaxID); err != nil {
		return err
	}
	if err := validName("class", n.Class, MaxClass); err != nil {
		return err
	}
	if len(n.Slices) > MaxSlices {
		return invalid("job %q: %d slices, the most is %d", n.ID, len(n.Slices), MaxSlices)
	}
	book := mustBook()
	for o := range n.resting() {
		if _, err := book.Submit(o, now); err != nil {
			return invalid("%w", err)
		}
		break // the others differ in their names alone
	}
	return nil
}

// digest is that of the request as it came: the order before any default, under
// no id of ours and at no time.
func (n *NewOrder) digest() [32]byte {
	asked := n.Order
	if asked.Expires.IsZero() {
		asked.Expires = time.Time{}
	}
	b := binary.AppendUvarint(nil, 1) // of this form
	return workload.Sum(asked.AppendTerms(b))
}
