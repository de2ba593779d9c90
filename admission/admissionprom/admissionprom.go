// Package admissionprom exports what an [admission.Controller] sees and does to
// Prometheus.
//
//	registry.MustRegister(admissionprom.NewCollector(controller, nil))
//
// The collector asks the controller when it is scraped, so that the figures are
// those of that moment even if nobody has asked for admission since: a mode that
// time has ended is not reported as current. A decision pays nothing for it.
package admissionprom

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/internal/callback"
)

// Collector is a [prometheus.Collector] over one controller. No label carries an
// id: memory and cardinality are fixed.
type Collector struct {
	c     *admission.Controller
	clock admission.Clock // nil for the controller's

	p50, p90, admitted, deferred, mode *prometheus.Desc
}

var _ prometheus.Collector = (*Collector)(nil)

// Options says how a [Collector] looks. Nil means the defaults.
type Options struct {
	// Clock gives the time at which the controller is asked. Defaults to the
	// controller's own clock; set it only if the controller is told the time by
	// its callers.
	Clock admission.Clock

	// Namespace is put before each name, with an underscore. Defaults to none.
	Namespace string

	// ConstLabels are on every series, such as the name of a node: two
	// collectors in one registry differ in them. Defaults to none.
	ConstLabels prometheus.Labels
}

// NewCollector returns a collector to be registered by the caller. A nil
// *Options means the defaults. No controller, and a name or label that
// Prometheus refuses, are the error of registering.
func NewCollector(c *admission.Controller, o *Options) *Collector {
	if o == nil {
		o = &Options{}
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(o.Namespace, "", name), help, labels, o.ConstLabels)
	}
	return &Collector{
		c: c, clock: o.Clock,
		p50: desc("consumer_fee_p50", "Median of the consumer fees in the window, 0 without any."),
		p90: desc("consumer_fee_p90", "90th percentile of the consumer fees in the window, 0 without any."),
		admitted: desc("industrial_admitted_total",
			"Industrial jobs that were admitted."),
		deferred: desc("industrial_deferred_total",
			"Industrial jobs that were refused for any reason but a malformed request."),
		mode: desc("admission_mode", "1 for the current mode, 0 for the others.", "mode"),
	}
}

func (c *Collector) status() (s admission.Status, err error) {
	err = callback.Run("Clock.Now", func() error {
		if c.clock == nil {
			s = c.c.Status()
		} else {
			s = c.c.StatusAt(c.clock.Now())
		}
		return nil
	})
	return s, err
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	if c.c == nil {
		ch <- prometheus.NewInvalidDesc(fmt.Errorf("admissionprom: %w: no controller", admission.ErrOptions))
		return
	}
	for _, d := range []*prometheus.Desc{c.p50, c.p90, c.admitted, c.deferred, c.mode} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s, err := c.status()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.mode, err)
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.p50, float64(s.FeeP50))
	gauge(c.p90, float64(s.FeeP90))
	for _, m := range admission.Modes {
		v := 0.0
		if m == s.Mode {
			v = 1
		}
		gauge(c.mode, v, m.String())
	}
	ch <- prometheus.MustNewConstMetric(c.admitted, prometheus.CounterValue, float64(s.IndustrialAdmitted))
	ch <- prometheus.MustNewConstMetric(c.deferred, prometheus.CounterValue, float64(s.IndustrialDeferred))
}
