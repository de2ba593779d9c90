package courier

// A round walks once over the pending list as it stood when the round began, in
// the order of Seq. It is what is still to come of it, and outlives flushes and
// restarts: a flush that ends early leaves the rest of its round to the next.
// What is sent meanwhile belongs to the round after it, so however much is sent,
// each round ends. The zero round is over.
type round struct {
	next uint64 // the first Seq that has not had its turn
	last uint64 // the last one of the round
}

// span is a part of the pending list.
type span struct {
	from, to uint64
	old      bool // of the round that an earlier flush began
}

// spans returns, in order, what a flush walks over that begins when last is the
// greatest Seq: the rest of the round, then a new one, without those that had
// their turn just now.
func (r round) spans(last uint64) []span {
	if r.next == 0 || r.next > r.last {
		return []span{{from: 0, to: last}}
	}
	return []span{
		{from: r.next, to: r.last, old: true},
		{from: 0, to: r.next - 1},
		{from: r.last + 1, to: last},
	}
}
