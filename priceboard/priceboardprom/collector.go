// Package priceboardprom shows the bands of a price board to Prometheus.
package priceboardprom

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/priceboard"
)

// Board is what the collector reads. [priceboard.Board] is one.
type Board interface {
	Bands() (priceboard.Bands, bool)
}

var _ Board = (*priceboard.Board)(nil)

// New returns a collector of three gauges: price_band_p25, price_band_median and
// price_band_p75, in the unit of the recorded prices. The caller registers it.
//
// Each scrape reads the board once, so the three belong together, they are true
// right after a load and after a Reset, and recording pays nothing for them.
// While there are no bands the gauges are NaN: the series exist and show a gap,
// where a 0 would be a price. A price above 2^53 is rounded, as float64 must.
func New(b Board) prometheus.Collector { return collector{b} }

type collector struct{ board Board }

var (
	p25Desc = prometheus.NewDesc("price_band_p25",
		"25th percentile of the offer prices in the window.", nil, nil)
	medianDesc = prometheus.NewDesc("price_band_median",
		"Median of the offer prices in the window.", nil, nil)
	p75Desc = prometheus.NewDesc("price_band_p75",
		"75th percentile of the offer prices in the window.", nil, nil)
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- p25Desc
	ch <- medianDesc
	ch <- p75Desc
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	bands, ok := c.board.Bands()
	gauge := func(d *prometheus.Desc, price uint64) {
		v := float64(price)
		if !ok {
			v = math.NaN()
		}
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(p25Desc, bands.P25)
	gauge(medianDesc, bands.Median)
	gauge(p75Desc, bands.P75)
}
