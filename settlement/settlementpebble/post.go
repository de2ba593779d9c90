package settlementpebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/computemarket/computemarket/internal/bloom"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/settlement"
)

const (
	// maxGroup bounds the transfers that are committed at once, and so the
	// memory of a commit.
	maxGroup = 1 << 16
	// maxCached bounds the balances that are kept in memory between commits.
	maxCached = 1 << 16
)

// post is one call of Post, or a part of a long one.
type post struct {
	lease     settlement.Lease
	transfers []settlement.Transfer
	results   []settlement.Result
	err       error
}

func (p *post) weight() int { return len(p.transfers) }

// work is the state of the one commit in progress; guarded by
// Ledger.committing. recent and balances outlive the commit.
type work struct {
	recent   bloom.Filter        // the ids that came since the ledger was opened
	balances map[string]*account // as they are on disk, or will be after this commit
	changed  []*account
	applied  []*settlement.Transfer
	ids      map[settlement.ID]*settlement.Transfer // of applied
}

type account struct {
	name    string
	balance uint64
	changed bool
}

func (w *work) reset() {
	*w = work{
		recent:   w.recent,
		balances: map[string]*account{},
		ids:      map[settlement.ID]*settlement.Transfer{},
	}
}

// Post implements settlement.Ledger.
func (l *Ledger) Post(ctx context.Context, lease settlement.Lease, transfers []settlement.Transfer) ([]settlement.Result, error) {
	if l.db == nil {
		return nil, l.usable(ctx)
	}
	results := make([]settlement.Result, 0, len(transfers))
	for part := range slices.Chunk(transfers, maxGroup) {
		p := &post{lease: lease, transfers: part, results: results}
		if err := l.posts.Do(ctx, p); err != nil {
			return results, err
		}
		results = p.results
		if p.err != nil {
			return results, p.err
		}
	}
	return results, nil
}

// commit applies the transfers of a group, in order, in one batch. It is never
// called twice at once.
func (l *Ledger) commit(posts []*post) {
	l.fence.mu.RLock()
	defer l.fence.mu.RUnlock()
	l.committing.Lock()
	defer l.committing.Unlock()
	before := make([]int, len(posts))
	for i, p := range posts {
		before[i] = len(p.results)
	}
	written := false
	defer func() { // also when something panics
		if written {
			l.work.settle()
		} else {
			l.work.reset() // the balances in memory are not those on disk
		}
	}()
	if err := l.write(posts); err != nil {
		for i, p := range posts {
			p.results, p.err = p.results[:before[i]], err
		}
		return
	}
	written = true
}

// write applies the transfers and commits what comes of it.
func (l *Ledger) write(posts []*post) error {
	if err := l.usable(context.Background()); err != nil {
		return err
	}
	if err := l.apply(posts); err != nil || len(l.work.applied) == 0 {
		return err
	}
	b := l.db.Batch()
	l.work.write(b)
	return l.db.Commit(b)
}

// settle makes the work of a commit that is on disk that of the past, and lets
// go of the callers' transfers.
func (w *work) settle() {
	for _, t := range w.applied {
		w.recent.Add((*[32]byte)(&t.ID))
	}
	for _, a := range w.changed {
		a.changed = false
	}
	clear(w.changed)
	w.changed = w.changed[:0]
	clear(w.applied)
	w.applied = w.applied[:0]
	clear(w.ids)
	if len(w.balances) > maxCached {
		w.balances = map[string]*account{}
	}
}

// apply decides on every transfer. It returns an error only when the disk
// cannot be read.
func (l *Ledger) apply(posts []*post) error {
	for _, p := range posts {
		if p.err = l.fence.checkPost(p.lease); p.err != nil {
			continue
		}
		for i := range p.transfers {
			r, err := l.applyOne(&p.transfers[i])
			if _, refused := settlement.ReasonOf(err); refused {
				p.err = err
				break
			}
			if err != nil {
				return err
			}
			p.results = append(p.results, r)
		}
	}
	return nil
}

func (l *Ledger) applyOne(t *settlement.Transfer) (settlement.Result, error) {
	if err := t.Validate(); err != nil {
		return 0, err
	}
	if old := l.work.ids[t.ID]; old != nil {
		return t.Again(old)
	}
	if l.mayHave(&t.ID) {
		old, found, err := l.transfer(&t.ID)
		if err != nil {
			return 0, err
		}
		if found {
			return t.Again(&old)
		}
	}
	from, err := l.account(t.From)
	if err != nil {
		return 0, err
	}
	to, err := l.account(t.To)
	if err != nil {
		return 0, err
	}
	fromAfter, toAfter, err := t.Move(l.issuer, from.balance, to.balance)
	if err != nil {
		return 0, err
	}
	l.work.set(from, fromAfter)
	l.work.set(to, toAfter)
	l.work.applied = append(l.work.applied, t)
	l.work.ids[t.ID] = t
	return settlement.Applied, nil
}

// mayHave reports whether a transfer with the id may be on disk.
func (l *Ledger) mayHave(id *settlement.ID) bool {
	k := (*[32]byte)(id)
	stored := l.stored.Load()
	return stored == nil || stored.Has(k) || l.work.recent.Has(k)
}

func (l *Ledger) account(name string) (*account, error) {
	if a := l.work.balances[name]; a != nil {
		return a, nil
	}
	balance, err := l.balance(name)
	if err != nil {
		return nil, err
	}
	a := &account{name: strings.Clone(name), balance: balance}
	l.work.balances[a.name] = a
	return a, nil
}

func (w *work) set(a *account, balance uint64) {
	a.balance = balance
	if !a.changed {
		a.changed = true
		w.changed = append(w.changed, a)
	}
}

// write puts debits, credits and transfers into one batch, the transfers in the
// order of their ids, which Pebble takes in faster than any other.
func (w *work) write(b *pebble.Batch) {
	var key []byte
	for _, a := range w.changed {
		key = appendAccountKey(key[:0], a.name)
		value := binary.BigEndian.AppendUint64(make([]byte, 0, 8+kv.SealBytes), a.balance)
		b.Set(key, binary.BigEndian.AppendUint32(value, kv.Seal(key, value)), nil)
	}
	slices.SortFunc(w.applied, func(a, b *settlement.Transfer) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	for _, t := range w.applied {
		settleTag := isSettleTag(t)
		op := b.SetDeferred(2+len(t.ID), transferBytes(t, settleTag))
		appendTransferKey(op.Key[:0], &t.ID)
		appendTransfer(op.Value[:0], op.Key, t, settleTag)
		op.Finish()
	}
}
