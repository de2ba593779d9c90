package admission

import (
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// TestBucket holds the bucket against a plain one that keeps a level and drains
// it as time passes.
func TestBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(0, 100).Draw(t, "limit")
		var b bucket
		now, level := int64(1000), int64(0)
		b.tat.Store(now)
		for range 100 {
			pause := rapid.Int64Range(0, 30).Draw(t, "pause")
			now += pause
			level = max(level-pause, 0)
			cost := rapid.Int64Range(0, 50).Draw(t, "cost")
			if rapid.Bool().Draw(t, "fill") {
				fits := max(min(cost, limit-level), 0)
				if got := b.fill(now, cost, limit); got != fits {
					t.Fatalf("filled %d, want %d", got, fits)
				}
				level += fits
			} else {
				wait := b.take(now, cost, limit)
				if over := max(level+cost-limit, 0); wait != over {
					t.Fatalf("wait %d, want %d", wait, over)
				}
				if wait == 0 {
					level += cost
				}
			}
			if level > limit {
				t.Fatalf("level %d over %d", level, limit)
			}
		}
	})
}

// TestBucketConserves lets many take, fill and give at once; what is taken and
// not given back is at most the time passed and the limit.
func TestBucketConserves(t *testing.T) {
	const limit = 1000
	rounds := int64(1_000_000)
	if testing.Short() {
		rounds = 100_000
	}
	var b bucket
	var now, net atomic.Int64
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range 8 {
		wg.Go(func() {
			<-begin
			got := int64(0)
			for n := range rounds {
				at := now.Add(1)
				cost := 1 + (n*7+int64(i))%4
				if i%4 == 0 {
					got += b.fill(at, cost, limit)
				} else if b.take(at, cost, limit) == 0 {
					got += cost
					if n%3 == 0 {
						got -= cost
						b.give(cost)
					}
				}
			}
			net.Add(got)
		})
	}
	close(begin)
	wg.Wait()
	if got, most := net.Load(), now.Load()+limit; got > most || got < most/2 {
		t.Errorf("%d taken, at most %d can be", got, most)
	}
	if got, most := b.tat.Load(), now.Load()+limit; got > most {
		t.Errorf("bucket at %d, at most %d", got, most)
	}
}

// TestHeldConserves lets many take shards at once; held is what they took.
func TestHeldConserves(t *testing.T) {
	var w wheel
	var net atomic.Int64
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range int64(8) {
		wg.Go(func() {
			<-begin
			got := int64(0)
			for range 100_000 {
				if w.take(1+i, 20) == 0 {
					got++
					w.give(1 + i)
				}
				if w.take(1, 1<<40) == 0 {
					net.Add(1)
				}
				w.give(1)
				net.Add(-1)
			}
			if got == 0 {
				t.Error("never got any")
			}
		})
	}
	close(begin)
	wg.Wait()
	if h := w.held.Load(); h != net.Load() || h != 0 {
		t.Errorf("%d held, %d taken", h, net.Load())
	}
}
