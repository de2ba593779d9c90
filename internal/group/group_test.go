package group

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"weak"

	"github.com/computemarket/computemarket/internal/callback"
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

// A run that does not end fails everybody in it, and nobody else.
func TestRunThatDoesNotEnd(t *testing.T) {
	for name, c := range map[string]struct {
		end func()
		is  error
	}{
		"panic":               {func() { panic("boom") }, nil},
		"panic with an error": {func() { panic(io.EOF) }, io.EOF},
		"panic with nil":      {func() { panic(nil) }, nil},
		"goexit":              {runtime.Goexit, callback.ErrGoexit},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate := make(chan struct{})
				calls := 0
				g := newTest(3, func(rs []*req) {
					<-gate
					if calls++; calls == 2 {
						c.end()
					}
					for _, r := range rs {
						r.ran++
					}
				})
				reqs, errs := make([]req, 6), make([]error, 6)
				var wg sync.WaitGroup
				for i := range reqs { // in groups of 1, 3 and 2
					reqs[i].n = 1
					wg.Go(func() {
						errs[i] = errors.New("Do has not returned")
						errs[i] = g.Do(t.Context(), &reqs[i])
					})
					synctest.Wait()
				}
				close(gate)
				wg.Wait()
				for i, err := range errs {
					failed := i >= 1 && i <= 3
					if failed != (reqs[i].ran == 0) || failed != errors.Is(err, ErrFailed) || !failed && err != nil {
						t.Errorf("request %d ran %d times and heard %v", i, reqs[i].ran, err)
					}
					if failed && (!errors.Is(err, c.is) && c.is != nil || !strings.Contains(err.Error(), "*group.req")) {
						t.Errorf("request %d heard %v, which does not name what happened", i, err)
					}
				}
				if err := g.Do(t.Context(), &reqs[0]); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

// A Group lets go of what it has run.
func TestKeepsNothing(t *testing.T) {
	g := newTest(100, func([]*req) {})
	gone := make([]weak.Pointer[req], 100)
	var wg sync.WaitGroup
	for i := range gone {
		r := &req{n: 1}
		gone[i] = weak.Make(r)
		wg.Go(func() { g.Do(t.Context(), r) })
	}
	wg.Wait()
	runtime.GC()
	for i, p := range gone {
		if p.Value() != nil {
			t.Fatalf("request %d of %d is still reachable", i, len(gone))
		}
	}
	runtime.KeepAlive(g)
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
