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

	// Leased is how many shards are held now, ConsumerLeased how many of them by
	// consumers. Capacity does not bound Leased: consumers are admitted beyond it,
	// as many as come, and a lease stays when the estimate falls. No industrial
	// job is admitted that would bring Leased above Capacity.
	Leased         uint64
	ConsumerLeased uint64

	ConsumerAdmitted   uint64
	ConsumerDeferred   uint64 // refused with LeasesExhausted
	IndustrialAdmitted uint64
	IndustrialDeferred uint64 // refused for any reason but Invalid
}

// Status is [Controller.StatusAt] at the time that the clock tells.
func (c *Controller) Status() Status { return c.status(c.now()) }

// StatusAt returns the state at now. Looking changes nothing: whatever time brings
// about, it brings about by itself.
func (c *Controller) StatusAt(now time.Time) Status { return c.status(c.at(now)) }

func (c *Controller) status(at int64) Status {
	s := c.signals
	s.look(at)
	var st Status
	c.books.report(&st, at)
	for code := range c.refused {
		st.IndustrialDeferred += c.refused[code].Load()
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
	b := &c.books
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.refused[lane-1][code]
	if lane == Industrial {
		n += c.refused[code].Load()
	}
	return n
}

func (b *books) report(st *Status, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.enter(now)
	st.ConsumerLeased = uint64(b.wheel.held[Consumer-1])
	st.Leased = st.ConsumerLeased + uint64(b.wheel.held[Industrial-1])
	st.ConsumerAdmitted, st.IndustrialAdmitted = b.admitted[Consumer-1], b.admitted[Industrial-1]
	for code := range codes {
		st.ConsumerDeferred += b.refused[Consumer-1][code]
		st.IndustrialDeferred += b.refused[Industrial-1][code]
	}
}

// decideLogged decides and tells the log. If a handler panics or ends the
// goroutine, the caller never hears of its lease, and so the lease ends here.
func (c *Controller) decideLogged(r *Request, now int64) Decision {
	d := c.judge(r, now)
	returned := false
	defer func() {
		if !returned {
			c.books.release(d.Lease, now)
		}
	}()
	c.writeDecision(r, d)
	returned = true
	return d
}

func (c *Controller) writeDecision(r *Request, d Decision) {
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
	if err := r.Validate(); err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	c.log.LogAttrs(ctx, slog.LevelInfo, "admission decision", attrs...)
}
