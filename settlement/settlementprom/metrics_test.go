package settlementprom_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/computemarket/computemarket/internal/promtest"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementprom"
)

func TestMetrics(t *testing.T) {
	m := settlementprom.New(nil)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(m)
	m.Applied(3)
	m.Failed(settlement.ReasonInsufficient)
	m.ModeChanged(settlement.Real)
	m.ModeChanged(settlement.Real)
	want := `# HELP settle_applied_total Receipts that moved credits.
# TYPE settle_applied_total counter
settle_applied_total 3
# HELP settle_failed_total Receipts that could not be settled and went into the archive.
# TYPE settle_failed_total counter
settle_failed_total{reason="conflict"} 0
settle_failed_total{reason="corrupt"} 0
settle_failed_total{reason="insufficient_funds"} 1
settle_failed_total{reason="invalid"} 0
settle_failed_total{reason="issuer"} 0
settle_failed_total{reason="overflow"} 0
# HELP settle_mode_change_total Changes of the settlement mode.
# TYPE settle_mode_change_total counter
settle_mode_change_total{to="armed"} 0
settle_mode_change_total{to="dry_run"} 0
settle_mode_change_total{to="real"} 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestSideBySide(t *testing.T) {
	promtest.SideBySide(t, func(namespace string, labels prometheus.Labels) prometheus.Collector {
		return settlementprom.New(&settlementprom.Options{Namespace: namespace, ConstLabels: labels})
	})
}
