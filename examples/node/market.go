package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/priceboard"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

// market is what lies around the book: orders that survive a restart, the work
// of a match, and what became of each slice.
type market struct {
	book     *match.Book
	admit    *admission.Controller
	board    *priceboard.Board
	runner   *workload.Runner
	contents courier.Bundles // of slices, by hash
	jobFiles records[job]
	askFiles records[offer]
	limit    time.Duration // of one slice

	mu        sync.Mutex
	seq       uint64
	jobs      map[string]*job
	offers    map[string]*offer
	leases    map[string]admission.Lease // of jobs that are not over
	uncharged []*job                     // restored, and not charged to admission yet
	ends      map[string]ending          // by bid
}

// ending is what became of a slice. Only receipts outlast the process: a slice
// that failed is tried again after a restart, and fails again.
type ending struct {
	receipt receipt.Receipt
	failure string
}

var (
	errUnknown  = errors.New("no such order")
	errRepeated = errors.New("the id stands for another order")
	errOrder    = errors.New("bad order")
)

// refusal is an admission that was not granted.
type refusal struct{ admission.Decision }

func (r refusal) Error() string {
	if r.RetryAfter > 0 {
		return fmt.Sprintf("not admitted: %v, try again in %v", r.Code, r.RetryAfter.Round(time.Millisecond))
	}
	return fmt.Sprintf("not admitted: %v", r.Code)
}

// restore puts the orders that are still open back into the book.
func (m *market) restore(ctx context.Context, log match.History) error {
	jobs, err := m.jobFiles.all()
	if err != nil {
		return err
	}
	offers, err := m.askFiles.all()
	if err != nil {
		return err
	}
	type place struct {
		seq    uint64
		orders []match.Order
	}
	var places []place
	for _, j := range jobs {
		m.jobs[j.ID] = j
		m.seq = max(m.seq, j.Seq)
		places = append(places, place{j.Seq, j.bids()})
	}
	for _, o := range offers {
		m.offers[o.ID] = o
		m.seq = max(m.seq, o.Seq)
		places = append(places, place{o.Seq, []match.Order{o.ask()}})
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.seq, b.seq) })
	var orders []match.Order
	for _, p := range places {
		orders = append(orders, p.orders...)
	}
	// The pass over the log that Resume makes is also the one in which the slices
	// find their receipts.
	open, err := match.Resume(ctx, indexing{log, m}, 0, orders)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, o := range open {
		if m.cancelled(o.ID) {
			continue
		}
		switch _, err := m.book.Submit(o, now); {
		case errors.Is(err, match.ErrExpired):
			m.ends[o.ID] = ending{failure: "expired"}
		case errors.Is(err, match.ErrFull): // the setting has become smaller
			m.ends[o.ID] = ending{failure: sentence(err)}
		case err != nil:
			return fmt.Errorf("order %s: %w", o.ID, err)
		}
	}
	slices.SortFunc(jobs, func(a, b *job) int { return cmp.Compare(a.Seq, b.Seq) })
	m.uncharged = jobs
	m.charge()
	return m.sweep(ctx)
}

// charge charges restored jobs to admission again, the oldest first. They were
// admitted before, so they stay whatever it answers now, when there is less
// capacity, say; but until it has taken them, no new job of their lane is
// admitted. It returns the refusals, by lane. m.mu is held, or nobody else has m
// yet.
func (m *market) charge() (refused map[admission.Lane]admission.Decision) {
	refused = make(map[admission.Lane]admission.Decision)
	m.uncharged = slices.DeleteFunc(m.uncharged, func(j *job) bool {
		if m.over(j) {
			return true
		}
		if _, behind := refused[j.Lane]; behind {
			return false
		}
		d := m.admit.Decide(m.request(j))
		switch {
		case d.Code == admission.Admitted:
			m.leases[j.ID] = d.Lease
		case d.RetryAfter > 0:
			refused[j.Lane] = d
			return false
		}
		return true // also what no longer fits at all: nobody would be admitted behind it
	})
	return refused
}

// chargeRestored tries again what charge has left.
func (m *market) chargeRestored() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.charge()
}

// indexing is a log that shows the market what is read.
type indexing struct {
	match.History
	m *market
}

func (x indexing) After(ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error] {
	return func(yield func(receipt.Record, error) bool) {
		for rec, err := range x.History.After(ctx, seq) {
			if j, ok := match.ParseJob(rec.JobID); err == nil && ok {
				x.m.ends[j.Bid] = ending{receipt: rec.Receipt}
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

// sweep removes the contents that no open job needs.
func (m *market) sweep(ctx context.Context) error {
	needed := make(map[workload.Hash]bool)
	for _, j := range m.jobs {
		for _, s := range j.Slices {
			needed[s.Content] = needed[s.Content] || !m.over(j)
		}
	}
	for h, err := range m.contents.All(ctx) {
		if err != nil {
			return err
		}
		if !needed[workload.Hash(h)] {
			if err := m.contents.Remove(ctx, h); err != nil {
				return err
			}
		}
	}
	return nil
}

// post puts an offer into the book. The same again is no second offer.
func (m *market) post(o offer) (offer, error) {
	if !validID.MatchString(o.ID) {
		return offer{}, fmt.Errorf("%w: an id is 1 to 64 letters, digits, '.', '_' and '-'", errOrder)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.offers[o.ID]; old != nil {
		o.Seq, o.Cancelled = old.Seq, old.Cancelled
		if !reflect.DeepEqual(o, *old) {
			return offer{}, errRepeated
		}
		return o, nil
	}
	if m.jobs[o.ID] != nil {
		return offer{}, errRepeated
	}
	if err := submittable(o.ask()); err != nil {
		return offer{}, err
	}
	m.seq++
	o.Seq = m.seq
	if err := m.askFiles.put(o.ID, &o); err != nil {
		return offer{}, err
	}
	if _, err := m.book.Submit(o.ask(), time.Now()); err != nil {
		return offer{}, errors.Join(err, m.askFiles.remove(o.ID))
	}
	m.offers[o.ID] = &o
	return o, nil
}

// submittable tries an order on an empty book, before anything is written.
func submittable(o match.Order) error {
	book, err := match.NewBook(&match.Options{Capacity: 1})
	if err != nil {
		return err
	}
	_, err = book.Submit(o, time.Now())
	return err
}

// cancel takes an offer, or all of a job, out of the book, and returns how many
// slices will not be matched now. What is in flight may still become final.
func (m *market) cancel(id string) (units uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var bids []match.Order
	switch j, o := m.jobs[id], m.offers[id]; {
	case j != nil:
		j.Cancelled = true
		bids, err = j.bids(), m.jobFiles.put(id, j)
	case o != nil:
		o.Cancelled = true
		bids, err = []match.Order{o.ask()}, m.askFiles.put(id, o)
	default:
		return 0, errUnknown
	}
	if err != nil {
		return 0, err
	}
	for _, b := range bids {
		n, err := m.book.Cancel(b.ID)
		if err == nil {
			units += n
		} else if !errors.Is(err, match.ErrNotFound) {
			return units, err
		}
	}
	m.finish(id)
	return units, nil
}

// cancelled reports whether an order of the book was cancelled.
func (m *market) cancelled(order string) bool {
	if j, _ := m.slice(order); j != nil {
		return j.Cancelled
	}
	o := m.offers[order]
	return o != nil && o.Cancelled
}
