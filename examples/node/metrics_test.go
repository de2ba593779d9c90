package main

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
)

// series are those of the specification, with their labels.
var series = strings.Fields(`
	courier_flush_attempt_total courier_flush_failure_total
	price_band_p25 price_band_median price_band_p75
	receipt_corrupt_total receipt_persist_fail_total
	settle_applied_total
	settle_failed_total{reason="insufficient_funds"} settle_failed_total{reason="overflow"}
	settle_failed_total{reason="conflict"} settle_failed_total{reason="corrupt"}
	settle_failed_total{reason="invalid"} settle_failed_total{reason="issuer"}
	settle_mode_change_total{to="dry_run"} settle_mode_change_total{to="armed"} settle_mode_change_total{to="real"}
	matches_total{dry_run="true"} matches_total{dry_run="false"}
	match_loop_latency_seconds_sum match_loop_latency_seconds_count match_loop_latency_seconds_bucket{le="+Inf"}
	consumer_fee_p50 consumer_fee_p90
	industrial_admitted_total industrial_deferred_total
	admission_mode{mode="normal"} admission_mode{mode="tight"} admission_mode{mode="brownout"}
`)

// scrape returns what a node exposes: values by series, and types by name.
func scrape(t *testing.T, addr string) (values, types map[string]string) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	values, types = make(map[string]string), make(map[string]string)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			types[name] = kind
		} else if i := strings.LastIndex(line, " "); i > 0 && line[0] != '#' {
			values[line[:i]] = line[i+1:]
		}
	}
	return values, types
}

// A node that has done nothing has every series, and no series of a name that
// the specification gives has other labels.
func TestMetrics(t *testing.T) {
	dir := newDir(t)
	n := startNode(t, dir)
	values, types := scrape(t, n.addr)
	names := make(map[string]int)
	for _, s := range series {
		if _, ok := values[s]; !ok {
			t.Errorf("no %s", s)
		}
		name, _, _ := strings.Cut(s, "{")
		names[name]++
	}
	found := make(map[string]int)
	for s := range values {
		name, _, _ := strings.Cut(s, "{")
		found[name]++
	}
	for name, want := range names {
		if name != "match_loop_latency_seconds_bucket" && found[name] != want {
			t.Errorf("%s has %d series, want %d", name, found[name], want)
		}
	}
	for name, kind := range types {
		if strings.HasSuffix(name, "_total") && kind != "counter" {
			t.Errorf("%s is a %s", name, kind)
		}
	}

	do(t, dir, "credits", "issue", "alice", "100")
	do(t, dir, "offer", "bob", "5", "7")
	do(t, dir, "job", "submit", "--wait", "--buyer", "alice", "--price", "7", sample)
	do(t, dir, "settlement", "arm")
	do(t, dir, "job", "submit", "--wait", "--buyer", "alice", "--price", "7", sample)
	if _, _, code := tryDo(t, dir, "job", "submit", "--buyer", "alice", "--lane", "industrial", "--price", "1",
		"--id", "industry", sample); code != 0 {
		t.Error("industry was not admitted")
	}
	values, _ = scrape(t, n.addr)
	for s, want := range map[string]string{
		`matches_total{dry_run="true"}`: "1", `matches_total{dry_run="false"}`: "1", "settle_applied_total": "1",
		"price_band_median": "7", "consumer_fee_p50": "7", "industrial_admitted_total": "1",
		`settle_mode_change_total{to="real"}`: "1", `admission_mode{mode="normal"}`: "1",
	} {
		if values[s] != want {
			t.Errorf("%s is %q, want %s", s, values[s], want)
		}
	}
}
