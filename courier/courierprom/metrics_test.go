package courierprom_test

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierprom"
	"github.com/computemarket/computemarket/internal/promtest"
)

func scrape(t *testing.T, reg *prometheus.Registry) (s string) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			s += f.GetName()
			for _, l := range m.GetLabel() {
				s += fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue())
			}
			s += fmt.Sprintf(" %v\n", m.GetCounter().GetValue())
		}
	}
	return s
}

func TestMetrics(t *testing.T) {
	m := courierprom.New(nil)
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(m); err != nil {
		t.Fatal(err)
	}
	const before = `courier_dead_letter_total{cause="damaged"} 0
courier_dead_letter_total{cause="expired"} 0
courier_dead_letter_total{cause="rejected"} 0
courier_flush_attempt_total 0
courier_flush_failure_total 0
`
	if got := scrape(t, reg); got != before {
		t.Errorf("at first:\n%s", got)
	}
	m.Attempt()
	m.Attempt()
	m.Failure()
	m.Dead(courier.Expired)
	m.Dead(99) // no new series
	const after = `courier_dead_letter_total{cause="damaged"} 0
courier_dead_letter_total{cause="expired"} 1
courier_dead_letter_total{cause="rejected"} 0
courier_flush_attempt_total 2
courier_flush_failure_total 1
`
	if got := scrape(t, reg); got != after {
		t.Errorf("then:\n%s", got)
	}
}

func TestSideBySide(t *testing.T) {
	promtest.SideBySide(t, func(namespace string, labels prometheus.Labels) prometheus.Collector {
		return courierprom.New(&courierprom.Options{Namespace: namespace, ConstLabels: labels})
	})
}
