// Package match brings bids and asks together.
//
// A [Book] holds the orders of both lanes in price-time priority. A [Job] is
// what a receipt's job id says about a match.
//
// A unit is whatever the market trades: the package only counts. Prices are
// integers, for one unit. A match trades at the ask's price, never above the
// bid's, and its receipt asks for units times price.
package match
