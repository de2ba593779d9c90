package match

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/receipt/receipttest"
)

// A Finalize that panics or ends its goroutine fails its own match: nobody is
// paid for it, the other matches are final, and Run goes on and can be stopped.
func TestFinalizePanics(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name     string
		finalize func()
		want     func(error) bool
		askStays bool
	}{
		{"value", func() { panic("boom") }, func(err error) bool {
			p, ok := errors.AsType[*PanicError](err)
			return ok && p.Value == "boom" && len(p.Stack) > 0
		}, true},
		{"error", func() { panic(boom) }, func(err error) bool { return errors.Is(err, boom) }, true},
		{"verdict", func() { panic(fmt.Errorf("%w: no GPU", ErrBadAsk)) }, func(err error) bool {
			return errors.Is(err, ErrBadAsk)
		}, false},
		{"exit", runtime.Goexit, func(err error) bool { return errors.Is(err, callback.ErrGoexit) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log receipttest.Mem
				var failed []error
				b := newBook(t, nil)
				_, stop := running(t, b, &log, &LoopOptions{
					OnFailure: DropBid,
					Finalize: func(_ context.Context, m Match) error {
						if m.Bid == "bad" {
							c.finalize()
						}
						return nil
					},
					OnFailed: func(m Match, err error) { failed = append(failed, err) },
				})
				order := func(id, account string, side Side, lane admission.Lane) {
					o := Order{ID: id, Account: account, Side: side, Lane: lane, Units: 1, Price: 1}
					if _, err := b.Submit(o, time.Now()); err != nil {
						t.Fatal(err)
					}
				}
				order("bad", "buyer", Bid, admission.Consumer)
				order("ask-1", "provider", Ask, admission.Consumer)
				order("good", "buyer", Bid, admission.Industrial)
				order("ask-2", "provider", Ask, admission.Industrial)
				synctest.Wait()
				if len(failed) != 1 || !c.want(failed[0]) {
					t.Errorf("failed: %v", failed)
				}
				wantJobs(t, &log, "good|ask-2|0+1")
				if _, ok := b.Get("ask-1"); ok != c.askStays {
					t.Errorf("the ask is in the book: %v, want %v", ok, c.askStays)
				}
				stop()
			})
		})
	}
}
