package settlement_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/computemarket/computemarket/settlement"
)

func TestArmByHeight(t *testing.T) {
	ctx := t.Context()
	m := newMarket(t, settlement.Options{})
	if err := errors.Join(m.Height(ctx, 90), m.Arm(ctx, settlement.AtHeight(100))); err != nil {
		t.Fatal(err)
	}
	for _, h := range []uint64{1, 90, 99} {
		if err := m.Height(ctx, h); err != nil {
			t.Fatal(err)
		}
		m.want(settlement.Armed)
	}
	m.restart()
	m.want(settlement.Armed)
	if err := m.Height(ctx, 100); err != nil {
		t.Fatal(err)
	}
	m.want(settlement.Real)
	if fmt.Sprint(m.modes) != "[armed real]" {
		t.Errorf("modes %v", m.modes)
	}
	if err := errors.Join(m.DryRun(ctx, "test")); err != nil {
		t.Fatal(err)
	}
	if err := m.Height(ctx, 5); err != nil { // a late tick lowers nothing
		t.Fatal(err)
	}
	for _, a := range []settlement.Activation{settlement.AtHeight(100), settlement.AtHeight(50), settlement.AtHeight(3), settlement.After(-1), {Remaining: 1, Height: 1000}} {
		if err := m.Arm(ctx, a); !errors.Is(err, settlement.ErrActivation) {
			t.Errorf("Arm(%+v): %v, want ErrActivation", a, err)
		}
	}
	m.want(settlement.DryRun)
}

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func TestArmByTime(t *testing.T) {
	ctx := t.Context()
	c := &clock{issued}
	m := newMarket(t, settlement.Options{Clock: c})
	if err := m.Arm(ctx, settlement.After(time.Hour)); err != nil {
		t.Fatal(err)
	}
	tick := func(d time.Duration, want settlement.Mode) {
		t.Helper()
		c.now = c.now.Add(d)
		m.settle(settlement.Pass{})
		m.want(want)
	}
	tick(20*time.Minute, settlement.Armed)
	tick(-10*time.Hour, settlement.Armed) // the clock jumps back
	tick(10*time.Hour, settlement.Armed)  // and comes to where it was: no time has passed
	tick(20*time.Minute, settlement.Armed)
	c.now = c.now.Add(1000 * time.Hour) // while no engine is open
	m.restart()
	tick(0, settlement.Armed)
	tick(-time.Hour, settlement.Armed)
	m.restart() // starts from the clock as it is
	tick(20*time.Minute-1, settlement.Armed)
	if s := m.status(0, 0, 0); s.Activation.Remaining != 1 {
		t.Errorf("remaining %v, want 1ns", s.Activation.Remaining)
	}
	tick(1, settlement.Real)
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
	if err := errors.Join(m.DryRun(ctx, "audit"), m.DryRun(ctx, "again")); err != nil {
		t.Fatal(err)
	}
	m.restart()
	m.want(settlement.DryRun)
	if s := m.status(0, 0, 0); s.Reason != "audit" {
		t.Errorf("reason %q, want the first", s.Reason)
	}
	if fmt.Sprint(m.modes) != "[armed dry_run armed real dry_run]" {
		t.Errorf("modes %v", m.modes)
	}
}
