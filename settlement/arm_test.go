package settlement_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/settlement"
)

func TestArmByHeight(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{})
	if err := errors.Join(m.ObserveHeight(ctx, 90), m.Arm(ctx, settlement.AtHeight(100))); err != nil {
		t.Fatal(err)
	}
	for _, h := range []uint64{1, 90, 99} {
		if err := m.ObserveHeight(ctx, h); err != nil {
			t.Fatal(err)
		}
		m.want(settlement.Armed)
	}
	m.restart()
	m.want(settlement.Armed)
	if err := m.ObserveHeight(ctx, 100); err != nil {
		t.Fatal(err)
	}
	m.want(settlement.Real)
	if fmt.Sprint(m.modes) != "[armed real]" {
		t.Errorf("modes %v", m.modes)
	}
	if err := errors.Join(m.Stop(ctx, "test")); err != nil {
		t.Fatal(err)
	}
	if err := m.ObserveHeight(ctx, 5); err != nil { // a late tick lowers nothing
		t.Fatal(err)
	}
	for _, a := range []settlement.Activation{settlement.AtHeight(100), settlement.AtHeight(50), settlement.AtHeight(3), settlement.AtHeight(0), settlement.After(-1), {}} {
		if err := m.Arm(ctx, a); !errors.Is(err, settlement.ErrActivation) {
			t.Errorf("Arm(%+v): %v, want ErrActivation", a, err)
		}
	}
	m.want(settlement.DryRun)
}

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func TestArmByTime(t *testing.T) { synctest.Test(t, testArmByTime) } // where no real time passes

func testArmByTime(t *testing.T) {
	ctx := t.Context()
	c := &clock{issued}
	m := newMarket(t, settlement.Options{Clock: c})
	if err := m.Arm(ctx, settlement.After(time.Hour)); err != nil {
		t.Fatal(err)
	}
	tick := func(d time.Duration, want settlement.Mode) {
		t.Helper()
		for ; d > time.Minute; d -= time.Minute { // the clock goes on
			c.now = c.now.Add(time.Minute)
			m.settle(settlement.Pass{})
		}
		c.now = c.now.Add(d)
		m.settle(settlement.Pass{})
		m.want(want)
	}
	jump := func(d time.Duration) {
		t.Helper()
		c.now = c.now.Add(d)
		m.settle(settlement.Pass{})
		m.want(settlement.Armed)
	}
	tick(20*time.Minute, settlement.Armed)
	jump(-10 * time.Hour)
	jump(10 * time.Hour) // to where it was: no time has passed
	jump(1000 * time.Hour)
	jump(-1000 * time.Hour)
	jump(-10 * time.Hour)
	m.restart()
	jump(10 * time.Hour)
	tick(20*time.Minute, settlement.Armed)
	c.now = c.now.Add(1000 * time.Hour) // while no engine is open
	m.restart()
	tick(0, settlement.Armed)
	jump(-time.Hour)
	m.restart() // starts from the clock as it is
	tick(20*time.Minute-1, settlement.Armed)
	if s := m.status(0, 0, 0); s.Activation != settlement.After(1) {
		t.Errorf("activation %v, want in 1ns", s.Activation)
	}
	tick(1, settlement.Real)
}

// No order of jumps and restarts makes an engine Real before the delay has really
// passed while one led, and none keeps it from it.
func TestArmedAmongJumps(t *testing.T) { synctest.Test(t, testArmedAmongJumps) }

func testArmedAmongJumps(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		c := &clock{issued}
		m := newMarket(t, settlement.Options{Clock: c})
		const delay = time.Hour
		if err := m.Arm(t.Context(), settlement.After(delay)); err != nil {
			t.Fatal(err)
		}
		var passed time.Duration
		for m.Mode() != settlement.Real {
			if passed > 2*delay {
				t.Fatalf("seed %d: still %v after %v", seed, m.Mode(), passed)
			}
			switch random.IntN(9) {
			case 2: // there and back in steps that would be believed alone
				back := time.Minute + time.Duration(random.Int64N(int64(2*time.Minute)))
				c.now = c.now.Add(-back)
				if err := m.do(m.Settle); err != nil {
					t.Fatal(err)
				}
				c.now = c.now.Add(min(back, time.Minute))
			case 0: // sets the clock, by hours or years
				c.now = c.now.Add(time.Duration(random.Int64N(int64(2*time.Hour))+int64(time.Hour)) << random.IntN(13) * time.Duration(1-2*random.IntN(2)))
			case 1:
				c.now = c.now.Add(time.Duration(random.Int64N(int64(time.Hour)))) // while none leads
				m.restart()
			default:
				d := time.Duration(random.Int64N(int64(time.Minute)))
				time.Sleep(d)
				c.now = c.now.Add(d)
				passed += d
			}
			if err := m.do(m.Settle); err != nil {
				t.Fatal(err)
			}
		}
		if passed < delay {
			t.Fatalf("seed %d: Real after %v of %v", seed, passed, delay)
		}
	}
}

func TestModeChanges(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{})
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, settlement.ErrMode) {
			t.Errorf("%s in %v: %v, want ErrMode", what, m.Mode(), err)
		}
	}
	refused("CancelArm", m.CancelArm(ctx))
	if err := m.Arm(ctx, settlement.After(time.Hour)); err != nil {
		t.Fatal(err)
	}
	refused("Arm", m.Arm(ctx, settlement.After(0)))
	if err := m.CancelArm(ctx); err != nil {
		t.Fatal(err)
	}
	m.want(settlement.DryRun)
	m.real()
	refused("Arm", m.Arm(ctx, settlement.After(0)))
	refused("CancelArm", m.CancelArm(ctx))
	if err := errors.Join(m.Stop(ctx, "audit"), m.Stop(ctx, "again")); err != nil {
		t.Fatal(err)
	}
	m.restart()
	m.want(settlement.DryRun)
	if s := m.status(0, 0, 0); s.Reason != "audit" {
		t.Errorf("reason %q, want the first", s.Reason)
	}
	if fmt.Sprint(m.modes) != "[armed dry_run real dry_run]" {
		t.Errorf("modes %v", m.modes)
	}
}
