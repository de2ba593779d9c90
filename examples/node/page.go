package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/priceboard"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/match"
)

// pageRows bounds the lists on the status page.
const pageRows = 12

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

type page struct {
	Now        time.Time
	Settlement settlementResult
	More       bool // accounts than are shown
	Failures   []settlement.Failure
	Bands      bandsResult
	Chart      template.HTML
	Admission  admissionResult
	Comfort    int // fee in percent of the threshold, 0 without a threshold
	Lanes      []lanePage
	Courier    courierResult
}

type lanePage struct {
	laneResult
	Depth []depthRow // bids and asks of the same rank side by side
	Wait  time.Duration
}

type depthRow struct{ Bid, Ask *match.Level }

// servePage shows what RPC tells, to a person.
func (n *node) servePage(w http.ResponseWriter, r *http.Request) {
	p, err := n.page(r)
	var text bytes.Buffer
	if err == nil {
		err = pageTemplate.Execute(&text, p)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(text.Bytes())
}

func (n *node) page(r *http.Request) (p page, err error) {
	ctx := r.Context()
	p.Now = time.Now().UTC()
	if err := n.settlementPage(ctx, &p); err != nil {
		return p, err
	}
	if p.Bands, err = n.priceBands(ctx, none{}); err != nil {
		return p, err
	}
	p.Chart = n.history.chart()
	if p.Admission, err = n.admissionStatus(ctx, none{}); err != nil {
		return p, err
	}
	if t := p.Admission.Threshold; t > 0 {
		p.Comfort = int(min(100, 100*float64(p.Admission.FeeP50)/float64(t)))
	}
	for i, lane := range admission.Lanes {
		bids := n.market.book.Depth(nil, lane, match.Bid, 5)
		asks := n.market.book.Depth(nil, lane, match.Ask, 5)
		row := lanePage{laneResult: p.Admission.Lanes[i], Wait: n.loop.Stats(lane).Oldest.Round(time.Second)}
		for i := range max(len(bids), len(asks)) {
			var d depthRow
			if i < len(bids) {
				d.Bid = &bids[i]
			}
			if i < len(asks) {
				d.Ask = &asks[i]
			}
			row.Depth = append(row.Depth, d)
		}
		p.Lanes = append(p.Lanes, row)
	}
	p.Courier, err = n.courierStatus(ctx, courierParams{})
	return p, err
}

func (n *node) settlementPage(ctx context.Context, p *page) (err error) {
	if p.Settlement, err = n.settlementStatus(ctx, none{}); err != nil {
		return err
	}
	if p.More = len(p.Settlement.Balances) > pageRows; p.More {
		p.Settlement.Balances = p.Settlement.Balances[:pageRows]
	}
	for f, err := range n.engine.Failures(ctx) {
		if err != nil {
			return err
		}
		if p.Failures = append(p.Failures, f); len(p.Failures) == pageRows {
			break
		}
	}
	return nil
}

// history keeps the bands of the last while, for the chart.
type history struct {
	mu     sync.Mutex
	points []priceboard.Bands // oldest first, one for each watchEvery
}

const historyPoints = 240

func (h *history) observe(b priceboard.Bands, ok bool) {
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.points) == historyPoints {
		h.points = h.points[1:]
	}
	h.points = append(h.points, b)
}

// chart draws the quartiles as a band and the median as a line, from the oldest
// at the left to the newest at the right.
func (h *history) chart() template.HTML {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.points) < 2 {
		return ""
	}
	low, high := h.points[0].P25, h.points[0].P75
	for _, p := range h.points {
		low, high = min(low, p.P25), max(high, p.P75)
	}
	const width, height, margin = 600.0, 110.0, 6.0
	at := func(i int, price uint64) string {
		x, y := float64(i)*width/float64(len(h.points)-1), height/2
		if high > low {
			y = height - margin - (height-2*margin)*float64(price-low)/float64(high-low)
		}
		return fmt.Sprintf("%.1f,%.1f ", x, y)
	}
	var area, line strings.Builder
	for i, p := range h.points {
		area.WriteString(at(i, p.P75))
		line.WriteString(at(i, p.Median))
	}
	for i := len(h.points) - 1; i >= 0; i-- {
		area.WriteString(at(i, h.points[i].P25))
	}
	span := time.Duration(len(h.points)-1) * watchEvery
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 %g %g" role="img" aria-label="price bands over time">`+
		`<polygon class="band" points="%s"/><polyline class="median" points="%s"/></svg>`+
		`<small>the last %v, from %d to %d credits</small>`,
		width, height, area.String(), line.String(), span, low, high))
}
