// Package matchprom counts for Prometheus what package match tells of.
package matchprom

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/settlement/match"
)

// Metrics is a match.Metrics and a prometheus.Collector:
//
//	matches_total{dry_run}       counter, matches with a durable receipt; dry_run is "true" or "false"
//	match_loop_latency_seconds   histogram, from the match to its durable receipt, the work included
//	receipt_persist_fail_total   counter, failed appends and refused receipts
type Metrics struct {
	matches *prometheus.CounterVec
	dry     prometheus.Counter
	real    prometheus.Counter
	latency prometheus.Histogram
	failed  prometheus.Counter
}

var (
	_ match.Metrics        = (*Metrics)(nil)
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
		matches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: o.Namespace, ConstLabels: o.ConstLabels,
			Name: "matches_total",
			Help: "Matches whose receipt is durable.",
		}, []string{"dry_run"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: o.Namespace, ConstLabels: o.ConstLabels,
			Name: "match_loop_latency_seconds",
			Help: "Time from a match to its durable receipt, the work included.",
			// 100 µs to 15 min: from an append alone to long jobs.
			Buckets: prometheus.ExponentialBucketsRange(1e-4, 900, 16),
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: o.Namespace, ConstLabels: o.ConstLabels,
			Name: "receipt_persist_fail_total",
			Help: "Appends of receipts that failed, and receipts that the log refused.",
		}),
	}
	m.dry = m.matches.WithLabelValues("true")
	m.real = m.matches.WithLabelValues("false")
	return m
}

// Matched implements match.Metrics.
func (m *Metrics) Matched(dryRun bool, took time.Duration) {
	if dryRun {
		m.dry.Inc()
	} else {
		m.real.Inc()
	}
	m.latency.Observe(took.Seconds())
}

// PersistFailed implements match.Metrics.
func (m *Metrics) PersistFailed() { m.failed.Inc() }

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.matches.Describe(ch)
	m.latency.Describe(ch)
	m.failed.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.matches.Collect(ch)
	m.latency.Collect(ch)
	m.failed.Collect(ch)
}
