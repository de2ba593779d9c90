package priceboard_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/computemarket/computemarket/priceboard"
)

func ExampleBoard() {
	board, err := priceboard.New(&priceboard.Options{Window: 5})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, price := range []uint64{9, 1, 2, 3, 4, 5} { // 9 leaves when 5 comes
		board.Record(price)
	}
	bands, ok := board.Bands()
	fmt.Printf("%+v %v\n", bands, ok)

	p90, err := board.Quantile(0.9)
	fmt.Println(p90, err)

	bid, ok := board.BacklogAdjustedBid(2) // two jobs wait: 3 × (1 + 2/5), rounded up
	fmt.Println(bid, ok)
	// Output:
	// {P25:2 Median:3 P75:4 N:5} true
	// 5 <nil>
	// 5 true
}

func ExampleBoard_RecordOffer() {
	board, err := priceboard.New(&priceboard.Options{MinSamples: 3, MaxPerParty: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 50 {
		board.RecordOffer(priceboard.Offer{Price: 1000, Party: "loud"})
	}
	bands, ok := board.Bands()
	fmt.Printf("%+v %v\n", bands, ok)

	board.RecordOffer(priceboard.Offer{Price: 10, Party: "a"})
	board.RecordOffer(priceboard.Offer{Price: 11, Party: "b"})
	board.RecordOffer(priceboard.Offer{Price: 12, Party: "c"})
	bid, _ := board.BacklogAdjustedBid(0)
	board.RecordOffer(priceboard.Offer{Price: bid, Party: "us", Derived: true}) // left out
	bands, ok = board.Bands()
	fmt.Printf("%+v %v\n", bands, ok)
	// Output:
	// {P25:0 Median:0 P75:0 N:2} false
	// {P25:11 Median:12 P75:1000 N:5} true
}

// A board that outlives its process: load, save at intervals, save at the end.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "price_board.v1.bin")

	for range 2 { // two lives of a node
		board, err := priceboard.Open(context.Background(), priceboard.File(file, nil),
			&priceboard.Options{SaveInterval: 10 * time.Second})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(board.LoadResult().Outcome, board.LoadResult().Prices)

		ctx, stop := context.WithCancel(context.Background())
		saved := make(chan error)
		go func() { saved <- board.Run(ctx) }()
		board.Record(7)
		stop()
		fmt.Println(<-saved, board.Close())
	}
	// Output:
	// fresh 0
	// <nil> <nil>
	// restored 1
	// <nil> <nil>
}
