package match

// InFlight returns how many units of an order are reserved for matches, also when
// the order was cancelled, has expired or was dropped: until it is 0, some of
// them may still become final.
func (b *Book) InFlight(id string) uint64 {
	if b.changed == nil {
		return 0
	}
	name := b.name(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	pos, ok := b.find(name, id)
	if !ok {
		return 0
	}
	return b.orders[b.index.cells[pos].slot].held
}
