// Package priceboard keeps the most recent offer prices of a market and tells
// the bands they lie in: the quartiles over a sliding window, exact at any
// window size.
//
// A [Board] is a window of prices (100 by default). [Board.Record] adds one, and
// the oldest leaves when the window is full. [Board.Bands] gives the 25th
// percentile, the median and the 75th percentile: it takes no lock, allocates
// nothing and never waits for a writer, so every part of a node can ask at every
// step. The price at quantile q of n sorted prices is the one at index
// floor(n·q).
//
// # Bids that follow from bands
//
// [Board.BacklogAdjustedBid] raises the median by the work that waits. A bid
// made from the board says nothing new about the market, and recording it would
// let the median lift itself: pass it to [Board.RecordOffer] with
// [Offer.Derived] set, and it is left out. [Options.MinSamples] and
// [Options.MaxPerParty] keep a few prices, or one busy participant, from making
// the bands alone.
//
// # Across restarts
//
// [New] makes a board that lives in memory. [Open] makes one that starts from
// what a [Store] has saved; [File] is the usual store and [Board.Run] saves to it
// at an interval. Bands are an aid to bidding, not a ledger: a damaged file is
// kept aside and reported by [Board.LoadResult], and the board starts empty
// rather than not at all. A file of a newer version is left alone: [ErrSchema].
//
// Store and Logger are the caller's code. If one panics, or ends its goroutine,
// the call of the board that needed it returns an error that says so.
//
// Collectors for Prometheus are in priceboardprom; a store of your own runs the
// suite in priceboardtest.
package priceboard
