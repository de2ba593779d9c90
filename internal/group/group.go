// Package group turns calls that arrive while another is under way into one
// call: group commit, without a goroutine that outlives a call. The first caller
// has its own request run; those who come meanwhile wait, and one of them then
// has the requests of all who waited run.
package group

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/internal/fault"
)

// ErrFailed: the run that a request was part of panicked or called
// runtime.Goexit. Nobody can tell how far it came, and so it is fault.ErrUnknown. The error that wraps this one
// also wraps that of [callback.Run], which names the panic.
var ErrFailed = fmt.Errorf("%w: the call did not end", fault.ErrUnknown)

// A Group runs requests of type T one group at a time. Create it with [New].
type Group[T any] struct {
	name   string // of run, in the error of one that panicked
	limit  int
	weight func(T) int
	run    func([]T)

	// One caller at a time leads: it takes the requests that have gathered, runs
	// them, and hands the lead to the first who has come since. So busy stays
	// true from hand to hand, and run is never called twice at once.
	mu    sync.Mutex
	busy  bool       // somebody leads
	queue []*call[T] // who came since, in order
}

type call[T any] struct {
	req    T
	weight int
	turn   chan turn // sent to once, by who leads
}

// turn is what a waiting call hears.
type turn struct {
	lead bool  // it runs the next group
	err  error // if not: how the group with its request ended
}

// New returns a Group that gives run the requests that have gathered, in the
// order of their arrival. run is never called twice at once and leaves each
// request's result in the request. A group holds at least one request and takes
// more while the sum of their weights stays within limit.
func New[T any](limit int, weight func(T) int, run func([]T)) *Group[T] {
	return &Group[T]{name: fmt.Sprintf("a group of %T", *new(T)), limit: limit, weight: weight, run: run}
}

// Do returns nil when req has run. It returns ctx.Err() when ctx ended first
// and req has not run and never will. A request that is already running is
// waited for.
//
// When run panics or calls runtime.Goexit, every request of that group gets
// [ErrFailed], the leader's as well. The next group runs as if nothing had
// happened.
func (g *Group[T]) Do(ctx context.Context, req T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	own := &call[T]{req: req, weight: g.weight(req)}
	g.mu.Lock()
	if g.busy {
		own.turn = make(chan turn, 1)
		g.queue = append(g.queue, own)
		g.mu.Unlock()
		if t, err := g.wait(ctx, own); !t.lead {
			return err
		}
		g.mu.Lock()
	}
	g.busy = true
	group := g.take(own)
	g.mu.Unlock()

	reqs := make([]T, len(group))
	for i, c := range group {
		reqs[i] = c.req
	}
	// On a goroutine of its own: a Goexit would end that of the one caller who
	// happens to lead.
	err := callback.Run(g.name, func() error {
		g.run(reqs)
		return nil
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	g.handOver(group[1:], err)
	return err
}

// wait returns when own is to lead, or how its request ended: it has run, or has
// left the queue.
func (g *Group[T]) wait(ctx context.Context, own *call[T]) (turn, error) {
	select {
	case t := <-own.turn:
		return t, t.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(g.queue, own)
	if i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	}
	g.mu.Unlock()
	if i >= 0 {
		return turn{}, ctx.Err()
	}
	t := <-own.turn // taken: by a leader, or as the leader
	return t, t.err
}

// take returns own and those behind it that fit. g.mu is held.
func (g *Group[T]) take(own *call[T]) []*call[T] {
	sum, n := own.weight, 0
	for n < len(g.queue) {
		sum += g.queue[n].weight
		if sum > g.limit {
			break
		}
		n++
	}
	group := append([]*call[T]{own}, g.queue[:n]...)
	g.queue = slices.Delete(g.queue, 0, n)
	return group
}

// handOver gives the lead to the first who waits, and tells the others of the
// group how it ended.
func (g *Group[T]) handOver(others []*call[T], err error) {
	g.mu.Lock()
	g.busy = len(g.queue) > 0
	if g.busy {
		g.queue[0].turn <- turn{lead: true}
		g.queue = slices.Delete(g.queue, 0, 1)
	}
	g.mu.Unlock()
	for _, c := range others {
		c.turn <- turn{err: err}
	}
}
