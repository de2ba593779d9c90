package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/computemarket/computemarket/workload"
)

func TestGenerate(t *testing.T) {
	content := strings.Repeat("frames ", 100_000)
	input := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(input, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{input, "-"} {
		output := filepath.Join(t.TempDir(), "new.slice")
		var out bytes.Buffer
		if err := run(t.Context(), []string{from, output}, strings.NewReader(content), &out); err != nil {
			t.Fatal(err)
		}
		if want := workload.Sum([]byte(content)).String() + "\n"; out.String() != want {
			t.Errorf("%s: %q, want %q", from, out.String(), want)
		}
		if got, err := os.ReadFile(output); err != nil || string(got) != content {
			t.Errorf("%s: %d bytes written, %v", from, len(got), err)
		}
	}
}

// Nothing is overwritten, and nothing half written stays.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("disk on fire")
	bad := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))
	fresh := filepath.Join(dir, "new")
	for name, c := range map[string]struct {
		args []string
		want error
	}{
		"no argument":    {nil, errUsage},
		"one argument":   {[]string{old}, errUsage},
		"exists":         {[]string{"-", old}, fs.ErrExist},
		"onto itself":    {[]string{old, old}, fs.ErrExist},
		"missing input":  {[]string{filepath.Join(dir, "missing"), fresh}, fs.ErrNotExist},
		"missing folder": {[]string{old, filepath.Join(dir, "no", "new")}, fs.ErrNotExist},
		"broken input":   {[]string{"-", fresh}, broken},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), c.args, bad, &out); !errors.Is(err, c.want) || out.Len() > 0 {
			t.Errorf("%s: %v, %q, want %v", name, err, out.String(), c.want)
		}
	}
	if err := run(t.Context(), []string{old, fresh}, nil, full{broken}); !errors.Is(err, broken) {
		t.Errorf("full stdout: %v", err)
	}
	if err := run(t.Context(), []string{dir, fresh}, nil, io.Discard); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: %v", err)
	}
	if got, err := os.ReadFile(old); err != nil || string(got) != "old" {
		t.Errorf("the old file is %q, %v", got, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, f.err }
