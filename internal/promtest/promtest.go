// Package promtest checks that collectors for Prometheus can stand side by side
// in one registry.
package promtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// New makes a collector with a namespace and labels of its own.
type New func(namespace string, labels prometheus.Labels) prometheus.Collector

// SideBySide registers two collectors that differ in a label, and one in another
// namespace, with one registry: each shows all its series, unregistering one
// leaves the others, and what Prometheus refuses is an error of Register.
func SideBySide(t *testing.T, make New) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	plain := scrape(t, make("", nil))
	if len(plain) == 0 {
		t.Fatal("no series")
	}
	a, b := make("", prometheus.Labels{"node": "a"}), make("", prometheus.Labels{"node": "b"})
	spaced := make("space", nil)
	for _, c := range []prometheus.Collector{a, b, spaced} {
		if err := reg.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	want := slices.Concat(with(plain, "", `node="a"`), with(plain, "", `node="b"`), with(plain, "space_", ""))
	same(t, "three", reg, want)
	if err := reg.Register(make("", prometheus.Labels{"node": "b"})); err == nil {
		t.Error("the same labels were registered twice")
	}
	if !reg.Unregister(a) {
		t.Error("not unregistered")
	}
	same(t, "two, the first being gone", reg, slices.Concat(with(plain, "", `node="b"`), with(plain, "space_", "")))

	if err := reg.Register(make("not a name", nil)); err == nil && !strings.Contains(strings.Join(gather(t, reg), " "), "not a name") {
		t.Error("a bad namespace was registered and shows nothing")
	}
	if err := prometheus.NewPedanticRegistry().Register(make("", prometheus.Labels{"": "x"})); err == nil {
		t.Error("a label without a name was registered")
	}
}

func scrape(t *testing.T, c prometheus.Collector) []string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(c); err != nil {
		t.Fatal(err)
	}
	return gather(t, reg)
}

// gather returns the series in order, as name{labels}.
func gather(t *testing.T, reg *prometheus.Registry) (all []string) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			all = append(all, series(f.GetName(), labels))
		}
	}
	slices.Sort(all)
	return all
}

func series(name string, labels []string) string {
	slices.Sort(labels)
	return name + "{" + strings.Join(labels, ",") + "}"
}

// with returns the series with prefix and label added.
func with(plain []string, prefix, label string) []string {
	var out []string
	for _, s := range plain {
		name, list, _ := strings.Cut(strings.TrimSuffix(s, "}"), "{")
		var labels []string
		for _, l := range []string{list, label} {
			if l != "" {
				labels = append(labels, strings.Split(l, ",")...)
			}
		}
		out = append(out, series(prefix+name, labels))
	}
	return out
}

func same(t *testing.T, what string, reg *prometheus.Registry, want []string) {
	t.Helper()
	slices.Sort(want)
	if got := gather(t, reg); !slices.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
