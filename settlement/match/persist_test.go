package match

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

// A log that fails leaves the orders in the book; the same receipts are tried
// again until they are there, once each, written by a failed append or not.
func TestFailingLog(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when+" writing", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fail := func(n int) error {
					if n <= 9 {
						return errDisk
					}
					return nil
				}
				var log faultyLog
				if when == "before" {
					log.before = fail
				} else {
					log.after = fail
				}
				b := newBook(t, nil)
				var m counter
				_, stop := running(t, b, &log, &LoopOptions{Metrics: &m})
				began := time.Now()
				bid(t, b, "b1", 5, 10)
				ask(t, b, "a1", 3, 10)
				synctest.Wait()
				if r, ok := b.Get("a1"); !ok || r.InFlight != 3 {
					t.Errorf("after a failed append: %+v, %v", r, ok)
				}
				ask(t, b, "a2", 2, 10) // matches meanwhile, and waits its turn
				time.Sleep(time.Minute)
				stop()
				wantJobs(t, &log, "b1|a1|0+3", "b1|a2|3+2")
				if len(b.Snapshot()) != 0 {
					t.Errorf("left: %v", b.Snapshot())
				}
				if m.failed != 9 || m.dry != 2 {
					t.Errorf("metrics %+v", &m)
				}
				var pauses []string
				for i, at := range log.times[:10] {
					if i > 0 {
						began = log.times[i-1]
					}
					pauses = append(pauses, at.Sub(began).String())
				}
				if got := strings.Join(pauses, " "); got != "0s 50ms 100ms 200ms 400ms 800ms 1.6s 3.2s 5s 5s" {
					t.Errorf("pauses: %s", got)
				}
			})
		})
	}
}

// refusing answers a status for one job, and writes the rest.
type refusing struct {
	receipttest.Mem
	job    string
	status receipt.Status
}

func (l *refusing) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	statuses := make([]receipt.Status, len(rs))
	for i := range rs {
		if rs[i].JobID == l.job {
			if l.status == 0 {
				rs[i].Key[0]++ // not valid any more
				return l.Mem.Append(ctx, rs)
			}
			statuses[i] = l.status
			continue
		}
		s, err := l.Mem.Append(ctx, rs[i:i+1])
		if err != nil {
			return nil, err
		}
		statuses[i] = s[0]
	}
	return statuses, receipt.Refusal(rs, statuses)
}

func TestRefusedReceipt(t *testing.T) {
	for _, c := range []struct {
		name   string
		status receipt.Status
		err    error
	}{
		{"conflict", receipt.Conflict, receipt.ErrConflict},
		{"corrupt", receipt.Corrupt, receipt.ErrCorrupt},
		{"invalid", 0, receipt.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, nil)
				bid(t, b, "b1", 1, 10)
				bid(t, b, "b2", 1, 10)
				bid(t, b, "b3", 1, 10)
				ask(t, b, "a", 3, 10)
				log := &refusing{job: "b2|a|0+1", status: c.status}
				var failed []error
				_, stop := running(t, b, log, &LoopOptions{OnFailed: func(m Match, err error) { failed = append(failed, err) }})
				time.Sleep(time.Hour)
				stop()
				// The others have theirs, the bid is gone, the ask is not harmed.
				wantJobs(t, log, "b1|a|0+1", "b3|a|0+1")
				if len(failed) != 1 || !errors.Is(failed[0], c.err) {
					t.Errorf("failed: %v", failed)
				}
				if left := b.Snapshot(); len(left) != 1 || left[0].ID != "a" || left[0].Open() != 1 {
					t.Errorf("left: %v", left)
				}
			})
		})
	}
}

// When it is not known whether a receipt was recorded, its units stay reserved
// over the end of Run, and the next one appends the very same receipt.
func TestUnknownOutcomeOverRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		down := true
		log := faultyLog{after: func(int) error {
			if down {
				return receipt.ErrUnknown
			}
			return nil
		}}
		l, stop := running(t, b, &log, nil)
		bid(t, b, "b1", 4, 10)
		ask(t, b, "a1", 2, 10)
		time.Sleep(time.Second)
		stop()
		if r, _ := b.Get("b1"); r.InFlight != 2 {
			t.Errorf("between the runs: %+v", r)
		}
		bid(t, b, "b0", 4, 11) // better than b1, and a1 must not be sold again
		down = false
		run(t, l)()
		wantJobs(t, &log, "b1|a1|0+2")
		if left := b.Snapshot(); len(left) != 2 || left[0].Open() != 2 || left[1].Open() != 4 {
			t.Errorf("left: %v", left)
		}
	})
}

// A log that hangs does not keep Run from ending.
func TestHangingLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		_, stop := running(t, b, hanging{}, nil)
		bid(t, b, "b", 1, 10)
		ask(t, b, "a", 1, 10)
		synctest.Wait()
		began := time.Now()
		stop()
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("ended after %v, want the grace of 5s", d)
		}
	})
}

type hanging struct{}

func (hanging) Append(ctx context.Context, _ []receipt.Receipt) ([]receipt.Status, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
