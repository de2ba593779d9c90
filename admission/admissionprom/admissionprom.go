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
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/admission"
)

// Collector is a [prometheus.Collector] over one controller. No label carries an
// id: memory and cardinality are fixed.
type Collector struct {
	c     *admission.Controller
	clock admission.Clock
}

var _ prometheus.Collector = (*Collector)(nil)

// Options says how a [Collector] looks.
type Options struct {
	// Clock gives the time at which the controller is asked; it is the same as
	// the controller's. Defaults to [time.Now].
	Clock admission.Clock
}

// NewCollector returns a collector to be registered by the caller. A nil
// *Options means the defaults.
func NewCollector(c *admission.Controller, o *Options) *Collector {
	col := &Collector{c: c, clock: systemClock{}}
	if o != nil && o.Clock != nil {
		col.clock = o.Clock
	}
	return col
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

var (
	p50 = prometheus.NewDesc("consumer_fee_p50",
		"Median of the consumer fees in the window, 0 without any.", nil, nil)
	p90 = prometheus.NewDesc("consumer_fee_p90",
		"90th percentile of the consumer fees in the window, 0 without any.", nil, nil)
	admitted = prometheus.NewDesc("industrial_admitted_total",
		"Industrial jobs that were admitted.", nil, nil)
	deferred = prometheus.NewDesc("industrial_deferred_total",
		"Industrial jobs that were refused for any reason but a malformed request.", nil, nil)
	mode = prometheus.NewDesc("admission_mode",
		"1 for the current mode, 0 for the others.", []string{"mode"}, nil)
)

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p50, p90, admitted, deferred, mode} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.c.Status(c.clock.Now())
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(p50, float64(s.FeeP50))
	gauge(p90, float64(s.FeeP90))
	for _, m := range admission.Modes {
		v := 0.0
		if m == s.Mode {
			v = 1
		}
		gauge(mode, v, m.String())
	}
	ch <- prometheus.MustNewConstMetric(admitted, prometheus.CounterValue, float64(s.IndustrialAdmitted))
	ch <- prometheus.MustNewConstMetric(deferred, prometheus.CounterValue, float64(s.IndustrialDeferred))
}
