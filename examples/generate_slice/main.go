// Command generate_slice makes a job slice of a file and prints its hash.
//
//	generate_slice INPUT OUTPUT
//
// A slice is the raw content of INPUT, which may be - for standard input. OUTPUT
// must not exist: nothing is ever overwritten. If anything fails, OUTPUT is not
// there. Exit status: 0, 1 if the slice could not be written, 2 for a wrong
// command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/computemarket/computemarket/workload"
)

var errUsage = errors.New("usage: generate_slice INPUT OUTPUT (INPUT may be -)")

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "generate_slice:", err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
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
	hash, err := generate(ctx, in, args[1])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, hash)
	return err
}

// generate writes what it reads to a new file, and returns the hash of just that.
func generate(ctx context.Context, in io.Reader, path string) (hash workload.Hash, err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return hash, err
	}
	defer func() {
		err = errors.Join(err, out.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	hash, err = workload.SumInput(ctx, workload.Reader(io.TeeReader(in, out)))
	if err != nil {
		return hash, err
	}
	return hash, out.Sync()
}
