// Package settlementprom counts for Prometheus what package settlement tells of.
package settlementprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/settlement"
)

// Metrics is a settlement.Metrics and a prometheus.Collector:
//
//	settle_applied_total               counter, receipts that moved credits
//	settle_failed_total{reason}        counter, receipts put into the archive
//	settle_mode_change_total{to}       counter, changes of mode
//
// All labels are there from the start, at zero.
type Metrics struct {
	applied prometheus.Counter
	failed  *prometheus.CounterVec
	modes   *prometheus.CounterVec
}

var (
	_ settlement.Metrics   = (*Metrics)(nil)
	_ prometheus.Collector = (*Metrics)(nil)
)

// Options set how the series are named, so that several sets of them can be
// registered side by side. Nil means the defaults.
type Options struct {
	// Namespace is put before each name, with an underscore. Defaults to none.
	Namespace string

	// ConstLabels are on every series, such as the name of a node: two sets in
	// one registry differ in them. Defaults to none.
	ConstLabels prometheus.Labels
}

// New returns metrics at zero; nil options mean the defaults. The caller
// registers them, and a name or label that Prometheus refuses is the error of
// that.
func New(opts *Options) *Metrics {
	var o Options
	if opts != nil {
		o = *opts
	}
	m := &Metrics{
		applied: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: o.Namespace, ConstLabels: o.ConstLabels,
			Name: "settle_applied_total",
			Help: "Receipts that moved credits.",
		}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: o.Namespace, ConstLabels: o.ConstLabels,
			Name: "settle_failed_total",
			Help: "Receipts that could not be settled and went into the archive.",
		}, []string{"reason"}),
		modes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: o.Namespace, ConstLabels: o.ConstLabels,
			Name: "settle_mode_change_total",
			Help: "Changes of the settlement mode.",
		}, []string{"to"}),
	}
	for _, r := range settlement.Reasons {
		m.failed.WithLabelValues(string(r))
	}
	for _, mode := range settlement.Modes {
		m.modes.WithLabelValues(mode.String())
	}
	return m
}

// Applied implements settlement.Metrics.
func (m *Metrics) Applied(n int) { m.applied.Add(float64(n)) }

// Failed implements settlement.Metrics.
func (m *Metrics) Failed(r settlement.Reason) { m.failed.WithLabelValues(string(r)).Inc() }

// ModeChanged implements settlement.Metrics.
func (m *Metrics) ModeChanged(to settlement.Mode) { m.modes.WithLabelValues(to.String()).Inc() }

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.applied, m.failed, m.modes}
}
