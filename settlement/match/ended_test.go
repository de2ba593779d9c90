package match

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

// A Finalize that closes its match itself, which is no business of its own, makes
// no tight loop, whatever it returns, and nobody is told of an order dropped that
// rests.
func TestFinalizeThatClosesItsMatch(t *testing.T) {
	for _, c := range []struct {
		name     string
		err      error
		policy   FailurePolicy
		bid, ask bool // dropped
	}{
		{"and is content", nil, ReturnBid, false, false},
		{"and fails", errDisk, ReturnBid, false, false},
		{"and fails, by policy", errDisk, DropBid, true, false},
		{"and blames the bid", ErrBadBid, ReturnBid, true, false},
		{"and blames the ask", ErrBadAsk, ReturnBid, false, true},
		{"and blames both", errors.Join(ErrBadBid, ErrBadAsk), ReturnBid, true, true},
	} {
		for _, side := range []Side{Bid, Ask} {
			t.Run(c.name+" "+side.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBook(t, nil)
					calls := 0
					var failed []error
					_, stop := running(t, b, new(receipttest.Mem), &LoopOptions{
						OnFailure: c.policy, Parallel: 1, ReturnAfter: time.Second,
						Finalize: func(_ context.Context, m Match) error {
							if calls++; calls > 100 {
								return ErrBadBid // enough
							}
							if err := b.Release(m, side); err != nil {
								t.Error(err)
							}
							return c.err
						},
						OnFailed: func(_ Match, err error) { failed = append(failed, err) },
					})
					bid(t, b, "b", 3, 9)
					ask(t, b, "a", 1, 9)
					time.Sleep(10*time.Second - 1)
					synctest.Wait()
					tries := 10
					if c.bid || c.ask {
						tries = 1
					}
					// Some more may be under way before the first is found to be closed.
					if calls < tries || calls > 5*tries || len(failed) != calls {
						t.Fatalf("%d calls, %d failures in ten seconds, want %d", calls, len(failed), tries)
					}
					_, bidThere := b.Get("b")
					_, askThere := b.Get("a")
					if bidThere == c.bid || askThere == c.ask || errors.Is(failed[0], ErrBadBid) != c.bid || errors.Is(failed[0], ErrBadAsk) != c.ask {
						t.Errorf("told %v; bid there %v, ask there %v", failed[0], bidThere, askThere)
					}
					stop()
				})
			})
		}
	}
}

// A bid that the log refuses is gone, also if somebody else has closed its match.
func TestRefusedAndClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var m Match
		log := answering(func([]receipt.Receipt) ([]receipt.Status, error) {
			if err := b.Release(m, Bid); err != nil {
				t.Error(err)
			}
			return []receipt.Status{receipt.Corrupt}, receipt.ErrCorrupt
		})
		var failed []error
		_, stop := running(t, b, log, &LoopOptions{
			Finalize: func(_ context.Context, match Match) error { m = match; return nil },
			OnFailed: func(_ Match, err error) { failed = append(failed, err) },
		})
		bid(t, b, "b", 1, 9)
		ask(t, b, "a", 1, 9)
		synctest.Wait()
		if _, there := b.Get("b"); there || len(failed) != 1 || !errors.Is(failed[0], ErrBadBid) {
			t.Errorf("the bid is there: %v; told %v", there, failed)
		}
		stop()
		want(t, b, "after it", "a", 1, 0, 0)
	})
}

type answering func([]receipt.Receipt) ([]receipt.Status, error)

func (f answering) Append(_ context.Context, rs []receipt.Receipt) ([]receipt.Status, error) {
	return f(rs)
}

// Of two loops over one book one runs.
func TestOneLoopAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		log := new(receipttest.Mem)
		_, stop := running(t, b, log, nil)
		second, err := NewLoop(b, log, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Run(t.Context()); !errors.Is(err, ErrRunning) {
			t.Errorf("beside the first: %v", err)
		}
		stop()
		run(t, second)()
	})
}

// hostileError does something when it is asked for one target.
type hostileError struct {
	target error
	do     func()
}

func (hostileError) Error() string { return "hostile" }
func (e hostileError) Is(target error) bool {
	if target == e.target {
		e.do()
	}
	return false
}

// Errors that cannot be asked whether they are this or that are failures like any
// other, of the log as of Finalize.
func TestErrorsThatCannotBeAsked(t *testing.T) {
	for how, do := range map[string]func(){"panic": func() { panic("do not ask") }, "Goexit": runtime.Goexit} {
		t.Run("Append "+how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, nil)
				log := faultyLog{before: func(n int) error {
					if n < 3 {
						return hostileError{receipt.ErrInvalid, do}
					}
					return nil
				}}
				_, stop := running(t, b, &log, nil)
				bid(t, b, "b", 1, 9)
				ask(t, b, "a", 1, 9)
				time.Sleep(time.Minute)
				wantJobs(t, &log, "b|a|0+1")
				stop()
			})
		})
		t.Run("Finalize "+how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t, nil)
				failures := 0
				_, stop := running(t, b, new(receipttest.Mem), &LoopOptions{
					Finalize: func(context.Context, Match) error { return hostileError{ErrBadAsk, do} },
					OnFailed: func(_ Match, err error) {
						failures++
						if errors.Is(err, ErrBadAsk) || errors.Is(err, ErrBadBid) {
							t.Error(err)
						}
					},
				})
				bid(t, b, "b", 1, 9)
				ask(t, b, "a", 1, 9)
				time.Sleep(10*time.Second - 1)
				synctest.Wait()
				if failures != 10 {
					t.Errorf("%d failures", failures)
				}
				stop()
				want(t, b, "after it", "b", 1, 0, 0)
			})
		})
	}
}

// slowToWake is an engine that takes its time.
type slowToWake struct{ fakeEngine }

func (e *slowToWake) Wake() { time.Sleep(time.Second) }

// A log may use one slice for all its answers: they are read before it is called
// again.
func TestLogReusesItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		answer, n := make([]receipt.Status, 1), 0
		log := answering(func([]receipt.Receipt) ([]receipt.Status, error) {
			n++
			if answer[0] = receipt.Corrupt; n > 1 {
				return answer, receipt.ErrCorrupt
			}
			time.Sleep(time.Second)
			answer[0] = receipt.Inserted
			return answer, nil
		})
		var final, refused []string
		_, stop := running(t, b, log, &LoopOptions{
			Batch: 1, Engine: new(slowToWake),
			OnFinal:  func(m Match, _ receipt.Receipt) { final = append(final, m.Bid) },
			OnFailed: func(m Match, _ error) { refused = append(refused, m.Bid) },
		})
		crowd(t, b, admission.Consumer, 2)
		time.Sleep(time.Minute)
		stop()
		if n != 2 || len(final) != 1 || len(refused) != 1 || final[0] == refused[0] {
			t.Errorf("final %q, refused %q", final, refused)
		}
	})
}

// A batch in doubt goes as it was, with the same receipts, whatever somebody else
// does to its matches meanwhile and whenever the next Run comes: that appends it at
// once, however long the pause was to be.
func TestDoubtIsRepeatedAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		var seen [][]receipt.Receipt
		log := answering(func(rs []receipt.Receipt) ([]receipt.Status, error) {
			if seen = append(seen, slices.Clone(rs)); len(seen) < 3 {
				return nil, receipt.ErrUnknown
			}
			return []receipt.Status{receipt.Duplicate}, nil
		})
		var m Match
		final := 0
		l, stop := running(t, b, log, &LoopOptions{
			RetryMin: time.Hour, RetryMax: time.Hour, OnFailed: func(_ Match, err error) { t.Error(err) },
			Finalize: func(_ context.Context, match Match) error { m = match; return nil },
			OnFinal:  func(Match, receipt.Receipt) { final++ },
		})
		bid(t, b, "b", 1, 9)
		ask(t, b, "a", 1, 9)
		synctest.Wait()
		if err := b.Release(m, Bid); err != nil {
			t.Fatal(err)
		}
		b.Cancel("b")
		stop() // tries once more
		if len(seen) != 2 {
			t.Fatalf("%d appends before the end", len(seen))
		}
		time.Sleep(time.Minute)
		stop = run(t, l)
		if len(seen) != 3 || final != 1 {
			t.Errorf("%d appends, %d final", len(seen), final)
		}
		stop()
		for _, rs := range seen[1:] {
			if !slices.Equal(rs, seen[0]) {
				t.Errorf("first %+v, then %+v", seen[0], rs)
			}
		}
	})
}

// The pause after a failure begins anew when an append has worked.
func TestPauseBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, nil)
		log := faultyLog{before: func(n int) error {
			if n%4 != 0 {
				return errDisk
			}
			return nil
		}}
		_, stop := running(t, b, &log, &LoopOptions{RetryMin: time.Second})
		for i := range 2 {
			began := time.Now()
			bid(t, b, fmt.Sprint("b", i), 1, 9)
			ask(t, b, fmt.Sprint("a", i), 1, 9)
			time.Sleep(time.Minute)
			synctest.Wait()
			for k, after := range []time.Duration{0, 1, 3, 7} {
				if got := log.times[4*i+k].Sub(began); got != after*time.Second {
					t.Errorf("order %d, append %d: after %v", i, k, got)
				}
			}
		}
		stop()
	})
}

// Work that fails because the loop ends is nobody's fault.
func TestEndIsNobodysFault(t *testing.T) {
	for _, fault := range []error{errDisk, ErrBadBid, ErrBadAsk} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook(t, nil)
			_, stop := running(t, b, new(receipttest.Mem), &LoopOptions{
				OnFailure: DropBid, OnFailed: func(_ Match, err error) { t.Error(err) },
				Finalize: func(ctx context.Context, _ Match) error { <-ctx.Done(); return fault },
			})
			bid(t, b, "b", 1, 9)
			ask(t, b, "a", 1, 9)
			synctest.Wait()
			stop()
			want(t, b, "after it", "b", 1, 0, 0)
			want(t, b, "after it", "a", 1, 0, 0)
		})
	}
}
