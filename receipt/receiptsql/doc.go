// Package receiptsql keeps the log of receipts in an SQL database: PostgreSQL,
// or an engine that speaks its dialect. The caller brings the driver and the
// pool:
//
//	db, err := sql.Open("pgx", "postgres://localhost/market")
//	if err != nil {
//		return err
//	}
//	if err := receiptsql.Migrate(ctx, db); err != nil {
//		return err
//	}
//	store, err := receiptsql.New(ctx, db, nil)
//
// Any number of stores, on any number of nodes, may use the tables at once.
// Those who append take turns, so that whoever reads past a number never misses
// a smaller one; a large batch therefore costs little more than a single
// receipt.
//
// # What the store needs
//
// A pool of one connection is enough. The driver has to run several statements
// in an Exec without arguments, as pgx and lib/pq do. Timeouts, isolation and
// synchronous_commit of the server, the database or the role do not matter: each
// transaction sets its own, and only the context of a call bounds it. A server
// with fsync or full_page_writes turned off is refused with [ErrUnsafe].
//
// A row that no release of this library can have written is a damaged receipt:
// After passes it by, Get and Append answer receipt.ErrCorrupt for its key.
//
// # Tables
//
//	receipts      a row for each receipt. superseded_by is NULL, except in a dry
//	              run that came again for real: then it is the seq of the latter
//	receipt_log   one row with the last sequence number given
//
// In a text column the characters U+0000 and U+0001, of which PostgreSQL takes
// only the second, stand as U+0001 U+0001 and U+0001 U+0002.
package receiptsql
