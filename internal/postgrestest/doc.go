// Package postgrestest starts private PostgreSQL servers and holds the tests of
// all stores over database/sql.
//
// It needs the programs of a PostgreSQL 15 or later (Debian: the package
// postgresql) in PATH, in PG_BINDIR, or in /usr/lib/postgresql. A test that does
// not find them is skipped, and says so; with CI=true it fails.
package postgrestest
