// Command run_workload runs job slices and prints their proof hashes.
//
//	run_workload [-kind KIND] [-json] FILE...
//
// FILE may be - for standard input. Of one file the hash is printed alone, of
// several each with its name, in the form that b3sum prints and checks. The kind
// is transcode or inference, and transcode if none is named. The last of several
// arguments may name it too, unless it follows -- or a file is called so. Exit
// status: 0, 1 if a slice could not be run, 2 for a wrong command line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/computemarket/computemarket/workload"
)

const usage = `usage: run_workload [-kind KIND] [-json] FILE...
  FILE         a slice, or - for standard input
  -kind KIND   transcode or inference (default transcode)
  -json        print {"file", "kind", "bytes", "hash"} for each file, one to a line
`

var kinds = []workload.Kind{workload.Transcode, workload.Inference}

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	os.Exit(report(os.Stderr, err))
}

// report prints a line for each error, and gives the exit status.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	status, lines := 1, []error{err}
	if errors.Is(err, errUsage) {
		status = 2
	} else if files, ok := err.(interface{ Unwrap() []error }); ok {
		lines = files.Unwrap()
	}
	for _, line := range lines {
		fmt.Fprintln(stderr, "run_workload:", line)
	}
	return status
}

var errUsage = errors.New("run_workload -h shows the usage")

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	c, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		_, err = io.WriteString(stdout, usage)
		return err
	}
	if err != nil {
		return err
	}
	// Nothing is run twice here, so nothing need be remembered.
	runner, err := workload.New(&workload.Options{CacheEntries: -1})
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range c.files {
		res, err := runFile(ctx, runner, c.kind, name, stdin, stderr)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if err := c.print(stdout, res); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// command is a command line, understood.
type command struct {
	files []string
	kind  workload.Kind
	json  bool
}

// parse takes flags anywhere before "--".
func parse(args []string) (command, error) {
	c := command{kind: workload.Transcode}
	flags := flag.NewFlagSet("run_workload", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&c.json, "json", false, "")
	kind := flags.String("kind", "", "")
	var rest []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, rest = args[:i], args[i+1:]
	}
	for {
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return c, err
			}
			return c, fmt.Errorf("%w (%w)", err, errUsage)
		}
		if flags.NArg() == 0 {
			break
		}
		c.files = append(c.files, flags.Arg(0))
		args = flags.Args()[1:]
	}
	if n := len(c.files); *kind == "" && len(rest) == 0 && n > 1 && namesKind(c.files[n-1]) {
		*kind, c.files = c.files[n-1], c.files[:n-1]
	}
	c.files = append(c.files, rest...)
	if *kind != "" {
		c.kind = workload.Kind(*kind)
	}
	switch {
	case !slices.Contains(kinds, c.kind):
		return c, fmt.Errorf("unknown kind %q: the kinds are %q (%w)", c.kind, kinds, errUsage)
	case len(c.files) == 0:
		return c, fmt.Errorf("no file (%w)", errUsage)
	}
	return c, nil
}

// namesKind reports whether a last argument can only be meant as a kind. A shell's
// * gives names too, and a file is never taken for anything else.
func namesKind(arg string) bool {
	if !slices.Contains(kinds, workload.Kind(arg)) {
		return false
	}
	_, err := os.Lstat(arg)
	return errors.Is(err, fs.ErrNotExist)
}

type result struct {
	File  string        `json:"file"`
	Kind  workload.Kind `json:"kind"`
	Bytes int64         `json:"bytes"`
	Hash  workload.Hash `json:"hash"`
}

func runFile(ctx context.Context, runner *workload.Runner, kind workload.Kind, name string, stdin io.Reader, stderr io.Writer) (result, error) {
	read := &counter{Reader: stdin}
	in := workload.Reader(read)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return result{}, err
		}
		defer f.Close()
		file, err := workload.File(f)
		if err != nil {
			return result{}, err
		}
		read.Reader, read.ReaderAt = f, f
		if file.Size() >= 0 {
			in = workload.ReaderAt(read, file.Size())
		}
	}
	if isTerminal(stderr) {
		stop := showProgress(stderr, name, &read.n, in.Size())
		defer stop()
	}
	hash, err := runner.Run(ctx, workload.Slice{ID: "slice", Kind: kind, Input: in})
	if err != nil {
		return result{}, fmt.Errorf("%s: %w", name, err)
	}
	return result{name, kind, read.n.Load(), hash}, nil
}

func (c *command) print(stdout io.Writer, res result) error {
	if c.json {
		return json.NewEncoder(stdout).Encode(res)
	}
	if len(c.files) == 1 {
		_, err := fmt.Fprintln(stdout, res.Hash)
		return err
	}
	_, err := fmt.Fprintln(stdout, listed(res))
	return err
}
