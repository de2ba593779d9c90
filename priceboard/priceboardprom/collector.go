// Package priceboardprom shows the bands of a price board to Prometheus.
package priceboardprom

import (
	"fmt"
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/internal/callback"
	"github.com/computemarket/computemarket/priceboard"
)

// Board is what the collector reads. [priceboard.Board] is one.
type Board interface {
	Bands() (priceboard.Bands, bool)
}

var _ Board = (*priceboard.Board)(nil)

// Options set how the gauges are named, so that several boards can be registered
// side by side. Nil means the defaults.
type Options struct {
	// Namespace is put before each name, with an underscore. Defaults to none.
	Namespace string

	// ConstLabels are on every gauge, such as the name of a market: two boards
	// in one registry differ in them. Defaults to none.
	ConstLabels prometheus.Labels
}

// New returns a collector of three gauges: price_band_p25, price_band_median and
// price_band_p75, in the unit of the recorded prices. The caller registers it.
// No board, and a name or label that Prometheus refuses, are the error of that.
//
// Each scrape reads the board once, so the three belong together, they are true
// right after a load and after a Reset, and recording pays nothing for them.
// While there are no bands the gauges are NaN: the series exist and show a gap,
// where a 0 would be a price. A price above 2^53 is rounded, as float64 must.
func New(b Board, opts *Options) prometheus.Collector {
	if opts == nil {
		opts = &Options{}
	}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(opts.Namespace, "", name), help, nil, opts.ConstLabels)
	}
	return &collector{
		board:  b,
		p25:    desc("price_band_p25", "25th percentile of the offer prices in the window."),
		median: desc("price_band_median", "Median of the offer prices in the window."),
		p75:    desc("price_band_p75", "75th percentile of the offer prices in the window."),
	}
}

type collector struct {
	board            Board
	p25, median, p75 *prometheus.Desc
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	if b, ok := c.board.(*priceboard.Board); c.board == nil || ok && b == nil {
		ch <- prometheus.NewInvalidDesc(fmt.Errorf("priceboardprom: %w: no board", priceboard.ErrOptions))
		return
	}
	ch <- c.p25
	ch <- c.median
	ch <- c.p75
}

// Collect makes a panic of the board an error of the scrape: it would end the
// process.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	var bands priceboard.Bands
	var ok bool
	err := callback.Run("Board.Bands", func() error { bands, ok = c.board.Bands(); return nil })
	gauge := func(d *prometheus.Desc, price uint64) {
		v := float64(price)
		if !ok {
			v = math.NaN()
		}
		if err != nil {
			ch <- prometheus.NewInvalidMetric(d, err)
			return
		}
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(c.p25, bands.P25)
	gauge(c.median, bands.Median)
	gauge(c.p75, bands.P75)
}
