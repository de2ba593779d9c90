package courier_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriertest"
)

// tally is a rewarder in memory.
type tally struct {
	mu     sync.Mutex
	got    map[courier.ID]uint64
	refuse courier.ID // for good
	broken error      // from the second credit of a call on
	calls  [][]courier.Credit
}

func (l *tally) Credit(_ context.Context, credits []courier.Credit) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, slices.Clone(credits))
	if l.got == nil {
		l.got = map[courier.ID]uint64{}
	}
	for i, c := range credits {
		switch {
		case c.ID == l.refuse:
			return i, fmt.Errorf("%w: unknown account", courier.ErrRejected)
		case l.broken != nil && i > 0:
			return i, l.broken
		}
		l.got[c.ID] = c.Amount
	}
	return len(credits), nil
}

func rewarded(l courier.Rewarder) *courier.Options {
	return &courier.Options{Rewarder: l, Account: "carrier", Amount: func(r courier.Receipt) uint64 { return uint64(r.Size) - 8 }}
}

func TestReward(t *testing.T) {
	l := &tally{}
	c := newCourier(t, new(couriertest.Model), rewarded(l))
	sent := send(t, c, 30) // the first ten have 8 bytes, and are worth nothing
	report(t, c, takes, courier.Report{Forwarded: 30})
	for i, r := range sent {
		if got, ok := l.got[r.ID]; got != uint64(r.Size)-8 || ok != (i >= 10) {
			t.Errorf("receipt %d of %d bytes: credited %d", i, r.Size, got)
		}
	}
	for _, call := range l.calls {
		for _, credit := range call {
			if credit.Account != "carrier" {
				t.Errorf("credit to %q", credit.Account)
			}
		}
	}
	report(t, c, takes, courier.Report{})
}

// Nothing is credited that the peer does not have.
func TestNoRewardWithoutForward(t *testing.T) {
	l := &tally{}
	c := newCourier(t, new(couriertest.Model), rewarded(l))
	send(t, c, 100)
	if _, err := c.Flush(t.Context(), down); !errors.Is(err, courier.ErrPeerDown) {
		t.Errorf("got %v", err)
	}
	if len(l.calls) > 0 {
		t.Errorf("credited: %v", l.calls)
	}
}

func TestLedgerFails(t *testing.T) {
	broken := errors.New("ledger out of order")
	l := &tally{broken: broken}
	c := newCourier(t, new(couriertest.Model), rewarded(l))
	sent := send(t, c, 60)
	if r, err := c.Flush(t.Context(), takes); !errors.Is(err, broken) || r.Remaining == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, r := range sent {
		now, err := c.Get(t.Context(), r.ID)
		if _, credited := l.got[r.ID]; err != nil || now.Acknowledged() && !credited && r.Size > 8 {
			t.Errorf("receipt %v of %d bytes: %v, credited: %v, %v", r.ID, r.Size, now.State, credited, err)
		}
	}
	l.broken = nil
	if r, err := c.Flush(t.Context(), takes); err != nil || r.Remaining > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if len(l.got) != 50 {
		t.Errorf("%d credited, want 50", len(l.got))
	}
}

// A credit that the ledger refuses for good keeps no other from being credited.
func TestLedgerRejects(t *testing.T) {
	l := &tally{}
	c := newCourier(t, new(couriertest.Model), rewarded(l))
	sent := send(t, c, 60)
	l.refuse = sent[20].ID
	report(t, c, takes, courier.Report{Forwarded: 59, Rejected: 1})
	r, err := c.Get(t.Context(), l.refuse)
	if err != nil || r.Cause != courier.Rejected || r.State != courier.Dead {
		t.Errorf("%+v, %v", r, err)
	}
	if len(l.got) != 49 {
		t.Errorf("%d credited, want 49", len(l.got))
	}
}

// A rewarder that says nonsense is not believed.
func TestStrangeRewarder(t *testing.T) {
	for _, n := range []int{-1, 0, 99} {
		c := newCourier(t, new(couriertest.Model), rewarded(strange(n)))
		if _, err := c.SendAs(t.Context(), courier.ID{1}, strings.NewReader("a long bundle"), "s"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.SendAs(t.Context(), courier.ID{2}, strings.NewReader("a long bundle"), "s"); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Flush(t.Context(), takes); err == nil || r.Forwarded > 0 {
			t.Errorf("%d: %+v, %v", n, r, err)
		}
	}
}

type strange int

func (n strange) Credit(context.Context, []courier.Credit) (int, error) { return int(n), nil }
