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
//	ledger, err := settlementsql.NewLedger(ctx, db, nil)
//	if err != nil {
//		return err
//	}
//	engine, err := settlement.Open(ctx, receipts, ledger, store, nil)
//	if err != nil {
//		return err
//	}
//	return engine.Run(ctx)
//
// # Several nodes
//
// All nodes run the same lines. One engine holds the lease and settles; the
// others stand by in [settlement.Engine.Run] until the lease has run out, or was
// given up. The engine shows its lease with every write, in the state and in the
// ledger: one that was paused and wakes up late hears settlement.ErrFenced, has
// moved nothing, and stands by. Credits are issued and transferred without a
// lease, on any node.
//
// # What the stores need
//
// A pool of one connection is enough. The driver has to run several statements
// in an Exec without arguments, as pgx and lib/pq do. Timeouts, isolation and
// synchronous_commit of the server, the database or the role do not matter: each
// transaction sets its own, and only the context of a call bounds it. A server
// with fsync or full_page_writes turned off is refused with [ErrUnsafe].
//
// A row that no release of this library can have written is
// settlement.ErrCorrupt for whoever asks for it, and names itself.
//
// # Tables
//
//	ledger_accounts      balances; the one of the issuer is what is outstanding
//	ledger_transfers     every transfer that was applied, for ever
//	ledger               one row with the issuer's name
//	settlement_state     one row: the engine's state, and who holds the lease
//	settlement_failures  the archive
//
// In a text column the characters U+0000 and U+0001, of which PostgreSQL takes
// only the second, stand as U+0001 U+0001 and U+0001 U+0002.
package settlementsql
