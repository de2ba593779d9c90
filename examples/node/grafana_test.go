package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	// A selector is a metric's name and, within braces, its labels.
	selector = regexp.MustCompile(`([a-z][a-z0-9_]*)(\{[^}]*\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)=~?"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(by|without|on|ignoring) *\([^)]*\)`)
	// What else is a word in the expressions of these files.
	words = regexp.MustCompile(`^(sum|rate|increase|histogram_quantile|and|or|up|m|h|s)$`)
)

type selected struct{ name, label, value string }

// selectors returns what an expression of PromQL asks for.
func selectors(expr string) (all []selected) {
	expr = grouping.ReplaceAllString(expr, "")
	expr = regexp.MustCompile(`\[[^]]*\]`).ReplaceAllString(expr, "")
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		if words.MatchString(m[1]) {
			continue
		}
		all = append(all, selected{name: m[1]})
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "job" && l[1] != "instance" { // Prometheus gives those
				all = append(all, selected{m[1], l[1], l[2]})
			}
		}
	}
	return all
}

// Every metric, label and value that the dashboard and the alerts name is one that
// a node exposes from its start, and the dashboard shows all of the specification.
func TestGrafana(t *testing.T) {
	var exprs []string
	text, err := os.ReadFile("../grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard any
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, v := range v {
				if expr, ok := v.(string); ok && key == "expr" {
					exprs = append(exprs, expr)
				}
				walk(v)
			}
		case []any:
			for _, v := range v {
				walk(v)
			}
		}
	}
	walk(dashboard)
	shown := strings.Join(exprs, "\n")
	alerts, err := os.ReadFile("../grafana/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`(?m)^ +expr: (.*)$`).FindAllStringSubmatch(string(alerts), -1)
	for _, m := range rules {
		exprs = append(exprs, m[1])
	}
	if len(rules) < 10 || len(exprs) < 30 {
		t.Fatalf("found %d rules, %d expressions", len(rules), len(exprs))
	}

	values, _ := scrape(t, startNode(t, newDir(t)).addr)
	exposed := make(map[selected]bool)
	for s := range values {
		name, labels, _ := strings.Cut(s, "{")
		exposed[selected{name: name}] = true
		for _, l := range matcher.FindAllStringSubmatch(labels, -1) {
			exposed[selected{name, l[1], l[2]}] = true
		}
	}
	for _, expr := range exprs {
		found := selectors(expr)
		if len(found) == 0 && !strings.HasPrefix(expr, "up{") {
			t.Errorf("no metric in %s", expr)
		}
		for _, s := range found {
			if !exposed[s] {
				t.Errorf("%+v is not exposed: %s", s, expr)
			}
		}
	}
	for _, s := range series {
		name, _, _ := strings.Cut(s, "{")
		if !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count") && !strings.Contains(shown, name) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}
