package match

import "time"

// Expire takes out every order whose time is over at now, appends each to dst
// as it was, and returns dst. The first to expire comes first. Units in flight
// are not recalled, as with [Book.Cancel].
func (b *Book) Expire(dst []Resting, now time.Time) []Resting {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.expiries) > 0 {
		slot := b.expiries[0]
		if b.cold[slot].expires > b.since(now) {
			break
		}
		dst = append(dst, b.resting(slot))
		b.set(slot, 0, b.orders[slot].held)
	}
	return dst
}

// NextExpiry returns when the next order expires. It is false when none does.
func (b *Book) NextExpiry() (t time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.expiries) == 0 {
		return time.Time{}, false
	}
	return b.base.Add(time.Duration(b.cold[b.expiries[0]].expires)), true
}

// The heap is written out because orders must know their position in it:
// a cancelled order leaves at once, so the heap never holds the dead.

func (b *Book) pushExpiry(slot uint32) {
	b.expiries = append(b.expiries, slot)
	b.up(len(b.expiries) - 1)
	if b.expiries[0] == slot {
		b.signal()
	}
}

func (b *Book) dropExpiry(slot uint32) {
	i := int(b.orders[slot].heap) - 1
	b.orders[slot].heap = 0
	last := len(b.expiries) - 1
	moved := b.expiries[last]
	b.expiries = b.expiries[:last]
	if i == last {
		return
	}
	b.place(i, moved)
	b.down(i)
	b.up(i)
}

func (b *Book) up(i int) {
	slot := b.expiries[i]
	for i > 0 && b.sooner(slot, b.expiries[(i-1)/2]) {
		b.place(i, b.expiries[(i-1)/2])
		i = (i - 1) / 2
	}
	b.place(i, slot)
}

func (b *Book) down(i int) {
	slot := b.expiries[i]
	for {
		child := 2*i + 1
		if child >= len(b.expiries) {
			break
		}
		if r := child + 1; r < len(b.expiries) && b.sooner(b.expiries[r], b.expiries[child]) {
			child = r
		}
		if !b.sooner(b.expiries[child], slot) {
			break
		}
		b.place(i, b.expiries[child])
		i = child
	}
	b.place(i, slot)
}

func (b *Book) place(i int, slot uint32) {
	b.expiries[i] = slot
	b.orders[slot].heap = uint32(i + 1)
}

// sooner orders by expiry, then by sequence number, so that equal times leave
// in the order they came.
func (b *Book) sooner(x, y uint32) bool {
	if ex, ey := b.cold[x].expires, b.cold[y].expires; ex != ey {
		return ex < ey
	}
	return b.cold[x].stamp < b.cold[y].stamp
}
