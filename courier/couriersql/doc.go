// Package couriersql keeps a courier's receipts in an SQL database: PostgreSQL,
// or an engine that speaks its dialect. The caller brings the driver and the
// pool:
//
//	if err := couriersql.Migrate(ctx, db); err != nil {
//		return err
//	}
//	store, err := couriersql.New(ctx, db, nil)
//
// Any number of stores, on any number of nodes, may use the tables at once; all
// of them see one queue. The bundles themselves are not in it. A node can only
// forward a bundle that its own courier.Bundles has; a courier.Dir serves one
// process, so nodes that flush what others took in need a Bundles of their own
// making that all of them reach.
//
// # What the store needs
//
// A pool of one connection is enough. The driver has to run several statements
// in an Exec without arguments, as pgx and lib/pq do. Timeouts, isolation and
// synchronous_commit of the server, the database or the role do not matter: each
// transaction sets its own, and only the context of a call bounds it. A server
// with fsync or full_page_writes turned off is refused with [ErrUnsafe].
//
// A row that no release of this library can have written is kept aside when List
// meets it: its state becomes "aside:" and what it was, and Count tells of it.
//
// # Tables
//
//	courier_receipts  a row for each receipt, with its state
//	courier_log       one row: the last sequence number, the lengths of
//	                  the lists, how many rows are aside
//	courier_note      at most one row: where the flushes are, see
//	                  courier.Notebook
//
// In a text column the characters U+0000 and U+0001, of which PostgreSQL takes
// only the second, stand as U+0001 U+0001 and U+0001 U+0002.
package couriersql
