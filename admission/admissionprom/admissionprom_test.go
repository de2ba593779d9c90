package admissionprom_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/admission/admissionprom"
	"github.com/computemarket/computemarket/internal/promtest"
)

type clock struct{ t time.Time }

func (c *clock) Now() time.Time { return c.t }

// TestCollector follows the figures through admission, refusal and a mode that
// ends while nobody asks.
func TestCollector(t *testing.T) {
	k := &clock{time.Unix(1_700_000_000, 0)}
	c, err := admission.New(&admission.Options{Clock: k, ComfortThreshold: 100, FeeAge: time.Minute, CapacityAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(admissionprom.NewCollector(c, nil))
	check := func(want string) {
		t.Helper()
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	}
	check(text("0", "0", "0", "0", "brownout"))

	c.ObserveCapacityAt(100, k.t)
	r := admission.Request{JobID: "j", Buyer: "b", Provider: "p", Lane: admission.Industrial, Shards: 1, Duration: time.Second}
	c.Decide(r)
	r.Shards = 200
	c.Decide(r)
	check(text("0", "0", "1", "1", "normal"))

	for i := range 50 {
		c.ObserveConsumerFeeAt(uint64(101+i), k.t)
	}
	check(text("126", "146", "1", "1", "tight"))

	k.t = k.t.Add(time.Minute)
	check(text("0", "0", "1", "1", "normal"))

	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// TestClock has a collector bring the time along for a controller that has no
// clock, and one whose clock is broken.
func TestClock(t *testing.T) {
	k := &clock{time.Unix(1_700_000_000, 0)}
	var c admission.Controller
	c.ObserveCapacityAt(100, k.t)
	collector := admissionprom.NewCollector(&c, &admissionprom.Options{Clock: k})
	if err := testutil.CollectAndCompare(collector, strings.NewReader(text("0", "0", "0", "0", "normal"))); err != nil {
		t.Error(err)
	}
	broken := admissionprom.NewCollector(&c, &admissionprom.Options{Clock: (*clock)(nil)})
	if err := testutil.CollectAndCompare(broken, strings.NewReader("")); err == nil || !strings.Contains(err.Error(), "panic in Clock.Now") {
		t.Error(err)
	}
}

func text(p50, p90, admitted, deferred, mode string) string {
	is := map[string]string{"normal": "0", "tight": "0", "brownout": "0"}
	is[mode] = "1"
	return `
# HELP admission_mode 1 for the current mode, 0 for the others.
# TYPE admission_mode gauge
admission_mode{mode="brownout"} ` + is["brownout"] + `
admission_mode{mode="normal"} ` + is["normal"] + `
admission_mode{mode="tight"} ` + is["tight"] + `
# HELP consumer_fee_p50 Median of the consumer fees in the window, 0 without any.
# TYPE consumer_fee_p50 gauge
consumer_fee_p50 ` + p50 + `
# HELP consumer_fee_p90 90th percentile of the consumer fees in the window, 0 without any.
# TYPE consumer_fee_p90 gauge
consumer_fee_p90 ` + p90 + `
# HELP industrial_admitted_total Industrial jobs that were admitted.
# TYPE industrial_admitted_total counter
industrial_admitted_total ` + admitted + `
# HELP industrial_deferred_total Industrial jobs that were refused for any reason but a malformed request.
# TYPE industrial_deferred_total counter
industrial_deferred_total ` + deferred + `
`
}

func TestSideBySide(t *testing.T) {
	promtest.SideBySide(t, func(namespace string, labels prometheus.Labels) prometheus.Collector {
		c, err := admission.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		return admissionprom.NewCollector(c, &admissionprom.Options{Namespace: namespace, ConstLabels: labels})
	})
}

func TestNoController(t *testing.T) {
	if err := prometheus.NewRegistry().Register(admissionprom.NewCollector(nil, nil)); !errors.Is(err, admission.ErrOptions) {
		t.Errorf("%v, want ErrOptions", err)
	}
}
