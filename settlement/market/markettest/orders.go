package markettest

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement/market"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

var day = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

// job returns a new order of a buyer, of one slice for each content.
func job(seq uint64, contents ...string) market.NewOrder {
	n := market.NewOrder{Order: market.Order{
		Seq: seq, ID: fmt.Sprintf("job-%d", seq), Account: "alice",
		Side: match.Bid, Class: "transcode", Lane: admission.Consumer,
		Units: uint64(len(contents)), Price: 30, Expires: day.Add(time.Hour), Kind: workload.Transcode,
		Asked: [32]byte{byte(seq)}, At: day,
		Progress: market.Progress{State: market.Open},
	}}
	for _, c := range contents {
		n.Slices = append(n.Slices, market.Slice{
			Content: workload.Sum([]byte(c)), Size: int64(len(c)), Inline: true, Reference: workload.Sum([]byte(c + "!")),
		})
		n.Inline = append(n.Inline, []byte(c))
	}
	return n
}

// offer returns a new order of a provider.
func offer(seq uint64) market.NewOrder {
	return market.NewOrder{Order: market.Order{
		Seq: seq, ID: fmt.Sprintf("offer-%d", seq), Account: "bob",
		Side: match.Ask, Class: "transcode", Lane: admission.Industrial,
		Units: 100, Price: 20, Asked: [32]byte{byte(seq), 1}, At: day,
		Progress: market.Progress{State: market.Open},
	}}
}

// largest is an order in which every field is as large as it may be.
func largest() market.NewOrder {
	long := func(unit string, n int) string { return strings.Repeat(unit, n/len(unit)) }
	n := market.NewOrder{Order: market.Order{
		Seq: math.MaxInt64, ID: "\x00\x01';--" + long("ü", market.MaxID-6), Account: long("💶", match.MaxAccount),
		Side: match.Bid, Class: long("\x01\x00", market.MaxClass), Lane: admission.Industrial,
		Units: 2, Price: math.MaxUint64 / 2,
		Expires: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
		Kind:    workload.Kind(long("k", 256)), At: time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
		Progress: market.Progress{State: market.Open},
	}}
	for i := range n.Asked {
		n.Asked[i] = 0xff
	}
	data := make([]byte, market.MaxInline)
	n.Slices = []market.Slice{
		{Content: workload.Sum(data), Size: market.MaxInline, Inline: true, Reference: workload.Hash{1}},
		{Content: workload.Hash{0xff}, Size: math.MaxInt64},
	}
	n.Inline = [][]byte{data, nil}
	return n
}

// after returns the order as it is when u is written.
func after(o market.Order, u market.Update) market.Order {
	o.Progress = u.Progress
	return o
}

func receiptFor(o market.Order, slice int) receipt.Receipt {
	return receipt.New(fmt.Sprintf("%s/%d|offer|0+1", o.ID, slice), o.Account, "bob", o.Price, day)
}
