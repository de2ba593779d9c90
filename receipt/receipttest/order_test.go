package receipttest_test

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/computemarket/computemarket/receipt"
)

// sequence is a store whose numbers are drawn before its rows are visible, as on
// a database SEQUENCE: transactions commit in whatever order, and a consumer
// whose cursor has passed 8 never meets 7. Here a call draws its numbers,
// and shows its rows when a later call has shown its own and been read.
type sequence struct {
	rowByRow bool // shows the receipts of a call one by one
	live     bool // After passes by what is promoted while it runs

	mu     sync.Mutex
	moved  sync.Cond // something below has changed
	last   uint64
	byKey  map[receipt.Key]receipt.Record // visible or not
	shown  map[receipt.Key]receipt.Record // as readers see it
	waits  bool                           // a call has drawn its numbers and waits
	unread bool                           // something was shown that nobody has read
	reads  int                            // of what was unread
	looks  int                            // all of them
}

func newSequence(rowByRow, live bool) *sequence {
	s := &sequence{rowByRow: rowByRow, live: live,
		byKey: map[receipt.Key]receipt.Record{}, shown: map[receipt.Key]receipt.Record{}}
	s.moved.L = &s.mu
	return s
}

func (s *sequence) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	if err := receipt.ValidateAll(rs); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, s.moved.Broadcast)()
	s.mu.Lock()
	defer s.mu.Unlock()
	statuses := make([]receipt.Status, len(rs))
	for i, r := range rs {
		old, ok := s.byKey[r.Key]
		switch {
		case ok && !r.SameContent(&old.Receipt):
			statuses[i] = receipt.Conflict
		case ok && (!old.DryRun || r.DryRun):
			statuses[i] = receipt.Duplicate
		default:
			s.last++
			s.byKey[r.Key] = receipt.Record{Seq: s.last, Receipt: r}
			statuses[i] = receipt.Inserted
		}
	}
	if !s.live && !s.rowByRow && !s.waits {
		s.waits = true
		s.unread = false
		s.wait(ctx)
		s.waits = false
	}
	for i, r := range rs {
		if i > 0 && s.rowByRow {
			s.wait(ctx)
		}
		s.shown[r.Key] = s.byKey[r.Key]
		s.unread = true
	}
	return statuses, receipt.Refusal(rs, statuses)
}

// wait returns when somebody has read what was shown meanwhile, or has looked
// often enough. s.mu is held.
func (s *sequence) wait(ctx context.Context) {
	reads, looks := s.reads, s.looks
	for s.reads == reads && s.looks < looks+1000 && ctx.Err() == nil {
		s.moved.Wait()
	}
}

func (s *sequence) Get(_ context.Context, key receipt.Key) (receipt.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, ok := s.shown[key]
	if !ok {
		return receipt.Record{}, receipt.ErrNotFound
	}
	return rec, nil
}

func (s *sequence) After(ctx context.Context, seq uint64) iter.Seq2[receipt.Record, error] {
	return func(yield func(receipt.Record, error) bool) {
		for _, rec := range s.sortedAfter(seq) {
			if now, err := s.Get(ctx, rec.Key); s.live && (err != nil || now.Seq != rec.Seq) {
				continue
			}
			if !yield(rec, ctx.Err()) || ctx.Err() != nil {
				return
			}
		}
	}
}

func (s *sequence) sortedAfter(seq uint64) []receipt.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var recs []receipt.Record
	for _, rec := range s.shown {
		if rec.Seq > seq {
			recs = append(recs, rec)
		}
	}
	slices.SortFunc(recs, func(a, b receipt.Record) int { return cmp.Compare(a.Seq, b.Seq) })
	s.looks++
	if s.unread {
		s.reads++
		s.unread = false
	}
	s.moved.Broadcast()
	return recs
}

func TestSuiteCatchesOrder(t *testing.T) {
	for name, c := range map[string]struct {
		clause         string
		rowByRow, live bool
	}{
		"numbers drawn before rows are visible": {clause: "OrderOfVisibility"},
		"half of a call is visible":             {clause: "OrderOfVisibility", rowByRow: true},
		"an iteration misses what is promoted":  {clause: "PromotionDuringAfter", live: true},
	} {
		t.Run(name, func(t *testing.T) {
			err := clause(t, c.clause).Check(t.Context(), func(string) (receipt.Store, error) {
				return newSequence(c.rowByRow, c.live), nil
			})
			if err == nil {
				t.Errorf("clause %s passes", c.clause)
			} else {
				t.Log(err)
			}
		})
	}
}
