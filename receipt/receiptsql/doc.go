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
// # Tables
//
//	receipts      a row for each receipt. superseded_by is NULL, except in a dry
//	              run that came again for real: then it is the seq of the latter
//	receipt_log   one row with the last sequence number given
//
// In a text column the characters U+0000 and U+0001, of which PostgreSQL takes
// only the second, stand as U+0001 U+0001 and U+0001 U+0002.
package receiptsql
