//go:build unix

package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// build makes the command as a user has it.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "generate_slice")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func empty(t *testing.T, what, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("%s: left behind: %v, %v", what, left, err)
	}
}

// A signal ends the process at once, even while its input gives nothing, and
// leaves nothing of the output.
func TestSignals(t *testing.T) {
	command := build(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if signal.Ignored(sig) { // as under nohup: the command inherits that, and keeps to it
			t.Logf("%v is ignored here", sig)
			continue
		}
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), command, "-", filepath.Join(dir, "new"))
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// More than the pipe holds: when it is written, the work is under way.
		if _, err := stdin.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if status := cmd.ProcessState.ExitCode(); status != 1 || out.Len() > 0 || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%v: status %d, %q, %q", sig, status, out.String(), errs.String())
		}
		empty(t, sig.String(), dir)
	}
}

// Nor does it leave anything while it is held up printing, when stdout is full, or
// when its reader has gone.
func TestStdoutThatFails(t *testing.T) {
	command := build(t)
	start := func(dir string, stdout *os.File) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), command, "-", filepath.Join(dir, "new"))
		cmd.Stdin, cmd.Stdout = strings.NewReader("content"), stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	dir := t.TempDir()
	cmd := start(dir, w)
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 1 {
		t.Errorf("reader gone: status %d, want 1", status)
	}
	empty(t, "reader gone", dir)
	w.Close()

	if full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil {
		dir := t.TempDir()
		cmd := start(dir, full)
		cmd.Wait()
		if status := cmd.ProcessState.ExitCode(); status != 1 {
			t.Errorf("full: status %d, want 1", status)
		}
		empty(t, "full", dir)
		full.Close()
	}

	if r, w, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// Until the pipe holds no more.
	if err := w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Skip(err)
	}
	for err == nil {
		_, err = w.Write(make([]byte, 4096))
	}
	dir = t.TempDir()
	cmd = start(dir, w)
	for { // it is printing once the slice is there
		if _, err := os.Lstat(filepath.Join(dir, "new")); err == nil {
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	empty(t, "held up", dir)
	w.Close()
}

// What is there is whole, and its mode that of any new file.
func TestProcess(t *testing.T) {
	command, dir := build(t), t.TempDir()
	path := filepath.Join(dir, "new")
	cmd := exec.CommandContext(t.Context(), command, "-", path)
	cmd.Stdin = strings.NewReader("content")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if got, err := os.ReadFile(path); err != nil || string(got) != "content" {
		t.Errorf("when the hash is printed the slice is %q, %v", got, err)
	}
	io.Copy(io.Discard, out)
	if status := cmd.Wait(); status != nil || err != nil || len(line) != 65 {
		t.Errorf("%q, %v, %v", line, err, status)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(other)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.Stat(path); err != nil || got.Mode() != want.Mode() {
		t.Errorf("mode %v, want %v", got.Mode(), want.Mode())
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
