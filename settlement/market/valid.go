package market

import (
	"strings"
	"unicode/utf8"

	"github.com/computemarket/computemarket/settlement/match"
)

// Validate returns an error that wraps [ErrInvalid] unless a Store can hold the
// batch. Stores call it before they write.
func (b *Batch) Validate() error {
	for i := range b.Receipts {
		if err := b.Receipts[i].Validate(); err != nil {
			return invalid("receipt %d: %w", i, err)
		}
	}
	ids := make(map[string]bool, len(b.Orders))
	for i := range b.Orders {
		o := &b.Orders[i]
		if err := o.validate(); err != nil {
			return err
		}
		if ids[o.ID] {
			return invalid("order %q comes twice", o.ID)
		}
		ids[o.ID] = true
	}
	for i := range b.Updates {
		if err := b.Updates[i].validate(); err != nil {
			return err
		}
	}
	for i := range b.Assign {
		if a := &b.Assign[i]; a.ID.IsZero() || a.Bid == 0 || a.Ask == 0 || a.Slice < -1 || a.Units == 0 {
			return invalid("assignment %v", a.ID)
		}
	}
	return nil
}

func (n *NewOrder) validate() error {
	if err := n.Order.validate(); err != nil {
		return err
	}
	for i := range n.Slices {
		var data []byte
		if i < len(n.Inline) {
			data = n.Inline[i]
		}
		if s := &n.Slices[i]; s.Inline != (data != nil) || s.Inline && int64(len(data)) != s.Size {
			return invalid("order %q, slice %d: %d bytes come with it, it says %d, inline: %v", n.ID, i, len(data), s.Size, s.Inline)
		}
	}
	if len(n.Inline) > len(n.Slices) {
		return invalid("order %q: contents of more slices than it has", n.ID)
	}
	return nil
}

func (o *Order) validate() error {
	switch {
	case o.Seq == 0:
		return invalid("order %q has no Seq", o.ID)
	case o.State != Open || o.Filled != 0 || len(o.Outcomes) > 0:
		return invalid("order %q is new and not open", o.ID)
	case len(o.Slices) > MaxSlices:
		return invalid("order %q: %d slices, the most is %d", o.ID, len(o.Slices), MaxSlices)
	case len(o.Slices) > 0 && (o.Side != match.Bid || o.Units != uint64(len(o.Slices))):
		return invalid("order %q: %d slices for %d units of a %v", o.ID, len(o.Slices), o.Units, o.Side)
	}
	for i := range o.Slices {
		if s := &o.Slices[i]; s.Size < 0 || s.Inline && s.Size > MaxInline {
			return invalid("order %q, slice %d: %d bytes", o.ID, i, s.Size)
		}
	}
	return validName("id", o.ID, MaxID)
}

// validName checks an id or the name of a class: they become parts of a job id.
func validName(what, s string, most int) error {
	switch {
	case s == "":
		return invalid("the %s is empty", what)
	case len(s) > most:
		return invalid("the %s has %d bytes, the most is %d", what, len(s), most)
	case !utf8.ValidString(s):
		return invalid("the %s %q is not UTF-8", what, s)
	case strings.ContainsAny(s, "|/"):
		return invalid("the %s %q contains '|' or '/'", what, s)
	}
	return nil
}

func (u *Update) validate() error {
	if u.Seq == 0 || u.State < Open || u.State > Cancelled || u.Ending > Cancelled || u.Ending == Open {
		return invalid("an update of order %d to %v", u.Seq, u.State)
	}
	for _, o := range u.Outcomes {
		if o.Slice < 0 || o.Slice >= MaxSlices || !o.State.Over() {
			return invalid("order %d: the outcome %v of slice %d", u.Seq, o.State, o.Slice)
		}
	}
	return nil
}

// Lets reports whether the filter lets an order through, as far as account, side
// and state go.
func (f *Filter) Lets(o *Order) bool {
	return (f.Account == "" || f.Account == o.Account) &&
		(f.Side == 0 || f.Side == o.Side) &&
		(f.State == 0 || f.State == o.State)
}
