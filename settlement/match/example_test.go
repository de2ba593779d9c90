package match_test

import (
	"fmt"
	"time"

	"github.com/computemarket/computemarket/admission"
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
