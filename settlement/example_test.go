package settlement_test

import (
	"context"
	"fmt"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

// A market in memory: alice has 300 credits and owes 250 and 100.
func Example() {
	ctx := context.Background()
	var (
		receipts receipttest.Mem
		ledger   settlementtest.Ledger
		state    settlementtest.Store
	)
	ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: settlement.ID{1}, From: ledger.Issuer(), To: "alice", Amount: 300}})
	receipts.Append(ctx, []receipt.Receipt{
		receipt.New("job-1", "alice", "bob", 250, issued),
		receipt.New("job-2", "alice", "bob", 100, issued),
	})
	engine, err := settlement.Open(ctx, &receipts, &ledger, &state, &settlement.Options{Start: settlement.After(0)})
	if err != nil {
		panic(err)
	}
	if err := engine.Lead(ctx); err != nil {
		panic(err)
	}
	pass, err := engine.Settle(ctx)
	fmt.Printf("%+v %v\n", pass, err)
	status, _ := engine.Status(ctx, "alice", "bob")
	fmt.Println(status.Mode, status.Balances)
	fmt.Println(status.Reason)
	for failure := range engine.Failures(ctx) {
		fmt.Println(failure.Receipt.JobID, failure.Reason)
	}
	// Output:
	// {Applied:1 Duplicate:0 Failed:1} <nil>
	// dry_run [{alice 50} {bob 250}]
	// receipt 55ec5bf2deb0fff6390befcf6df1df04fe55516bbd72075b7e5e874fd659a35f: insufficient_funds
	// job-2 insufficient_funds
}
