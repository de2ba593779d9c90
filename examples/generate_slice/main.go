// Command generate_slice makes a job slice of a file and prints its hash.
//
//	generate_slice INPUT OUTPUT
//
// A slice is the raw content of INPUT, which may be - for standard input. OUTPUT
// must not exist: nothing is ever overwritten. OUTPUT appears whole and durable,
// before its hash is printed. If anything fails, the printing too, or SIGINT,
// SIGTERM or SIGHUP comes, OUTPUT is not there; a process that is killed outright
// can leave a file .slice-… beside it. Exit status: 0, 1 if the slice could not be
// made, 2 for a wrong command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/computemarket/computemarket/workload"
)

var errUsage = errors.New("usage: generate_slice INPUT OUTPUT (INPUT may be -)")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), signals()...)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // a reader of stdout that has gone is a failed write, not our end
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "generate_slice:", err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

// signals are those that end the work, without what whoever started us has us
// ignore, as nohup does.
func signals() []os.Signal {
	heard := []os.Signal{syscall.SIGTERM}
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			heard = append(heard, s)
		}
	}
	return heard
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		_, err := fmt.Fprintln(stdout, errUsage)
		return err
	}
	if len(args) != 2 {
		return errUsage
	}
	in := stdin
	if args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := workload.File(f); err != nil { // a directory
			return err
		}
		in = f
	}
	out, err := create(args[1])
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- generate(ctx, in, out, stdout) }()
	select {
	case err = <-done:
	case <-ctx.Done(): // the goroutine may be held up by a pipe, and the process end before it
		err = context.Cause(ctx)
	}
	if err != nil && out.abandon() {
		return err
	}
	return nil
}

// generate writes what it reads to out, and prints the hash of just that.
func generate(ctx context.Context, in io.Reader, out *output, stdout io.Writer) error {
	hash, err := workload.SumInput(ctx, workload.Reader(io.TeeReader(in, out.file)))
	if err != nil {
		return err
	}
	if err := out.publish(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, hash); err != nil {
		return err
	}
	return out.keep()
}
