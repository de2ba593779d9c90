// Package settlementsql keeps the ledger of credits and the engine's state in an
// SQL database: PostgreSQL, or an engine that speaks its dialect. The caller
// brings the driver and the pool:
//
//	if err := settlementsql.Migrate(ctx, db); err != nil {
//		return err
//	}
//	store, err := settlementsql.NewStore(ctx, db, nil)
//	if err != nil {
//		return err
//	}
//	ledger, err := settlementsql.NewLedger(ctx, db, &settlementsql.LedgerOptions{Fence: store})
//	if err != nil {
//		return err
//	}
//	engine, err := settlement.Open(ctx, receipts, ledger, store, nil)
//
// # Several nodes
//
// All nodes run the same lines. One engine holds the lease and settles; in the
// others Open waits in [Store.Acquire] until the lease has run out by the
// database's clock, or was given up with [Store.Release]. Each lease has an
// epoch, which every write carries: an engine that was paused and wakes up late
// is told settlement.ErrFenced, and so is its ledger, if LedgerOptions.Fence
// names the store.
//
// # Tables
//
//	ledger_accounts      balances; the one of the issuer is what is outstanding
//	ledger_transfers     every transfer that was applied, for ever
//	ledger               one row with the issuer's name
//	settlement_state     one row: mode, cursor, epoch, who holds the lease
//	settlement_failures  the archive
//
// In a text column the characters U+0000 and U+0001, of which PostgreSQL takes
// only the second, stand as U+0001 U+0001 and U+0001 U+0002.
package settlementsql
