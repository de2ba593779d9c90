package group

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

type req struct{ n, ran int }

func newTest(limit int, run func([]*req)) *Group[*req] {
	return New(limit, func(r *req) int { return r.n }, run)
}

func TestWaitersShareOneRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var sizes []int
		g := newTest(100, func(rs []*req) {
			<-gate
			sizes = append(sizes, len(rs))
			for _, r := range rs {
				r.ran++
			}
		})
		reqs := make([]req, 10)
		var wg sync.WaitGroup
		start := func(r *req) {
			r.n = 1
			wg.Go(func() {
				if err := g.Do(t.Context(), r); err != nil {
					t.Error(err)
				}
				if r.ran != 1 {
					t.Errorf("ran %d times when Do returned", r.ran)
				}
			})
			synctest.Wait()
		}
		for i := range reqs {
			start(&reqs[i])
		}
		close(gate)
		wg.Wait()
		if len(sizes) != 2 || sizes[0] != 1 || sizes[1] != 9 {
			t.Errorf("groups of %v, want 1 and then all who waited", sizes)
		}
	})
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var sums []int
		g := newTest(10, func(rs []*req) {
			<-gate
			sum := 0
			for _, r := range rs {
				sum += r.n
			}
			sums = append(sums, sum)
		})
		var wg sync.WaitGroup
		for _, n := range []int{1, 6, 4, 3, 25, 2} {
			wg.Go(func() { g.Do(t.Context(), &req{n: n}) })
			synctest.Wait()
		}
		close(gate)
		wg.Wait()
		want := []int{1, 10, 3, 25, 2}
		if len(sums) != len(want) {
			t.Fatalf("groups weigh %v, want %v", sums, want)
		}
		for i := range want {
			if sums[i] != want[i] {
				t.Fatalf("groups weigh %v, want %v", sums, want)
			}
		}
	})
}

func TestCancelledWaiterNeverRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		g := newTest(100, func(rs []*req) {
			<-gate
			for _, r := range rs {
				r.ran++
			}
		})
		var wg sync.WaitGroup
		var first, gone, last req
		wg.Go(func() { g.Do(t.Context(), &first) })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := g.Do(ctx, &gone); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { g.Do(t.Context(), &last) })
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(gate)
		wg.Wait()
		if first.ran != 1 || gone.ran != 0 || last.ran != 1 {
			t.Errorf("ran %d, %d, %d times, want 1, 0, 1", first.ran, gone.ran, last.ran)
		}
	})
}

func TestPanicFreesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		calls := 0
		g := newTest(100, func(rs []*req) {
			<-gate
			if calls++; calls == 1 {
				panic("first")
			}
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			g.Do(t.Context(), &req{})
		})
		synctest.Wait()
		wg.Go(func() {
			if err := g.Do(t.Context(), &req{}); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		close(gate)
		wg.Wait()
	})
}

func TestHammer(t *testing.T) {
	total := 0 // guarded by the group: run is never called twice at once
	g := newTest(64, func(rs []*req) {
		for _, r := range rs {
			total++
			r.ran++
		}
	})
	var wg sync.WaitGroup
	const workers, each = 16, 500
	for range workers {
		wg.Go(func() {
			for range each {
				r := req{n: 1}
				if err := g.Do(t.Context(), &r); err != nil || r.ran != 1 {
					t.Errorf("ran %d times, %v", r.ran, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if total != workers*each {
		t.Errorf("%d ran, want %d", total, workers*each)
	}
}
