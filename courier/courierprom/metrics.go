// Package courierprom counts what a courier does for Prometheus.
package courierprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/courier"
)

// Metrics is a [courier.Metrics] and a collector, which the caller registers,
// of
//
//	courier_flush_attempt_total        attempts to forward a receipt
//	courier_flush_failure_total        those of them that failed
//	courier_dead_letter_total{cause}   receipts given up: rejected, expired, damaged
type Metrics struct {
	attempt, failure prometheus.Counter
	dead             map[courier.Cause]prometheus.Counter
	vec              *prometheus.CounterVec
}

var (
	_ courier.Metrics      = (*Metrics)(nil)
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
		attempt: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: o.Namespace, ConstLabels: o.ConstLabels,
			Name: "courier_flush_attempt_total",
			Help: "Attempts to forward a receipt.",
		}),
		failure: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: o.Namespace, ConstLabels: o.ConstLabels,
			Name: "courier_flush_failure_total",
			Help: "Attempts to forward a receipt that failed.",
		}),
		dead: map[courier.Cause]prometheus.Counter{},
		vec: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: o.Namespace, ConstLabels: o.ConstLabels,
			Name: "courier_dead_letter_total",
			Help: "Receipts given up, by cause.",
		}, []string{"cause"}),
	}
	for _, cause := range []courier.Cause{courier.Rejected, courier.Expired, courier.Damaged} {
		m.dead[cause] = m.vec.WithLabelValues(cause.String())
	}
	return m
}

// Attempt implements [courier.Metrics].
func (m *Metrics) Attempt() { m.attempt.Inc() }

// Failure implements [courier.Metrics].
func (m *Metrics) Failure() { m.failure.Inc() }

// Dead implements [courier.Metrics].
func (m *Metrics) Dead(c courier.Cause) {
	if counter, ok := m.dead[c]; ok {
		counter.Inc()
	}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.attempt.Collect(ch)
	m.failure.Collect(ch)
	m.vec.Collect(ch)
}
