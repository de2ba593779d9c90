package receiptprom_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/computemarket/computemarket/internal/promtest"
	"github.com/computemarket/computemarket/receipt/receiptprom"
)

func TestMetrics(t *testing.T) {
	m := receiptprom.New(nil)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(m)
	m.Corrupt(2)
	m.Corrupt(1)
	want := `# HELP receipt_corrupt_total Damaged receipt records that were found and kept aside.
# TYPE receipt_corrupt_total counter
receipt_corrupt_total 3
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestSideBySide(t *testing.T) {
	promtest.SideBySide(t, func(namespace string, labels prometheus.Labels) prometheus.Collector {
		return receiptprom.New(&receiptprom.Options{Namespace: namespace, ConstLabels: labels})
	})
}
