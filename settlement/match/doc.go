// Package match brings bids and asks together and turns their matches into
// receipts.
//
// A [Book] holds the orders of both lanes in price-time priority. A [Loop]
// proposes matches, has their work run and verified, appends the receipts to
// the log, and only when those are durable takes the orders out of the book.
// A [Job] is what a receipt's job id says about its match.
//
// After a restart the book is empty, and whoever sent orders sends them again.
// Keep each [Order] as it was submitted, or as [Book.Replace] returned it last,
// until it is cancelled, OnExpired or OnFailed says that it is over, or Resume
// leaves it out. Then, before the loop runs: give what is kept to [Resume], which
// asks the log what was filled, and submit what it returns.
//
// A unit is whatever the market trades: the package only counts. Prices are
// integers, for one unit. A match trades at the ask's price, never above the
// bid's, and its receipt asks for units times price.
package match
