// Package receiptprom counts for Prometheus what package receipt tells of.
package receiptprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/receipt"
)

// Metrics is a receipt.Metrics and a prometheus.Collector:
//
//	receipt_corrupt_total   counter, damaged records found and kept aside
type Metrics struct{ corrupt prometheus.Counter }

var (
	_ receipt.Metrics      = (*Metrics)(nil)
	_ prometheus.Collector = (*Metrics)(nil)
)

// New returns metrics at zero. The caller registers them.
func New() *Metrics {
	return &Metrics{prometheus.NewCounter(prometheus.CounterOpts{
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
