// Package group turns calls that arrive while another is under way into one
// call: group commit, without a goroutine of its own. The first caller runs its
// own request; those who come meanwhile wait, and one of them then runs the
// requests of all who waited.
package group

import (
	"context"
	"slices"
	"sync"
)

// A Group runs requests of type T one group at a time. Create it with [New].
type Group[T any] struct {
	limit  int
	weight func(T) int
	run    func([]T)

	mu    sync.Mutex
	busy  bool       // somebody leads: runs a group or has been told to
	queue []*call[T] // who came since, in order
}

type call[T any] struct {
	req  T
	turn chan bool // true: lead the next group; false: your request has run
}

// New returns a Group that gives run the requests that have gathered, in the
// order of their arrival. run is never called twice at once and leaves each
// request's result in the request. A group holds at least one request and takes
// more while the sum of their weights stays within limit.
func New[T any](limit int, weight func(T) int, run func([]T)) *Group[T] {
	return &Group[T]{limit: limit, weight: weight, run: run}
}

// Do returns nil when req has run. It returns ctx.Err() when ctx ended first
// and req has not run and never will. A request that is already running is
// waited for: its outcome is never unknown.
func (g *Group[T]) Do(ctx context.Context, req T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	own := &call[T]{req: req}
	g.mu.Lock()
	if g.busy {
		own.turn = make(chan bool, 1)
		g.queue = append(g.queue, own)
		g.mu.Unlock()
		lead, err := g.wait(ctx, own)
		if !lead {
			return err
		}
		g.mu.Lock()
	}
	g.busy = true
	group := g.take(own)
	g.mu.Unlock()

	defer g.handOver(group, own) // also when run panics: nobody waits for ever
	reqs := make([]T, len(group))
	for i, c := range group {
		reqs[i] = c.req
	}
	g.run(reqs)
	return nil
}

// wait returns when own has run, left the queue, or is to lead.
func (g *Group[T]) wait(ctx context.Context, own *call[T]) (lead bool, err error) {
	select {
	case lead := <-own.turn:
		return lead, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(g.queue, own)
	if i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	}
	g.mu.Unlock()
	if i >= 0 {
		return false, ctx.Err()
	}
	return <-own.turn, nil // taken: by a leader, or as the leader
}

// take returns own and those behind it that fit. g.mu is held.
func (g *Group[T]) take(own *call[T]) []*call[T] {
	sum, n := g.weight(own.req), 0
	for n < len(g.queue) {
		sum += g.weight(g.queue[n].req)
		if sum > g.limit {
			break
		}
		n++
	}
	group := append([]*call[T]{own}, g.queue[:n]...)
	g.queue = slices.Delete(g.queue, 0, n)
	return group
}

func (g *Group[T]) handOver(group []*call[T], own *call[T]) {
	g.mu.Lock()
	g.busy = len(g.queue) > 0
	if g.busy {
		next := g.queue[0]
		g.queue = slices.Delete(g.queue, 0, 1)
		next.turn <- true
	}
	g.mu.Unlock()
	for _, c := range group {
		if c != own {
			c.turn <- false
		}
	}
}
