package main

import (
	"flag"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// sweep makes TestMemory feed 4 GiB instead of 512 MiB.
var sweep = flag.Bool("sweep", false, "feed 4 GiB through standard input")

// The test binary is the command too, when it is started with this set.
const asCommand = "RUN_WORKLOAD_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func self(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

// However long standard input is, the process stays under 64 MiB.
func TestMemory(t *testing.T) {
	size := int64(512 << 20)
	if testing.Short() {
		size = 64 << 20
	}
	if *sweep {
		size = 4 << 30
	}
	cmd := self(t, "-")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 64<<10)
	for left := size; left > 0; left -= int64(len(zeros)) {
		if _, err := in.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	in.Close()
	if err := cmd.Wait(); err != nil || len(out.String()) != 65 {
		t.Fatalf("%q, %v", out.String(), err)
	}
	peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	t.Logf("%d MiB fed, peak memory %d MiB", size>>20, peak>>20)
	if peak >= 64<<20 && !raceEnabled {
		t.Errorf("peak memory %d MiB, want under 64", peak>>20)
	}
}

// What a shell sees: the exit status, one line, no stack trace.
func TestProcess(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
	}{{[]string{samples + "transcode.slice"}, 0}, {[]string{"missing.slice"}, 1}, {nil, 2}} {
		cmd := self(t, c.args...)
		var out, errs strings.Builder
		cmd.Stdin, cmd.Stdout, cmd.Stderr = io.Reader(nil), &out, &errs
		cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != c.status {
			t.Errorf("%q: status %d, want %d", c.args, got, c.status)
		}
		if lines := strings.Count(errs.String(), "\n"); lines != min(1, c.status) || (out.Len() == 65) != (c.status == 0) {
			t.Errorf("%q: stdout %q, stderr %q", c.args, out.String(), errs.String())
		}
	}
}
