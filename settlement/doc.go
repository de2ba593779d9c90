// Package settlement moves credits for receipts, each exactly once.
//
// An [Engine] reads the log of receipts from a durable cursor and posts what is
// owed to a [Ledger]. Exactly once comes from the ledger, which applies a
// transfer with the same ID never twice, and the ID is the receipt's key: a
// crash, a repeated pass or a lost cursor cost repeated work, not credits.
//
//	engine, err := settlement.Open(ctx, receipts, ledger, store, nil)
//	if err != nil {
//		return err
//	}
//	go engine.Run(ctx)
//	err = engine.Arm(ctx, settlement.After(24*time.Hour))
//
// # Modes
//
// In [DryRun], where an engine starts, nothing moves. [Armed] is like DryRun
// until its delay has passed; then the engine is [Real] and settles every
// receipt that is owed. A receipt is owed unless it is marked as a dry run.
// When one cannot be settled, for want of funds above all, it is put into an
// archive and the engine goes back to DryRun, or, with [Quarantine], goes on
// with the others. [Engine.Retry] settles what is in the archive.
//
// settlementpebble has the ledger of credits and the engine's state on disk.
// settlementtest has both in memory, and the suites that your own ledger, on a
// chain or in a database, should pass.
package settlement
