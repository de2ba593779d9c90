// Package match brings bids and asks together and turns their matches into
// receipts.
//
// A [Book] holds the orders of both lanes in price-time priority. A [Loop]
// proposes matches, has their work run and verified, appends the receipts to
// the log, and only when those are durable takes the orders out of the book.
// After a restart, [Resume] takes off from the callers' orders what the log says
// was filled. A [Job] is what a receipt's job id says about its match.
//
// A unit is whatever the market trades: the package only counts. Prices are
// integers, for one unit. A match trades at the ask's price, never above the
// bid's, and its receipt asks for units times price.
package match
