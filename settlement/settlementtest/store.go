package settlementtest

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/computemarket/computemarket/settlement"
)

// Store is a settlement.Store in memory. The zero Store is new and ready.
type Store struct {
	mu       sync.Mutex
	state    settlement.State
	failures map[uint64]settlement.Failure
}

var _ settlement.Store = (*Store)(nil)

// Acquire implements settlement.Store.
func (s *Store) Acquire(ctx context.Context) (settlement.State, error) {
	if err := ctx.Err(); err != nil {
		return settlement.State{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Epoch++
	return s.state, nil
}

// Save implements settlement.Store.
func (s *Store) Save(ctx context.Context, state settlement.State, put []settlement.Failure, drop []uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if state.Epoch != s.state.Epoch {
		return settlement.ErrFenced
	}
	s.state = state
	if s.failures == nil {
		s.failures = map[uint64]settlement.Failure{}
	}
	for _, f := range put {
		s.failures[f.Seq] = f
	}
	for _, seq := range drop {
		delete(s.failures, seq)
	}
	return nil
}

// Advance implements settlement.Store.
func (s *Store) Advance(ctx context.Context, state settlement.State) error {
	return s.Save(ctx, state, nil, nil)
}

// Failure implements settlement.Store.
func (s *Store) Failure(ctx context.Context, seq uint64) (settlement.Failure, error) {
	if err := ctx.Err(); err != nil {
		return settlement.Failure{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.failures[seq]
	if !ok {
		return settlement.Failure{}, settlement.ErrNotArchived
	}
	return f, nil
}

// Failures implements settlement.Store.
func (s *Store) Failures(ctx context.Context) iter.Seq2[settlement.Failure, error] {
	return func(yield func(settlement.Failure, error) bool) {
		s.mu.Lock()
		failures := maps.Clone(s.failures)
		s.mu.Unlock()
		for _, seq := range slices.Sorted(maps.Keys(failures)) {
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
