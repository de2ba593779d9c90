package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creachadair/jrpc2"
)

// asNode makes the test binary be the node, so that tests can kill it.
const asNode = "COMPUTEMARKET_TEST_AS_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(asNode) != "" {
		main()
	}
	os.Exit(m.Run())
}

// newDir is a data dir whose node listens on a free port.
func newDir(t *testing.T, settings ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node-data")
	set := map[string]string{"listen": "127.0.0.1:0"}
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		set[key] = value
	}
	if _, err := initConfig(dir, set); err != nil {
		t.Fatal(err)
	}
	return dir
}

// running is a node, in this process or in one of its own.
type running struct {
	addr string
	stop func() error // in order

	// Of a process: a signal after which it is to end in order, and SIGKILL.
	signal func(os.Signal) error
	kill   func()
}

// startNode runs a node in this process until the test ends, or stop is called.
func startNode(t *testing.T, dir string) *running {
	t.Helper()
	cfg, err := readConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- runNode(ctx, dir, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), func(addr string) { ready <- addr })
	}()
	n := &running{}
	stopped := false
	n.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case n.addr = <-ready:
	case err := <-done:
		stopped = true
		t.Fatal(err)
	}
	return n
}

// command is the node's program as a process.
func command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append([]string{"--data-dir", dir}, args...)...)
	cmd.Env = append(os.Environ(), asNode+"=1")
	return cmd
}

func startProcess(t *testing.T, dir string) *running {
	t.Helper()
	cmd := command(dir, "run")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on http://")
	if !ok {
		cmd.Wait()
		t.Fatalf("the node says %q (%v)\n%s", line, err, &stderr)
	}
	n := &running{addr: addr}
	ended := false
	n.kill = func() {
		if !ended {
			ended = true
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	n.stop = func() error { return n.signal(os.Interrupt) }
	n.signal = func(s os.Signal) error {
		if ended {
			return nil
		}
		ended = true
		cmd.Process.Signal(s)
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%w\n%s", err, &stderr)
		}
		return nil
	}
	t.Cleanup(n.kill)
	return n
}

// do runs a command line and returns its standard output.
func do(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, errs, code := tryDo(t, dir, args...)
	if code != 0 {
		t.Fatalf("node %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

func tryDo(t *testing.T, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"--data-dir", dir}, args...), &out, &errs)
	return out.String(), errs.String(), code
}

// doJSON runs a command line with --json.
func doJSON[R any](t *testing.T, dir string, args ...string) (r R) {
	t.Helper()
	out := do(t, dir, append([]string{"--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return r
}

// post sends a body to a node's RPC and returns the answer.
func post(t *testing.T, addr, auth, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/rpc", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if auth != "" {
		req.Header.Set("Authorization", "Bearer "+auth)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// rpc calls a method over HTTP.
func rpc(ctx context.Context, addr, auth, method string, params, result any) error {
	call, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+addr+"/rpc", bytes.NewReader(call))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if auth != "" {
		req.Header.Set("Authorization", "Bearer "+auth)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Result json.RawMessage
		Error  *jrpc2.Error
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	return json.Unmarshal(answer.Result, result)
}

func tokenOf(t *testing.T, dir string) string {
	t.Helper()
	tok, err := readToken(filepath.Join(dir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	return string(tok)
}

// eventually waits for what another goroutine or process brings about.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

const sample = "../workloads/transcode.slice"

// sampleProof is the hash that the samples' own list promises.
func sampleProof(t *testing.T) string {
	t.Helper()
	sums, err := os.ReadFile("../workloads/B3SUMS")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sums)) {
		if hash, name, _ := strings.Cut(strings.TrimSpace(line), "  "); name == "transcode.slice" {
			return hash
		}
	}
	t.Fatal("no sum of the sample")
	return ""
}
