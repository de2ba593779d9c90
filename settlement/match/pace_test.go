package match

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement"
)

// A loop that has run for a while is still on time: what is due after 300 ms is
// not looked at a second later.
func TestOnTimeAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var calls []time.Duration
		began := time.Now()
		_, stop := running(t, b, new(receipttest.Mem), &LoopOptions{
			ReturnAfter: 300 * time.Millisecond,
			Finalize: func(context.Context, Match) error {
				calls = append(calls, time.Since(began))
				return errDisk
			},
		})
		time.Sleep(10 * time.Second)
		bid(t, b, "b", 1, 1)
		ask(t, b, "a", 1, 1)
		time.Sleep(time.Second)
		stop()
		want := "[10s 10.3s 10.6s 10.9s]"
		if got := fmt.Sprint(calls); got != want {
			t.Errorf("tried at %v, want %v", got, want)
		}
	})
}

// An engine that cannot tell its mode is asked again after RetryMin, and nothing
// is in flight meanwhile.
func TestEngineAskedAgainOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var asked []time.Duration
		began := time.Now()
		e := asking(func() settlement.Mode {
			asked = append(asked, time.Since(began))
			if len(asked) < 4 {
				panic("I do not know")
			}
			return settlement.Real
		})
		var log receipttest.Mem
		_, stop := running(t, b, &log, &LoopOptions{Engine: e, RetryMin: 200 * time.Millisecond})
		time.Sleep(10 * time.Second)
		bid(t, b, "b", 1, 1)
		ask(t, b, "a", 1, 1)
		synctest.Wait()
		want(t, b, "while the engine does not know", "b", 1, 0, 0)
		time.Sleep(time.Second)
		stop()
		wantJobs(t, &log, "b|a|0+1 real")
		if got := fmt.Sprint(asked); got != "[10s 10.2s 10.4s 10.6s]" {
			t.Errorf("asked at %v", got)
		}
	})
}

// The next Run asks at once.
func TestEngineAskedByTheNextRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		n := 0
		e := asking(func() settlement.Mode {
			if n++; n == 1 {
				panic("I do not know")
			}
			return settlement.DryRun
		})
		var log receipttest.Mem
		l, stop := running(t, b, &log, &LoopOptions{Engine: e, RetryMin: time.Hour, RetryMax: time.Hour})
		bid(t, b, "b", 1, 1)
		ask(t, b, "a", 1, 1)
		synctest.Wait()
		wantJobs(t, &log)
		stop()
		stop = run(t, l)
		wantJobs(t, &log, "b|a|0+1")
		stop()
	})
}

type asking func() settlement.Mode

func (f asking) Mode() settlement.Mode { return f() }
func (f asking) Wake()                 {}

// A lane is told to starve on time.
func TestStarvesOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var log lines
		_, stop := running(t, b, new(receipttest.Mem), &LoopOptions{
			Parallel: 1, StarveAfter: 2500 * time.Millisecond, Logger: log.logger(),
			Finalize: func(context.Context, Match) error { time.Sleep(time.Minute); return nil },
		})
		time.Sleep(10 * time.Second)
		crowd(t, b, admission.Consumer, 2)
		time.Sleep(2500*time.Millisecond - 1)
		synctest.Wait()
		if n := log.count("lane starves"); n != 0 {
			t.Error("too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := log.count("lane starves"); n != 1 {
			t.Error("too late")
		}
		time.Sleep(time.Hour)
		stop()
	})
}

// Between two runs no lane starves: nothing can match then.
func TestNobodyStarvesBetweenRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var log lines
		working := false
		l, stop := running(t, b, new(receipttest.Mem), &LoopOptions{
			Parallel: 1, StarveAfter: time.Minute, Logger: log.logger(),
			Finalize: func(ctx context.Context, m Match) error { working = true; <-ctx.Done(); return ctx.Err() },
		})
		crowd(t, b, admission.Consumer, 2)
		crowd(t, b, admission.Industrial, 2)
		time.Sleep(30 * time.Second)
		stop()
		time.Sleep(50 * time.Second)
		for _, lane := range admission.Lanes {
			if s := l.Stats(lane); s.Waiting != 0 || s.Starving {
				t.Errorf("between two runs: %+v", s)
			}
		}
		stop = run(t, l)
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if n := log.count("lane starves"); n != 0 || !working {
			t.Error(log.text())
		}
		stop()
	})
}

// While the log does not answer, no more is proposed than one append beside the
// one under way.
func TestSlowLogHoldsTheMatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		log := gated{in: make(chan struct{}), gate: make(chan error)}
		_, stop := running(t, b, &log, &LoopOptions{Batch: 4})
		crowd(t, b, admission.Consumer, 4)
		<-log.in
		for range 5 {
			crowdMore(t, b, 3)
			synctest.Wait()
		}
		// The first append may have begun with less than a batch.
		if n := b.Stats(admission.Consumer).Matches; n <= 4 || n > 8 {
			t.Errorf("%d in flight, want a batch and what is being appended", n)
		}
		go func() {
			for range log.in {
				log.gate <- nil
			}
		}()
		log.gate <- nil
		time.Sleep(time.Second)
		stop()
		close(log.in)
		if n := len(jobs(t, &log)); n != 19 {
			t.Errorf("%d receipts", n)
		}
	})
}

func crowdMore(t *testing.T, b *Book, n int) {
	t.Helper()
	for range n {
		id := fmt.Sprint(b.seq)
		bid(t, b, "b"+id, 1, 5)
		ask(t, b, "a"+id, 1, 5)
	}
}

// What was finished when the loop ends is recorded, in as many appends as it
// takes; and a log that does not say is told of.
func TestEndTakesSeveralAppends(t *testing.T) {
	for _, broken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook(t, nil)
			log := faultyLog{after: func(int) error {
				if broken {
					return receipt.ErrUnknown
				}
				return nil
			}}
			var out lines
			_, stop := running(t, b, &log, &LoopOptions{
				Batch: 2, Parallel: 5, Logger: out.logger(),
				Finalize: func(ctx context.Context, _ Match) error { <-ctx.Done(); return nil },
			})
			crowd(t, b, admission.Consumer, 5)
			synctest.Wait()
			stop()
			receipts, told := 5, 0
			if broken {
				receipts, told = 2, 1
			}
			if n := len(jobs(t, &log)); n != receipts || out.count("not known to be recorded") != told {
				t.Errorf("broken %v: %d receipts; %s", broken, n, out.text())
			}
		})
	}
}

// A log that answers nothing has not answered.
func TestLogThatSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var log mute
		_, stop := running(t, b, &log, nil)
		bid(t, b, "b", 1, 1)
		ask(t, b, "a", 1, 1)
		synctest.Wait()
		want(t, b, "after nothing", "b", 1, 0, 1)
		time.Sleep(time.Minute)
		stop()
		wantJobs(t, &log, "b|a|0+1")
		if len(b.Snapshot()) != 0 {
			t.Error(b.Snapshot())
		}
	})
}

type mute struct {
	receipttest.Mem
	n int
}

func (l *mute) Append(ctx context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	l.n++
	statuses, err := l.Mem.Append(ctx, rs)
	switch l.n {
	case 1:
		return nil, nil
	case 2:
		return []receipt.Status{}, nil
	case 3:
		return []receipt.Status{99}, nil
	}
	return statuses, err
}

// A receipt that was there before its first append is told of, since the order
// id was used twice or Resume was left out; one from a repeated append is not.
func TestDuplicateIsToldOfOnce(t *testing.T) {
	for _, doubt := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook(t, nil)
			log := faultyLog{after: func(n int) error {
				if doubt && n == 1 {
					return receipt.ErrUnknown
				}
				return nil
			}}
			if !doubt {
				r := receipt.New(Job{"b", "a", 0, 1}.String(), "buyer of b", "provider of a", 1, epoch)
				r.DryRun = true
				if _, err := log.Mem.Append(t.Context(), []receipt.Receipt{r}); err != nil {
					t.Fatal(err)
				}
			}
			var out lines
			_, stop := running(t, b, &log, &LoopOptions{Logger: out.logger()})
			bid(t, b, "b", 1, 1)
			ask(t, b, "a", 1, 1)
			time.Sleep(time.Minute)
			stop()
			wantJobs(t, &log, "b|a|0+1")
			if told := out.count("receipt was there already") == 1; told == doubt {
				t.Errorf("in doubt %v: told %v", doubt, told)
			}
		})
	}
}
