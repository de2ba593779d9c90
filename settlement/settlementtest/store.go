package settlementtest

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/computemarket/computemarket/settlement"
)

// Store is a settlement.Store in memory. The zero Store is new and ready.
type Store struct {
	// Term is that of the leases. Zero: the next Acquire takes the lease over.
	Term time.Duration

	mu       sync.Mutex // guards what follows
	lease    settlement.Lease
	free     bool      // the lease was given up
	until    time.Time // the end of a lease with a term
	state    settlement.State
	failures map[uint64]settlement.Failure
}

var _ settlement.Store = (*Store)(nil)

// Load implements settlement.Store.
func (s *Store) Load(ctx context.Context) (settlement.Lease, settlement.State, error) {
	if err := ctx.Err(); err != nil {
		return settlement.Lease{}, settlement.State{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free || s.Term > 0 && !time.Now().Before(s.until) {
		return settlement.Lease{}, s.state, nil
	}
	return s.lease, s.state, nil
}

// Acquire implements settlement.Store.
func (s *Store) Acquire(ctx context.Context) (settlement.Lease, settlement.State, error) {
	if err := ctx.Err(); err != nil {
		return settlement.Lease{}, settlement.State{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if left := time.Until(s.until); s.Term > 0 && !s.free && left > 0 {
		return settlement.Lease{}, settlement.State{}, &settlement.HeldError{Holder: s.lease.Holder, Wait: left}
	}
	epoch := s.lease.Epoch + 1
	s.lease = settlement.Lease{Epoch: epoch, Holder: fmt.Sprintf("engine %d", epoch), Term: s.Term}
	s.free = false
	s.renew()
	return s.lease, s.state, nil
}

func (s *Store) renew() { s.until = time.Now().Add(s.Term) }

// Expire lets the lease end now, as if its holder had not been heard of for its
// Term.
func (s *Store) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Time{}
}

// check is the fence. s.mu is held.
func (s *Store) check(lease settlement.Lease) error {
	if s.free {
		return lease.Check(settlement.Lease{})
	}
	return lease.Check(s.lease)
}

// Save implements settlement.Store.
func (s *Store) Save(ctx context.Context, lease settlement.Lease, c settlement.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(lease); err != nil {
		return err
	}
	s.renew()
	s.state = c.State
	if s.failures == nil {
		s.failures = map[uint64]settlement.Failure{}
	}
	for _, f := range c.Put {
		s.failures[f.Seq] = f
	}
	for _, seq := range c.Drop {
		delete(s.failures, seq)
	}
	return nil
}

// Advance implements settlement.Store.
func (s *Store) Advance(ctx context.Context, lease settlement.Lease, state settlement.State) error {
	return s.Save(ctx, lease, settlement.Change{State: state})
}

// Release implements settlement.Store.
func (s *Store) Release(ctx context.Context, lease settlement.Lease, state settlement.State) error {
	if err := s.Advance(ctx, lease, state); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease.Is(lease) {
		s.free = true
	}
	return nil
}

// Failures implements settlement.Store.
func (s *Store) Failures(ctx context.Context, from uint64) iter.Seq2[settlement.Failure, error] {
	return func(yield func(settlement.Failure, error) bool) {
		s.mu.Lock()
		failures := maps.Clone(s.failures)
		s.mu.Unlock()
		for _, seq := range slices.Sorted(maps.Keys(failures)) {
			if seq < from {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(settlement.Failure{}, err)
				return
			}
			if !yield(failures[seq], nil) {
				return
			}
		}
	}
}
