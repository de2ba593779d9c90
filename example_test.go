package computemarket_test

import (
	"context"
	"fmt"

	"github.com/computemarket/computemarket/workload"
)

// A provider runs a slice, and its output earns the payout if it is what the
// buyer expects.
func Example() {
	runner, err := workload.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	content := []byte("raw frames")
	output, err := runner.Run(context.Background(), workload.Slice{
		ID:    "job-7/0",
		Kind:  workload.Transcode,
		Input: workload.Bytes(content),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	proof := workload.SliceProof{Reference: workload.Sum(content), Output: output, Payout: 5}
	fmt.Println(output)
	fmt.Println("verified:", proof.Verify() == nil)
	// Output:
	// c56408219ab1f18932e13d4c82ee7e1e66b7aad8bee5e07af4c32446880518d4
	// verified: true
}
