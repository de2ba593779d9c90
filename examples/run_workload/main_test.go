package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/workload"
)

const samples = "../workloads/"

// published is what the samples' README and B3SUMS promise.
func published(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open(samples + "B3SUMS")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	readme, err := os.ReadFile(samples + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok {
			t.Fatalf("B3SUMS: %q", lines.Text())
		}
		if !bytes.Contains(readme, []byte("`"+sum+"`")) {
			t.Errorf("README.md has not the hash of %s", name)
		}
		sums[name] = sum
	}
	return sums
}

// execute runs a command line as main does.
func execute(t *testing.T, stdin io.Reader, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	err := run(t.Context(), args, stdin, &out, &errs)
	status = report(&errs, err)
	return out.String(), errs.String(), status
}

func TestSamples(t *testing.T) {
	sums := published(t)
	transcode, inference := samples+"transcode.slice", samples+"inference.slice"
	content, err := os.ReadFile(transcode)
	if err != nil {
		t.Fatal(err)
	}
	both := sums["transcode.slice"] + "  " + transcode + "\n" + sums["inference.slice"] + "  " + inference + "\n"
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{transcode}, sums["transcode.slice"] + "\n"},
		{[]string{transcode, "transcode"}, sums["transcode.slice"] + "\n"},
		{[]string{inference, "inference"}, sums["inference.slice"] + "\n"},
		{[]string{inference, "-kind", "inference"}, sums["inference.slice"] + "\n"},
		{[]string{"-"}, sums["transcode.slice"] + "\n"},
		{[]string{"-", "transcode"}, sums["transcode.slice"] + "\n"},
		{[]string{"--", transcode}, sums["transcode.slice"] + "\n"},
		{[]string{transcode, inference}, both},
	} {
		out, errs, status := execute(t, bytes.NewReader(content), c.args...)
		if out != c.want || errs != "" || status != 0 {
			t.Errorf("%q: %q, %q, status %d, want %q", c.args, out, errs, status, c.want)
		}
	}
	out, errs, status := execute(t, nil, inference, "inference", "--json")
	var got result
	if err := json.Unmarshal([]byte(out), &got); err != nil || errs != "" || status != 0 {
		t.Fatalf("%q, %q, status %d, %v", out, errs, status, err)
	}
	if got.File != inference || got.Kind != workload.Inference || got.Bytes < 3000 || got.Hash.String() != sums["inference.slice"] {
		t.Errorf("%+v", got)
	}
}

func TestErrors(t *testing.T) {
	good := samples + "transcode.slice"
	dir := t.TempDir()
	for name, c := range map[string]struct {
		args   []string
		status int
		lines  []string // on stderr, each with this in it
	}{
		"no argument":  {nil, 2, []string{"no file"}},
		"empty file":   {[]string{""}, 1, []string{"no such file"}},
		"missing":      {[]string{"missing.slice"}, 1, []string{"missing.slice: no such file"}},
		"directory":    {[]string{dir}, 1, []string{"is a directory"}},
		"no such kind": {[]string{good, "mining"}, 1, []string{"mining: no such file"}},
		"a kind alone": {[]string{"inference"}, 1, []string{"inference: no such file"}},
		"after --":     {[]string{"--", good, "inference"}, 1, []string{"inference: no such file"}},
		"kind flag":    {[]string{good, "-kind", "mining"}, 2, []string{`unknown kind "mining"`}},
		"unknown flag": {[]string{good, "-fast"}, 2, []string{"-fast"}},
		"two of three": {[]string{good, dir, "missing.slice", "transcode"}, 1, []string{"is a directory", "missing.slice: no such file"}},
	} {
		out, errs, status := execute(t, nil, c.args...)
		if status != c.status {
			t.Errorf("%s: status %d, want %d", name, status, c.status)
		}
		lines := strings.Split(strings.TrimSuffix(errs, "\n"), "\n")
		if len(lines) != len(c.lines) {
			t.Errorf("%s: %q, want %d lines", name, errs, len(c.lines))
			continue
		}
		for i, want := range c.lines {
			if !strings.HasPrefix(lines[i], "run_workload: ") || !strings.Contains(lines[i], want) {
				t.Errorf("%s: %q, want %q in it", name, lines[i], want)
			}
		}
		if wantOut := name == "two of three" || name == "no such kind" || name == "after --"; (out != "") != wantOut {
			t.Errorf("%s: %q on stdout", name, out)
		}
	}
	broken := errors.New("disk on fire")
	if out, errs, status := execute(t, iotest.ErrReader(broken), "-"); out != "" || status != 1 || !strings.Contains(errs, "-: ") || !strings.Contains(errs, "disk on fire") {
		t.Errorf("broken stdin: %q, %q, status %d", out, errs, status)
	}
	if err := run(t.Context(), []string{good}, nil, full{}, io.Discard); !errors.Is(err, errFull) {
		t.Errorf("full stdout: %v", err)
	}
	if out, errs, status := execute(t, nil, "-h"); out != usage || errs != "" || status != 0 {
		t.Errorf("-h: %q, %q, status %d", out, errs, status)
	}
}

var errFull = errors.New("disk full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// Names are written as b3sum 1.8 writes them. The lines were compared with those
// of b3sum 1.2.0, which differs for the carriage return alone.
func TestOddNames(t *testing.T) {
	for name, want := range map[string]string{
		"plain":                        "plain",
		" a\tb\"\x01 ":                 " a\tb\"\x01 ",
		"a\nb\\c":                      `a\nb\\c`,
		"cr\r":                         `cr\r`,
		"é\U0001f600\ufffd":            "é\U0001f600\ufffd",
		"\xff":                         "\ufffd",
		"\xff\xff":                     "\ufffd\ufffd",
		"\xe2\x82":                     "\ufffd",
		"\xe2\x82x":                    "\ufffdx",
		"\xe2(\xa1":                    "\ufffd(\ufffd",
		"\xf0\x9f\x98":                 "\ufffd",
		"\xf0\x9f\x98x":                "\ufffdx",
		"\xed\xa0\x80":                 "\ufffd\ufffd\ufffd",
		"\xc0\xaf":                     "\ufffd\ufffd",
		"\xf4\x90\x80\x80":             "\ufffd\ufffd\ufffd\ufffd",
		"x\xf0\x80\x80y":               "x\ufffd\ufffd\ufffdy",
		"\xe0\x80\xaf":                 "\ufffd\ufffd\ufffd",
		"b\\\xff":                      "b\\\\\ufffd",
		"\xf1\x80\x80\x80\xf1\x80\x80": "\U00040000\ufffd",
	} {
		mark := ""
		if strings.ContainsAny(name, "\\\n\r") {
			mark = `\`
		}
		hash := workload.Sum(nil)
		if got, want := listed(result{File: name, Hash: hash}), mark+hash.String()+"  "+want; got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	path := filepath.Join(t.TempDir(), "a\nb\\c")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Skip(err)
	}
	out, _, status := execute(t, nil, path, path)
	line, _, _ := strings.Cut(out, "\n")
	if status != 0 || !strings.HasPrefix(line, `\`+workload.Sum(nil).String()+"  ") || !strings.HasSuffix(line, `a\nb\\c`) {
		t.Errorf("%q, status %d", line, status)
	}
}

// A file is never taken for a kind; the last argument is one where it can be
// nothing else.
func TestFilesNamedLikeKinds(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("a", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := workload.Sum(nil).String()
	check := func(want, stdin string, args ...string) {
		t.Helper()
		out, errs, status := execute(t, strings.NewReader(stdin), args...)
		if out != want || errs != "" || status != 0 {
			t.Errorf("%q: %q, %q, status %d, want %q", args, out, errs, status, want)
		}
	}
	check(sum+"\n", "", "a", "inference")
	if err := os.WriteFile("inference", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	both := sum + "  a\n" + sum + "  inference\n"
	check(both, "", "a", "inference")
	check(both, "", "--", "a", "inference")
	check(both, "", "a", "--", "inference")
	check(both, "", "-kind", "inference", "a", "inference")
	check(sum+"\n", "", "inference", "transcode")
	x := workload.Sum([]byte("x")).String()
	check(sum+"  a\n"+x+"  -\n", "x", "a", "-")
	check(x+"  -\n"+sum+"  a\n", "x", "-", "a")
}

// A stated size is a hint: what is hashed is what the file holds.
func TestFileThatStatesAnotherSize(t *testing.T) {
	const path = "/sys/kernel/mm/transparent_hugepage/enabled"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Skip(err)
	}
	if out, errs, status := execute(t, nil, path); out != workload.Sum(content).String()+"\n" || status != 0 {
		t.Errorf("%q, %q, status %d", out, errs, status)
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var n atomic.Int64
		stop := showProgress(&out, "short", &n, 100)
		time.Sleep(999 * time.Millisecond)
		stop()
		if out.Len() != 0 {
			t.Errorf("short work drew %q", out.String())
		}
		stop = showProgress(&out, "long", &n, 100)
		n.Store(50)
		time.Sleep(1100 * time.Millisecond)
		stop()
		if s := out.String(); !strings.Contains(s, "long [##########..........] 50%") || !strings.HasSuffix(s, "\r\x1b[K") {
			t.Errorf("long work drew %q", s)
		}
	})
	long := bar(strings.Repeat("x\x1b", 40), 1<<40, 1<<40, time.Hour)
	if len(long) > 79 || strings.Contains(long, "\x1b") || !strings.Contains(long, "100%") {
		t.Errorf("%d columns: %q", len(long), long)
	}
	if s := bar("-", 3<<30, -1, time.Second); s != "- 3.0 GiB, 3.00 GiB/s" {
		t.Errorf("a stream: %q", s)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if isTerminal(null) || isTerminal(io.Discard) {
		t.Error("the null device is no terminal")
	}
}
