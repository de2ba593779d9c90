package match_test

import (
	"context"
	"fmt"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement/match"
)

func ExampleBook() {
	book, err := match.NewBook(nil)
	if err != nil {
		panic(err)
	}
	now := time.Now()
	for _, o := range []match.Order{
		{ID: "gpu-1", Account: "provider-1", Lane: admission.Consumer, Side: match.Ask, Units: 8, Price: 12},
		{ID: "gpu-2", Account: "provider-2", Lane: admission.Consumer, Side: match.Ask, Units: 4, Price: 10},
		{ID: "render", Account: "alice", Lane: admission.Consumer, Side: match.Bid, Units: 6, Price: 15},
	} {
		if _, err := book.Submit(o, now); err != nil {
			panic(err)
		}
	}
	for _, m := range book.Propose(nil, admission.Consumer, 100) {
		job, err := book.JobID(m)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s pays %s %d for %s\n", m.Buyer, m.Provider, m.Total(), job)
		// Here the receipt is written; once it is durable:
		if err := book.Commit(m); err != nil {
			panic(err)
		}
	}
	left, _ := book.Get("gpu-1")
	fmt.Println("gpu-1 has", left.Units, "units left")
	// Output:
	// alice pays provider-2 40 for render|gpu-2|0+4
	// alice pays provider-1 24 for render|gpu-1|4+2
	// gpu-1 has 6 units left
}

func ExampleLoop() {
	book, err := match.NewBook(nil)
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	loop, err := match.NewLoop(book, new(receipttest.Mem), &match.LoopOptions{
		Finalize: func(_ context.Context, m match.Match) error {
			return nil // here the work runs, and its proof is checked
		},
		OnFinal: func(m match.Match, r receipt.Receipt) {
			// A price board would record m.Price.
			fmt.Printf("%s owes %s %d credits, dry run %v\n", r.Buyer, r.Provider, r.QuotePrice, r.DryRun)
			stop()
		},
	})
	if err != nil {
		panic(err)
	}
	for _, o := range []match.Order{
		{ID: "render", Account: "alice", Lane: admission.Consumer, Side: match.Bid, Units: 6, Price: 15},
		{ID: "gpu-1", Account: "bob", Lane: admission.Consumer, Side: match.Ask, Units: 8, Price: 12},
	} {
		if _, err := book.Submit(o, time.Now()); err != nil {
			panic(err)
		}
	}
	if err := loop.Run(ctx); err != nil {
		panic(err)
	}
	// Output:
	// alice owes bob 72 credits, dry run true
}

// After a restart the book is empty. The callers have their orders, the log
// knows what was filled.
func ExampleResume() {
	ctx := context.Background()
	var log receipttest.Mem
	paid := match.Job{Bid: "render", Ask: "gpu-1", From: 0, Units: 2}
	_, err := log.Append(ctx, []receipt.Receipt{receipt.New(paid.String(), "alice", "bob", 24, time.Now())})
	if err != nil {
		panic(err)
	}

	orders, err := match.Resume(ctx, &log, 0, []match.Order{
		{ID: "render", Account: "alice", Lane: admission.Consumer, Side: match.Bid, Units: 6, Price: 15},
		{ID: "gpu-1", Account: "bob", Lane: admission.Consumer, Side: match.Ask, Units: 2, Price: 12},
	})
	if err != nil {
		panic(err)
	}
	for _, o := range orders {
		fmt.Println(o.ID, "still wants", o.Units, "units")
	}
	// Output:
	// render still wants 4 units
}
