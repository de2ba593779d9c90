// Package receiptprom counts for Prometheus what package receipt tells of.
package receiptprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/receipt"
)

// Metrics is a receipt.Metrics and a prometheus.Collector:
//
//	receipt_corrupt_total   counter, damaged records found since the store was opened
type Metrics struct{ corrupt prometheus.Counter }

var (
	_ receipt.Metrics      = (*Metrics)(nil)
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
	return &Metrics{prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: o.Namespace, ConstLabels: o.ConstLabels,
		Name: "receipt_corrupt_total",
		Help: "Damaged receipt records that were found and kept aside.",
	})}
}

// Corrupt implements receipt.Metrics.
func (m *Metrics) Corrupt(n int) { m.corrupt.Add(float64(n)) }

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { m.corrupt.Describe(ch) }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) { m.corrupt.Collect(ch) }
