package matchprom_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/computemarket/computemarket/internal/promtest"
	"github.com/computemarket/computemarket/settlement/match/matchprom"
)

func TestMetrics(t *testing.T) {
	m := matchprom.New(nil)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(m)
	want := func(dry, real, failed string) {
		t.Helper()
		text := `# HELP matches_total Matches whose receipt is durable.
# TYPE matches_total counter
matches_total{dry_run="false"} ` + real + `
matches_total{dry_run="true"} ` + dry + `
# HELP receipt_persist_fail_total Appends of receipts that failed, and receipts that the log refused.
# TYPE receipt_persist_fail_total counter
receipt_persist_fail_total ` + failed + "\n"
		err := testutil.GatherAndCompare(reg, strings.NewReader(text), "matches_total", "receipt_persist_fail_total")
		if err != nil {
			t.Error(err)
		}
	}
	want("0", "0", "0") // both labels are there from the start
	m.Matched(true, time.Millisecond)
	m.Matched(true, time.Second)
	m.Matched(false, time.Hour)
	m.PersistFailed()
	want("2", "1", "1")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "match_loop_latency_seconds" {
			if h := f.Metric[0].GetHistogram(); h.GetSampleCount() != 3 || h.GetSampleSum() != 3601.001 {
				t.Errorf("latency: %v", h)
			}
			return
		}
	}
	t.Error("no match_loop_latency_seconds")
}

func TestSideBySide(t *testing.T) {
	promtest.SideBySide(t, func(namespace string, labels prometheus.Labels) prometheus.Collector {
		return matchprom.New(&matchprom.Options{Namespace: namespace, ConstLabels: labels})
	})
}
