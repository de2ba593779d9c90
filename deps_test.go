package computemarket_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/computemarket/computemarket"

// direct is all that the module may require for itself: four libraries, and two
// more for tests and benchmarks.
var direct = []string{
	"github.com/cockroachdb/pebble/v2",
	"github.com/prometheus/client_golang",
	"golang.org/x/sync",
	"golang.org/x/time",
	"lukechampine.com/blake3",
	"pgregory.net/rapid",
}

// arrows are the imports between the concerns. A concern that is not named here
// imports no other.
var arrows = map[string][]string{
	"settlement":       {"receipt"},
	"settlement/match": {"settlement", "receipt", "admission"},
	"settlement/market": {
		"settlement/match", "settlement", "receipt", "admission", "workload", "courier",
	},
	"workload/verify": {"workload"},
}

// goTool runs the go command, and lets the test's cached result depend on the
// sources, which that command reads unseen.
func goTool(t *testing.T, args ...string) []byte {
	t.Helper()
	filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".go") || d.Name() == "go.mod") {
			os.Stat(path)
		}
		return err
	})
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func TestDirectRequirements(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Replace []any
	}
	if err := json.Unmarshal(goTool(t, "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		if !r.Indirect && !slices.Contains(direct, r.Path) {
			t.Errorf("go.mod requires %s", r.Path)
		}
	}
	if len(mod.Replace) > 0 {
		t.Error("go.mod replaces: that counts for nobody who imports the module")
	}
}

// Pebble belongs to packages whose name ends in pebble and to the database that
// they share, Prometheus to those ending in prom; of the rest nothing may reach
// them, and the concerns import each other only along the arrows.
func TestCoreStaysLight(t *testing.T) {
	type pkg struct {
		ImportPath string
		Deps       []string
	}
	dec := json.NewDecoder(strings.NewReader(string(goTool(t, "list", "-json=ImportPath,Deps", "./..."))))
	seen := 0
	for dec.More() {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		seen++
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		onPebble := strings.HasSuffix(name, "pebble") || strings.HasSuffix(name, "pebbledb") || strings.HasPrefix(name, "internal/")
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, "github.com/cockroachdb/") && !onPebble {
				t.Errorf("%s depends on %s", p.ImportPath, dep)
			}
			if strings.HasPrefix(dep, "github.com/prometheus/") && !strings.HasSuffix(name, "prom") && !onPebble {
				t.Errorf("%s depends on %s", p.ImportPath, dep)
			}
			other, ours := strings.CutPrefix(dep, module+"/")
			if !ours || !isConcern(name) || strings.HasPrefix(other, "internal/") || other == name {
				continue
			}
			if !slices.Contains(arrows[name], other) {
				t.Errorf("%s depends on %s", p.ImportPath, dep)
			}
		}
	}
	if seen < 2 {
		t.Errorf("go list named %d packages", seen)
	}
}

// isConcern tells a core package from its stores, collectors and suites.
func isConcern(name string) bool {
	return name == "settlement/match" || name == "settlement/market" || name == "workload/verify" || name != "" && !strings.Contains(name, "/")
}
