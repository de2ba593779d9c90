package admission

import (
	"context"
	"log/slog"
	"time"
)

// Status is what a controller sees and has done.
type Status struct {
	Mode     Mode
	Switches uint64 // of mode since New

	FeeP50, FeeP90 uint64 // of the consumer fees in the window; 0 without any
	FeeSamples     int
	Threshold      uint64 // 0: no fee guard

	Capacity uint64 // estimated shards; the last estimate if Stale
	Stale    bool   // no fresh sample of capacity
	Leased   uint64 // shards held now; can exceed Capacity by what consumers hold

	ConsumerAdmitted   uint64
	IndustrialAdmitted uint64
	IndustrialDeferred uint64 // refused for any reason but Invalid
}

// Status returns the state at now. Looking changes nothing: whatever time brings
// about, it brings about by itself.
func (c *Controller) Status(now time.Time) Status {
	at := c.line.at(now)
	s := c.signals
	s.look(at)
	st := Status{
		Leased:             uint64(max(c.wheel.held.Load(), 0)),
		ConsumerAdmitted:   c.admitted[Consumer-1].Load(),
		IndustrialAdmitted: c.admitted[Industrial-1].Load(),
	}
	for code := range c.refused[Industrial-1] {
		st.IndustrialDeferred += c.refused[Industrial-1][code].Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.view.Load()
	st.Mode, st.Stale, st.Capacity = v.mode, v.stale, v.capacity
	st.Switches, st.Threshold = s.machine.switches, s.threshold
	st.FeeP50, st.FeeP90, st.FeeSamples = s.fees.quantile(0.5), s.fees.quantile(0.9), s.fees.n
	return st
}

// Refused returns how often lane got code. It is 0 for an unknown lane or code,
// and for Invalid, which is counted nowhere.
func (c *Controller) Refused(lane Lane, code Code) uint64 {
	if !lane.Valid() || code >= codes {
		return 0
	}
	return c.refused[lane-1][code].Load()
}

func (c *Controller) logDecision(r *Request, d *Decision) {
	ctx := context.Background()
	if !c.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := []slog.Attr{
		slog.String("job_id", r.JobID[:min(len(r.JobID), MaxID)]),
		slog.Uint64("shards", r.Shards),
		slog.String("mode", d.Mode.String()),
		slog.String("lane", r.Lane.String()),
		slog.String("code", d.Code.String()),
	}
	if d.RetryAfter > 0 {
		attrs = append(attrs, slog.Duration("retry_after", d.RetryAfter))
	}
	if d.Err != nil {
		attrs = append(attrs, slog.Any("err", d.Err))
	}
	c.log.LogAttrs(ctx, slog.LevelInfo, "admission decision", attrs...)
}
