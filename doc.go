// Package computemarket is the overview of an embeddable library for a compute
// market; it holds no code.
//
// Buyers bid for work on job slices, providers ask a price, a match makes a
// receipt, the receipt moves credits exactly once, and a proof hash shows that
// the work was done. A node imports the packages it needs and composes them.
//
// # Packages
//
//	workload           run slices, proof hashes
//	admission          lanes, capacity, fee comfort, fair share
//	priceboard         sliding window, quantile bands, persistence
//	receipt            receipts, their keys, the append-only log
//	settlement         engine, ledger, modes: credits move exactly once
//	settlement/match   order book and match loop
//	courier            store and forward bundles, earn for it
//
// A core package imports neither a database nor a metrics system. Stores and
// collectors are subpackages named after what they stand on, such as
// priceboard/priceboardprom.
//
// # Flow
//
// Data goes one way, and imports follow it:
//
//	slices ─▶ workload.Runner ─▶ proof
//	orders ─▶ match.Book ─▶ matches ─▶ prices ─▶ priceboard.Board
//
// # Composition
//
// There is no global state and no init side effect, and no goroutine runs that
// the caller did not start. Constructors take what they need and an Options
// struct, which may be nil. What a provider does with one slice:
//
//	runner, err := workload.New(nil)
//	if err != nil {
//		return err
//	}
//	output, err := runner.Run(ctx, workload.Slice{
//		ID:    "job-7/0",
//		Kind:  workload.Transcode,
//		Input: workload.Bytes(content),
//	})
//	if err != nil {
//		return err
//	}
//	proof := workload.SliceProof{Reference: reference, Output: output, Payout: price}
//	return proof.Verify()
//
// The example below is the same as a program; examples/run_workload runs slices
// from files.
package computemarket
