package admission

import (
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
		b.tat = now
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
				wait := b.wait(now, cost, limit)
				if over := level + cost - limit; wait != over {
					t.Fatalf("wait %d, want %d", wait, over)
				}
				if wait <= 0 {
					b.take(now, cost)
					level += cost
				}
			}
			if level > limit {
				t.Fatalf("level %d over %d", level, limit)
			}
		}
	})
}
