package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/priceboard"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

// content is a slice as it comes: its bytes, and the reference or none.
type content struct {
	open      func() (io.ReadCloser, error)
	reference workload.Hash
}

// submit admits a job, keeps its slices and puts its bids into the book. The same
// again is no second job.
func (m *market) submit(ctx context.Context, j job, contents []content) (*job, error) {
	if !validID.MatchString(j.ID) {
		return nil, fmt.Errorf("%w: an id is 1 to 64 letters, digits, '.', '_' and '-'", errOrder)
	}
	j.Slices = make([]slice, len(contents))
	for _, bid := range j.bids() {
		if err := submittable(bid); err != nil {
			return nil, err
		}
	}
	for i, c := range contents {
		var err error
		if j.Slices[i], err = m.keep(ctx, j.Kind, c); err != nil {
			return nil, fmt.Errorf("slice %d: %w", i, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.jobs[j.ID]; old != nil {
		j.Seq, j.Cancelled = old.Seq, old.Cancelled
		if !reflect.DeepEqual(j, *old) {
			return nil, errRepeated
		}
		return old, nil
	}
	if m.offers[j.ID] != nil {
		return nil, errRepeated
	}
	if d, behind := m.charge()[j.Lane]; behind {
		return nil, refusal{d}
	}
	d := m.admit.Decide(m.request(&j))
	if d.Code != admission.Admitted {
		return nil, refusal{d}
	}
	m.seq++
	j.Seq = m.seq
	if err := m.jobFiles.put(j.ID, &j); err != nil {
		m.admit.Release(d.Lease)
		return nil, err
	}
	m.jobs[j.ID] = &j
	m.leases[j.ID] = d.Lease
	for _, bid := range j.bids() {
		switch _, err := m.book.Submit(bid, time.Now()); {
		case errors.Is(err, match.ErrExpired): // while it was written down
			m.ends[bid.ID] = ending{failure: "expired"}
		case err != nil:
			m.ends[bid.ID] = ending{failure: sentence(err)}
		}
	}
	m.finish(j.ID)
	return &j, nil
}

// request is what a job asks of admission: a shard for each slice. The work is
// done here, whoever is paid for it.
func (m *market) request(j *job) admission.Request {
	return admission.Request{
		JobID: j.ID, Buyer: j.Buyer, Provider: localProvider, Lane: j.Lane,
		Shards: uint64(len(j.Slices)), Duration: m.limit,
	}
}

const localProvider = "this node"

// keep stores the content of a slice, and has its reference computed if there is
// none.
func (m *market) keep(ctx context.Context, kind workload.Kind, c content) (slice, error) {
	in, err := c.open()
	if err != nil {
		return slice{}, err
	}
	defer in.Close()
	w, err := m.contents.Create(ctx)
	if err != nil {
		return slice{}, err
	}
	defer w.Abort()
	var size counter
	hash, err := workload.SumInput(ctx, workload.Reader(io.TeeReader(in, io.MultiWriter(w, &size))))
	if err != nil {
		return slice{}, err
	}
	if err := w.Commit(courier.Hash(hash)); err != nil {
		return slice{}, err
	}
	s := slice{Content: hash, Size: int64(size), Reference: c.reference}
	if s.Reference.IsZero() {
		s.Reference, err = m.run(ctx, fmt.Sprintf("%s of %v", kind, s.Content), kind, s)
	}
	return s, err
}

// run runs the job of a kind on a slice.
func (m *market) run(ctx context.Context, id string, kind workload.Kind, s slice) (workload.Hash, error) {
	r, err := m.contents.Open(ctx, courier.Hash(s.Content))
	if err != nil {
		return workload.Hash{}, err
	}
	defer r.Close()
	in := workload.Reader(r)
	if f, ok := r.(*os.File); ok {
		if in, err = workload.File(f); err != nil {
			return workload.Hash{}, err
		}
	}
	return m.runner.Run(ctx, workload.Slice{ID: id, Kind: kind, Input: in})
}

// finalize is the work of a match: the provider's run, and its proof against the
// reference. This node runs what it admitted itself, so a proof that differs says
// that the buyer's reference is wrong.
func (m *market) finalize(ctx context.Context, matched match.Match) error {
	m.mu.Lock()
	j, i := m.slice(matched.Bid)
	m.mu.Unlock()
	if j == nil {
		return fmt.Errorf("%w: %w", match.ErrBadBid, errUnknown)
	}
	work, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	output, err := m.run(work, matched.Bid, j.Kind, j.Slices[i])
	if err == nil {
		err = workload.SliceProof{
			Reference: j.Slices[i].Reference, Output: output, Payout: matched.Total(),
		}.Verify()
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", match.ErrBadBid, err)
	}
	return err
}

// final, failed and expired are told by the loop what became of an order.
func (m *market) final(matched match.Match, r receipt.Receipt) {
	m.board.RecordOffer(priceboard.Offer{Price: matched.Price, Party: matched.Provider})
	if matched.Lane == admission.Consumer {
		m.admit.ObserveConsumerFee(matched.Price)
	}
	m.end(matched.Bid, ending{receipt: r})
}

func (m *market) failed(matched match.Match, err error) {
	if errors.Is(err, match.ErrBadBid) {
		m.end(matched.Bid, ending{failure: err.Error()})
	}
}

func (m *market) expired(r match.Resting) {
	if r.Side == match.Bid {
		m.end(r.ID, ending{failure: "expired"})
	}
}

func (m *market) end(bid string, e ending) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ends[bid] = e
	if j, _ := m.slice(bid); j != nil {
		m.finish(j.ID)
	}
}

// finish gives back what a job holds once it is over. m.mu is held.
func (m *market) finish(id string) {
	if j := m.jobs[id]; j != nil && m.over(j) {
		m.admit.Release(m.leases[id])
		delete(m.leases, id)
	}
}

// over reports whether no slice of a job can still be matched. m.mu is held.
func (m *market) over(j *job) bool {
	for _, bid := range j.bids() {
		if _, ended := m.ends[bid.ID]; ended {
			continue
		}
		if _, waiting := m.book.Get(bid.ID); waiting || !j.Cancelled {
			return false
		}
	}
	return true
}

// slice finds the job and the slice of a bid. m.mu is held.
func (m *market) slice(bid string) (*job, int) {
	id, number, _ := strings.Cut(bid, "/")
	i, err := strconv.Atoi(number)
	j := m.jobs[id]
	if j == nil || err != nil || i < 0 || i >= len(j.Slices) {
		return nil, 0
	}
	return j, i
}

// inboxFile is a content in the inbox. What lies outside is refused, whatever
// the name or a link says.
func inboxFile(inbox *os.Root, name string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		info, err := inbox.Stat(name) // before opening, which waits for ever at a pipe
		if err == nil && !info.Mode().IsRegular() {
			err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errFile, err)
		}
		f, err := inbox.Open(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errFile, err)
		}
		return f, nil
	}
}

var errFile = errors.New("no such file in the inbox")

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// look returns a job and what became of its slices so far.
func (m *market) look(id string) (*job, []*ending, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.jobs[id]
	if j == nil {
		return nil, nil, errUnknown
	}
	shown := *j // Cancelled may change
	ends := make([]*ending, len(j.Slices))
	for i := range ends {
		if e, ok := m.ends[bidID(id, i)]; ok {
			ends[i] = &e
		}
	}
	return &shown, ends, nil
}

// state says where a slice of a job is.
func (m *market) state(j *job, i int, e *ending) string {
	resting, waiting := m.book.Get(bidID(j.ID, i))
	switch {
	case e != nil && e.failure != "":
		return "failed"
	case e != nil:
		return "done"
	case waiting && resting.Open() > 0:
		return "waiting"
	case j.Cancelled && !waiting:
		return "cancelled"
	}
	return "running"
}
