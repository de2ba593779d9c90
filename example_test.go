package computemarket_test

import (
	"context"
	"fmt"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/priceboard"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/settlement/settlementtest"
	"github.com/computemarket/computemarket/workload"
)

// A provider runs a slice, and its output earns the payout if it is what the
// buyer expects.
func Example_slice() {
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

// A bid meets an ask, the work is run and verified, the receipt is recorded and
// settled, and the price shows on the board. All of it is in memory; the
// packages ending in pebble and sql have the same on disk.
func Example_market() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var (
		receipts receipttest.Mem
		ledger   settlementtest.Ledger
		state    settlementtest.Store
	)
	engine, err := settlement.Open(ctx, &receipts, &ledger, &state, &settlement.Options{Start: settlement.After(0)})
	check(err)
	check(engine.Lead(ctx)) // real from now on
	_, err = ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: settlement.ID{1}, From: ledger.Issuer(), To: "alice", Amount: 100}})
	check(err)

	runner, err := workload.New(nil)
	check(err)
	board, err := priceboard.New(nil)
	check(err)
	book, err := match.NewBook(nil)
	check(err)
	content := []byte("raw frames")
	loop, err := match.NewLoop(book, &receipts, &match.LoopOptions{
		Engine: engine,
		Finalize: func(ctx context.Context, m match.Match) error {
			output, err := runner.Run(ctx, workload.Slice{ID: m.Bid, Kind: workload.Transcode, Input: workload.Bytes(content)})
			if err != nil {
				return err
			}
			return workload.SliceProof{Reference: workload.Sum(content), Output: output, Payout: m.Total()}.Verify()
		},
		OnFinal: func(m match.Match, _ receipt.Receipt) {
			board.Record(m.Price)
			stop()
		},
	})
	check(err)
	now := time.Now()
	_, err = book.Submit(match.Order{ID: "gpu", Account: "bob", Lane: admission.Consumer, Side: match.Ask, Units: 4, Price: 12}, now)
	check(err)
	_, err = book.Submit(match.Order{ID: "render", Account: "alice", Lane: admission.Consumer, Side: match.Bid, Units: 2, Price: 15}, now)
	check(err)
	check(loop.Run(ctx)) // until stop

	ctx = context.Background()
	pass, err := engine.Settle(ctx)
	check(err)
	status, err := engine.Status(ctx, "alice", "bob")
	check(err)
	bands, _ := board.Bands()
	fmt.Println("settled", pass.Applied, "receipt; balances", status.Balances, "; median price", bands.Median)
	// Output:
	// settled 1 receipt; balances [{alice 76} {bob 24}] ; median price 12
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
