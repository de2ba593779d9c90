package receipttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/computemarket/computemarket/receipt"
)

// Open opens the store with the given name, which is new in each clause. Opened
// again under the same name, after it was closed if it is an io.Closer, it has
// what was acknowledged before. A store that is [Damageable] is held to more.
type Open func(name string) (receipt.Store, error)

// Run checks every clause of receipt.Store, each in a subtest of its own.
func Run(t *testing.T, open Open) {
	for _, c := range Clauses() {
		t.Run(c.Name, func(t *testing.T) {
			err := c.Check(t.Context(), open)
			if errors.Is(err, ErrNotDamageable) {
				t.Skip(err)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// Clause is one promise of receipt.Store. Check returns an error unless the
// stores that open gives keep it, or [ErrNotDamageable].
type Clause struct {
	Name  string
	Check func(ctx context.Context, open Open) error
}

// Clauses returns all clauses of the suite.
func Clauses() []Clause {
	return []Clause{
		{"InsertGetAfter", insertGetAfter},
		{"Duplicate", duplicate},
		{"DuplicateInOneCall", duplicateInOneCall},
		{"Conflict", conflict},
		{"InvalidWritesNothing", invalidWritesNothing},
		{"Promotion", promotion},
		{"PromotionInOneCall", promotionInOneCall},
		{"AfterIsASnapshot", afterIsASnapshot},
		{"PromotionDuringAfter", promotionDuringAfter},
		{"OrderOfVisibility", orderOfVisibility},
		{"AfterStops", afterStops},
		{"NotFound", notFound},
		{"Cancelled", cancelled},
		{"EmptyAppend", emptyAppend},
		{"Extremes", extremes},
		{"LargeBatch", largeBatch},
		{"ConcurrentDuplicates", concurrentDuplicates},
		{"Reopen", reopen},
		{"CallerMayReuseSlice", callerMayReuseSlice},
		{"Damaged", damaged},
		{"DamagedDryRun", damagedDryRun},
		{"DamagedLast", damagedLast},
	}
}

var issued = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func numbered(i int) receipt.Receipt {
	return receipt.New(fmt.Sprintf("job-%d", i), "buyer", "provider", uint64(i), issued)
}

func dry(r receipt.Receipt) receipt.Receipt {
	r.DryRun = true
	return r
}

// with opens a new store for f, and closes it.
func with(name string, open Open, f func(s receipt.Store) error) error {
	s, err := open(name)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return errors.Join(f(s), closeStore(s))
}

func closeStore(s receipt.Store) error {
	if c, ok := s.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func wantAppend(ctx context.Context, s receipt.Store, rs []receipt.Receipt, want ...receipt.Status) error {
	got, err := s.Append(ctx, rs)
	if len(got) != len(want) {
		return fmt.Errorf("Append of %d: %v, %v", len(rs), got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("receipt %d is %v, want %v", i, got[i], want[i])
		}
	}
	if refusal := receipt.Refusal(rs, want); !errors.Is(err, errors.Unwrap(refusal)) || (err == nil) != (refusal == nil) {
		return fmt.Errorf("Append: error %v, want %v", err, refusal)
	}
	return nil
}

// wantLog checks the whole log and the order of its numbers.
func wantLog(ctx context.Context, s receipt.Store, want ...receipt.Receipt) error {
	i, last := 0, uint64(0)
	for rec, err := range s.After(ctx, 0) {
		if err != nil {
			return fmt.Errorf("After: %w", err)
		}
		if rec.Seq <= last {
			return fmt.Errorf("number %d follows %d", rec.Seq, last)
		}
		if last = rec.Seq; i == len(want) {
			return fmt.Errorf("a receipt too many: %v", rec)
		}
		if err := same(rec.Receipt, want[i]); err != nil {
			return fmt.Errorf("place %d: %w", i, err)
		}
		got, err := s.Get(ctx, rec.Key)
		if err != nil || got.Seq != rec.Seq {
			return fmt.Errorf("Get of number %d: number %d, %v", rec.Seq, got.Seq, err)
		}
		if err := same(got.Receipt, want[i]); err != nil {
			return fmt.Errorf("Get: %w", err)
		}
		i++
	}
	if i != len(want) {
		return fmt.Errorf("the log has %d receipts, want %d", i, len(want))
	}
	return nil
}

func same(got, want receipt.Receipt) error {
	if !got.SameContent(&want) || got.DryRun != want.DryRun || !got.IssuedAt.Equal(want.IssuedAt) {
		return fmt.Errorf("got %+v, want %+v", got, want)
	}
	return nil
}

func insertGetAfter(ctx context.Context, open Open) error {
	return with("insert", open, func(s receipt.Store) error {
		a, b, c := numbered(1), dry(numbered(2)), numbered(3)
		if err := wantAppend(ctx, s, []receipt.Receipt{a, b}, receipt.Inserted, receipt.Inserted); err != nil {
			return err
		}
		if err := wantAppend(ctx, s, []receipt.Receipt{c}, receipt.Inserted); err != nil {
			return err
		}
		if err := wantLog(ctx, s, a, b, c); err != nil {
			return err
		}
		first, err := s.Get(ctx, a.Key)
		if err != nil || first.Seq < 1 {
			return fmt.Errorf("the first number is %d, %v", first.Seq, err)
		}
		for rec, err := range s.After(ctx, first.Seq) {
			if err != nil {
				return err
			}
			if rec.Key != b.Key {
				return fmt.Errorf("After(first) starts with %v", rec)
			}
			break
		}
		for rec, err := range s.After(ctx, math.MaxUint64) {
			return fmt.Errorf("After the last number: %v, %v", rec, err)
		}
		return nil
	})
}

func duplicate(ctx context.Context, open Open) error {
	return with("duplicate", open, func(s receipt.Store) error {
		r := numbered(1)
		later := r
		later.IssuedAt = issued.Add(time.Hour) // no content
		for _, step := range []struct {
			r    receipt.Receipt
			want receipt.Status
		}{{r, receipt.Inserted}, {r, receipt.Duplicate}, {later, receipt.Duplicate}, {dry(r), receipt.Duplicate}} {
			if err := wantAppend(ctx, s, []receipt.Receipt{step.r}, step.want); err != nil {
				return err
			}
		}
		return wantLog(ctx, s, r)
	})
}

func duplicateInOneCall(ctx context.Context, open Open) error {
	return with("duplicate-in-one", open, func(s receipt.Store) error {
		a, b := numbered(1), numbered(2)
		if err := wantAppend(ctx, s, []receipt.Receipt{a, b, a, dry(a)},
			receipt.Inserted, receipt.Inserted, receipt.Duplicate, receipt.Duplicate); err != nil {
			return err
		}
		return wantLog(ctx, s, a, b)
	})
}

// The known collision: ("ab", "c") and ("a", "bc").
func collision() (receipt.Receipt, receipt.Receipt) {
	return receipt.New("ab", "c", "prov", 1, issued), receipt.New("a", "bc", "prov", 1, issued)
}

func conflict(ctx context.Context, open Open) error {
	return with("conflict", open, func(s receipt.Store) error {
		ab, a := collision()
		other := numbered(1)
		if err := wantAppend(ctx, s, []receipt.Receipt{ab}, receipt.Inserted); err != nil {
			return err
		}
		if err := wantAppend(ctx, s, []receipt.Receipt{a, other}, receipt.Conflict, receipt.Inserted); err != nil {
			return err
		}
		if err := wantAppend(ctx, s, []receipt.Receipt{dry(a)}, receipt.Conflict); err != nil {
			return err
		}
		if err := wantLog(ctx, s, ab, other); err != nil {
			return err
		}
		return with("conflict-in-one", open, func(s receipt.Store) error {
			if err := wantAppend(ctx, s, []receipt.Receipt{dry(ab), a}, receipt.Inserted, receipt.Conflict); err != nil {
				return err
			}
			return wantLog(ctx, s, dry(ab))
		})
	})
}

func invalidWritesNothing(ctx context.Context, open Open) error {
	return with("invalid", open, func(s receipt.Store) error {
		for _, bad := range Invalid() {
			statuses, err := s.Append(ctx, []receipt.Receipt{numbered(1), bad.Receipt})
			if !errors.Is(err, bad.Err) || statuses != nil {
				return fmt.Errorf("%s: %v, %v, want %v", bad.Name, statuses, err, bad.Err)
			}
		}
		return wantLog(ctx, s)
	})
}

func promotion(ctx context.Context, open Open) error {
	return with("promotion", open, func(s receipt.Store) error {
		r, other := numbered(1), numbered(2)
		if err := wantAppend(ctx, s, []receipt.Receipt{dry(r), other}, receipt.Inserted, receipt.Inserted); err != nil {
			return err
		}
		cursor, err := s.Get(ctx, other.Key)
		if err != nil {
			return err
		}
		if err := wantAppend(ctx, s, []receipt.Receipt{r}, receipt.Inserted); err != nil {
			return err
		}
		if err := wantAppend(ctx, s, []receipt.Receipt{dry(r), r}, receipt.Duplicate, receipt.Duplicate); err != nil {
			return err
		}
		met := 0
		for rec, err := range s.After(ctx, cursor.Seq) {
			if err != nil {
				return err
			}
			if rec.Key != r.Key || rec.DryRun {
				return fmt.Errorf("behind the cursor stands %+v", rec)
			}
			met++
		}
		if met != 1 {
			return fmt.Errorf("a cursor that had passed the dry run meets the promoted receipt %d times", met)
		}
		return wantLog(ctx, s, other, r)
	})
}

func promotionInOneCall(ctx context.Context, open Open) error {
	return with("promotion-in-one", open, func(s receipt.Store) error {
		r, other := numbered(1), numbered(2)
		if err := wantAppend(ctx, s, []receipt.Receipt{dry(r), other, r, dry(r)},
			receipt.Inserted, receipt.Inserted, receipt.Inserted, receipt.Duplicate); err != nil {
			return err
		}
		return wantLog(ctx, s, other, r)
	})
}

func afterIsASnapshot(ctx context.Context, open Open) error {
	return with("snapshot", open, func(s receipt.Store) error {
		if err := wantAppend(ctx, s, []receipt.Receipt{numbered(0), numbered(1)}, receipt.Inserted, receipt.Inserted); err != nil {
			return err
		}
		n := 0
		for _, err := range s.After(ctx, 0) {
			if err != nil {
				return err
			}
			if n++; n > 2 {
				return errors.New("the iteration shows what was appended after it began")
			}
			if err := wantAppend(ctx, s, []receipt.Receipt{numbered(10 + n)}, receipt.Inserted); err != nil {
				return err
			}
		}
		return wantLog(ctx, s, numbered(0), numbered(1), numbered(11), numbered(12))
	})
}

func afterStops(ctx context.Context, open Open) error {
	return with("stops", open, func(s receipt.Store) error {
		rs := []receipt.Receipt{numbered(1), numbered(2), numbered(3)}
		if err := wantAppend(ctx, s, rs, receipt.Inserted, receipt.Inserted, receipt.Inserted); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		n := 0
		for _, err := range s.After(ctx, 0) {
			if n++; n == 1 && err == nil {
				cancel()
				continue
			}
			if n != 2 || !errors.Is(err, context.Canceled) {
				return fmt.Errorf("step %d after cancelling: %v, want one context.Canceled", n, err)
			}
		}
		if n != 2 {
			return fmt.Errorf("%d steps, want one receipt and one error", n)
		}
		return nil
	})
}

func notFound(ctx context.Context, open Open) error {
	return with("not-found", open, func(s receipt.Store) error {
		if _, err := s.Get(ctx, numbered(1).Key); !errors.Is(err, receipt.ErrNotFound) {
			return fmt.Errorf("Get: %v, want ErrNotFound", err)
		}
		return nil
	})
}

func cancelled(ctx context.Context, open Open) error {
	return with("cancelled", open, func(s receipt.Store) error {
		dead, cancel := context.WithCancel(ctx)
		cancel()
		if statuses, err := s.Append(dead, []receipt.Receipt{numbered(1)}); !errors.Is(err, context.Canceled) || statuses != nil {
			return fmt.Errorf("Append: %v, %v, want context.Canceled", statuses, err)
		}
		if _, err := s.Get(dead, numbered(1).Key); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("Get: %v, want context.Canceled", err)
		}
		return wantLog(ctx, s)
	})
}

func emptyAppend(ctx context.Context, open Open) error {
	return with("empty", open, func(s receipt.Store) error {
		return errors.Join(wantAppend(ctx, s, nil), wantLog(ctx, s))
	})
}

func extremes(ctx context.Context, open Open) error {
	return with("extremes", open, func(s receipt.Store) error {
		long := strings.Repeat("ü", receipt.MaxIDBytes/2)
		rs := []receipt.Receipt{
			receipt.New(long, long[2:]+"b", long[2:]+"p", math.MaxUint64, time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)),
			receipt.New("j\x00", "\x00", " ", 0, time.Time{}),
			receipt.New("💶", "\u202e", "'; DROP TABLE receipts; --", 1, time.Unix(-1, 1)),
		}
		if err := wantAppend(ctx, s, rs, receipt.Inserted, receipt.Inserted, receipt.Inserted); err != nil {
			return err
		}
		return wantLog(ctx, s, rs...)
	})
}

func largeBatch(ctx context.Context, open Open) error {
	return with("large", open, func(s receipt.Store) error {
		rs := make([]receipt.Receipt, 10_000)
		for i := range rs {
			rs[i] = numbered(i)
		}
		want := make([]receipt.Status, len(rs))
		for i := range want {
			want[i] = receipt.Inserted
		}
		if err := wantAppend(ctx, s, rs, want...); err != nil {
			return err
		}
		return wantLog(ctx, s, rs...)
	})
}

func concurrentDuplicates(ctx context.Context, open Open) error {
	return with("concurrent", open, func(s receipt.Store) error {
		const callers, n = 8, 50
		var mu sync.Mutex
		var failures []error
		inserted := map[receipt.Key]int{}
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for i := range n {
					rs := []receipt.Receipt{numbered(i), numbered(n + c*n + i)}
					statuses, err := s.Append(ctx, rs)
					if err == nil {
						// Whatever the answer, it is there.
						_, err = s.Get(ctx, rs[0].Key)
					}
					mu.Lock()
					if err != nil {
						failures = append(failures, err)
					}
					for j, st := range statuses {
						if st == receipt.Inserted {
							inserted[rs[j].Key]++
						}
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if err := errors.Join(failures...); err != nil {
			return err
		}
		if len(inserted) != n+callers*n {
			return fmt.Errorf("%d receipts inserted, want %d", len(inserted), n+callers*n)
		}
		for key, times := range inserted {
			if times != 1 {
				return fmt.Errorf("%s was Inserted %d times", key, times)
			}
		}
		return nil
	})
}

func reopen(ctx context.Context, open Open) error {
	r, d, last := numbered(1), numbered(2), numbered(3)
	err := with("reopen", open, func(s receipt.Store) error {
		if err := wantAppend(ctx, s, []receipt.Receipt{r, dry(d)}, receipt.Inserted, receipt.Inserted); err != nil {
			return err
		}
		return wantAppend(ctx, s, []receipt.Receipt{d}, receipt.Inserted)
	})
	if err != nil {
		return err
	}
	return with("reopen", open, func(s receipt.Store) error {
		if err := wantLog(ctx, s, r, d); err != nil {
			return err
		}
		if err := wantAppend(ctx, s, []receipt.Receipt{r, dry(d), last},
			receipt.Duplicate, receipt.Duplicate, receipt.Inserted); err != nil {
			return err
		}
		return wantLog(ctx, s, r, d, last)
	})
}

func callerMayReuseSlice(ctx context.Context, open Open) error {
	return with("reuse", open, func(s receipt.Store) error {
		rs := []receipt.Receipt{numbered(1)}
		if err := wantAppend(ctx, s, rs, receipt.Inserted); err != nil {
			return err
		}
		rs[0] = numbered(2)
		return wantLog(ctx, s, numbered(1))
	})
}
