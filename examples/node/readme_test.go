package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/computemarket/computemarket/internal/postgrestest"
)

// The walks in the README do what they say: each command is run by a shell, and
// prints what stands below it, but for the ports and the time of day.
func TestReadmeWalk(t *testing.T) {
	walk(t, "## Five minutes with two nodes", 20)
}

func TestReadmeDatabase(t *testing.T) {
	walk(t, "## Two nodes on one database", 10,
		"postgres://market@127.0.0.1:5432/market", postgrestest.Start(t).URL(""))
}

// walk does the section under a heading, of at least so many steps, with old
// strings replaced by new ones.
func walk(t *testing.T, heading string, atLeast int, oldnew ...string) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), heading+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asNode, "1")
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(root, "examples"), filepath.Join(dir, "examples")); err != nil {
		t.Fatal(err)
	}
	portA, portB := freePort(t), freePort(t)
	here := strings.NewReplacer(append(oldnew, "7788", portA, "7789", portB)...)
	there := strings.NewReplacer(portA, "7788", portB, "7789")
	clock := regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

	var jobs []*exec.Cmd
	t.Cleanup(func() {
		for _, j := range jobs {
			j.Process.Kill()
		}
	})
	steps := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(text, -1) {
		for _, step := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			steps++
			line, want, _ := strings.Cut(step, "\n")
			want = strings.TrimSpace(clock.ReplaceAllString(want, "TIME"))
			got := ""
			cmd := exec.CommandContext(t.Context(), "sh", "-c", here.Replace(line))
			cmd.Dir = dir
			switch {
			case strings.HasPrefix(line, "go build"): // .ci/run does; here it is the test's binary
				if err := os.Symlink(self, filepath.Join(dir, "node")); err != nil {
					t.Fatal(err)
				}
			case strings.HasSuffix(line, " &"):
				cmd = exec.CommandContext(t.Context(), "sh", "-c", "exec "+here.Replace(strings.TrimSuffix(line, " &")))
				cmd.Dir = dir
				stdout, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				jobs = append(jobs, cmd)
				if got, err = bufio.NewReader(stdout).ReadString('\n'); err != nil && err != io.EOF {
					t.Fatal(err)
				}
			case line == "kill -9 %1":
				jobs[0].Process.Kill()
				jobs[0].Wait()
				jobs = jobs[1:]
			case strings.HasPrefix(line, "kill "):
				for _, j := range jobs {
					j.Process.Signal(os.Interrupt)
					if err := j.Wait(); err != nil {
						t.Errorf("%v: %v", j.Args, err)
					}
				}
				jobs = nil
			default:
				out, err := cmd.CombinedOutput()
				if _, exited := err.(*exec.ExitError); err != nil && !exited {
					t.Fatal(err)
				}
				got = string(out)
			}
			got = strings.TrimSpace(clock.ReplaceAllString(there.Replace(got), "TIME"))
			if got != want {
				t.Fatalf("$ %s\n%s\n\nthe README has\n%s", line, got, want)
			}
		}
	}
	if steps < atLeast {
		t.Errorf("only %d commands found", steps)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("the walk leaves %v, %v", left, err)
	}
}

// freePort is a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
