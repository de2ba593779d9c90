// Package computemarket is the overview of an embeddable library for a compute
// market; it holds no code.
//
// Buyers bid for work on job slices, providers ask a price, a match makes a
// receipt, the receipt moves credits exactly once, and a proof hash shows that
// the work was done.
//
// There is no global state and no init side effect, and no goroutine runs that
// the caller did not start. Every concern is a package with narrow interfaces,
// and the caller composes them.
package computemarket
