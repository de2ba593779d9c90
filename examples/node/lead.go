package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementprom"
)

// seat is where the engine sits. It is empty while another node on the same
// database settles.
type seat struct {
	atomic.Pointer[settlement.Engine]
	taken chan struct{} // closed when the engine is there
}

var errStandby = errors.New("standby: another node on this database settles")

// Mode and Wake make the seat a match.Engine.
func (s *seat) Mode() settlement.Mode {
	if e := s.Load(); e != nil {
		return e.Mode()
	}
	return settlement.DryRun
}

func (s *seat) Wake() {
	if e := s.Load(); e != nil {
		e.Wake()
	}
}

// lead opens the engine, for which it waits until no other node settles. It is
// called by one goroutine.
func (n *node) lead(ctx context.Context) error {
	if n.engine.Load() != nil {
		return nil
	}
	policy := settlement.RevertToDryRun
	if n.cfg.SettlementPolicy == "quarantine" {
		policy = settlement.Quarantine
	}
	metrics := settlementprom.New(nil)
	e, err := settlement.Open(ctx, n.receipts, n.settling, n.state, &settlement.Options{
		Policy:   policy,
		Interval: seconds(n.cfg.SettlementInterval),
		Logger:   n.log,
		Metrics:  metrics,
	})
	if err != nil {
		return err
	}
	n.registry.MustRegister(metrics)
	n.engine.Store(e)
	close(n.engine.taken)
	return nil
}

// settle takes the lead and settles until ctx ends. A database that is away for a
// while ends neither.
func (n *node) settle(ctx context.Context) error {
	for {
		err := n.lead(ctx)
		switch {
		case err == nil:
			return n.engine.Load().Run(ctx)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, settlement.ErrCorrupt), errors.Is(err, settlement.ErrSchema), errors.Is(err, settlement.ErrOptions):
			return err
		}
		n.log.Warn("no lead, trying again", "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// match matches from when this node has the lead: a receipt says whether it is a
// dry run, and only the engine knows.
func (n *node) match(ctx context.Context) error {
	select {
	case <-n.engine.taken:
		return n.loop.Run(ctx)
	case <-ctx.Done():
		return nil
	}
}
