// Package sqldb holds what the stores over database/sql share: transactions
// that are tried again, commits whose outcome is unknown, versioned tables,
// batches as arrays, and iterations read page by page.
//
// The SQL is the common part of PostgreSQL and of the engines that speak its
// protocol. No driver is imported: an error tells its SQLSTATE through a method
// SQLState() string, as those of pgx and lib/pq do.
package sqldb
