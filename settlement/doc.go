// Package settlement moves credits for receipts, each exactly once.
//
// An [Engine] reads the log of receipts from a durable cursor and posts what is
// owed to a [Ledger]. Exactly once comes from the ledger, which applies a
// transfer with the same ID never twice, and the ID is the receipt's key: a
// crash, a repeated pass or a lost cursor cost repeated work, not credits.
//
//	engine, err := settlement.Open(ctx, receipts, ledger, store, &settlement.Options{
//		Start: settlement.After(24 * time.Hour), // of the first start ever
//	})
//	if err != nil {
//		return err
//	}
//	return engine.Run(ctx)
//
// # One engine leads
//
// An engine that was opened is on standby: it has read the state, and calls that
// write answer [ErrStandby]. [Engine.Run] takes the lead with a [Lease] of the
// store and settles; where several nodes share a store, the others stand by in
// Run until the leader is gone. A program that only wants to change something, a
// command line for example, calls [Engine.Lead], and [Engine.Resign] at its end.
// The lease goes with every write to the store and to the ledger, so an engine
// that was paused, and wakes up when another has taken over, moves nothing.
//
// # Modes
//
// In [DryRun], where an engine starts, nothing moves. [Armed] is like DryRun
// until its delay has passed; then the engine is [Real] and settles every
// receipt that is owed. A receipt is owed unless it is marked as a dry run, as
// those are that were made before the engine was Real: they are never paid, unless
// the same receipt comes again for real.
// When one cannot be settled, for want of funds above all, it is put into an
// archive and the engine goes back to DryRun, or, with [Quarantine], goes on
// with the others. [Engine.Retry] settles what is in the archive.
//
// settlementpebble has the ledger of credits and the engine's state on disk.
// settlementtest has both in memory, and the suites that your own ledger, on a
// chain or in a database, should pass.
package settlement
