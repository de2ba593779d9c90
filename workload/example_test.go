package workload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/computemarket/computemarket/workload"
)

func ExampleRunner() {
	runner, err := workload.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	slice := workload.Slice{
		ID:    "job-7/0",
		Kind:  workload.Transcode,
		Input: workload.Bytes([]byte("raw frames")),
	}
	output, err := runner.Run(context.Background(), slice)
	fmt.Println(output, err)

	// The same ID for other work is an error, never the earlier proof.
	slice.Input = workload.Bytes([]byte("other frames"))
	_, err = runner.Run(context.Background(), slice)
	fmt.Println(errors.Is(err, workload.ErrMismatch))
	// Output:
	// c56408219ab1f18932e13d4c82ee7e1e66b7aad8bee5e07af4c32446880518d4 <nil>
	// true
}

// A transcoder or a model server of one's own is a Job for a kind.
func ExampleJobFunc() {
	upper := workload.JobFunc(func(ctx context.Context, input io.Reader) (workload.Hash, error) {
		content, err := io.ReadAll(input)
		if err != nil {
			return workload.Hash{}, err
		}
		return workload.Sum(bytes.ToUpper(content)), nil
	})
	runner, err := workload.New(&workload.Options{
		Jobs: map[workload.Kind]workload.Job{"upper": upper},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	output, err := runner.Run(context.Background(), workload.Slice{
		ID:    "job-8/0",
		Kind:  "upper",
		Input: workload.Reader(strings.NewReader("from a stream")),
	})
	fmt.Println(output == workload.Sum([]byte("FROM A STREAM")), err)
	// Output: true <nil>
}

func ExampleSliceProof() {
	output := workload.Sum([]byte("raw frames"))
	proof := workload.SliceProof{Reference: output, Output: output, Payout: 5}
	fmt.Println(proof.Verify())

	proof.Output[0] ^= 1
	fmt.Println(errors.Is(proof.Verify(), workload.ErrProof))
	// Output:
	// <nil>
	// true
}

func ExampleHash() {
	h := workload.Sum(nil)
	fmt.Println(h)
	same, err := workload.ParseHash(h.String())
	fmt.Println(same == h, err)
	// Output:
	// af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262
	// true <nil>
}

// Who holds only the hash of a slice checks any range of it.
func ExampleVerifyRange() {
	content := []byte(strings.Repeat("all work and no play. ", 10_000))

	// The holder of the slice:
	input := workload.Bytes(content)
	outboard, hash, err := workload.NewOutboard(context.Background(), input)
	if err != nil {
		fmt.Println(err)
		return
	}
	var proof bytes.Buffer
	if err := workload.ProveRange(context.Background(), &proof, input, outboard, 110_000, 21); err != nil {
		fmt.Println(err)
		return
	}

	// The holder of the hash:
	var out bytes.Buffer
	size, err := workload.VerifyRange(context.Background(), &out, &proof, hash, 110_000, 21)
	fmt.Printf("%q of %d bytes, %v\n", out.String(), size, err)
	// Output: "all work and no play." of 220000 bytes, <nil>
}
