package postgrestest

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// shared is the server of all tests that do not hurt it.
var shared struct {
	once   sync.Once
	server *Server
	err    error
}

func TestMain(m *testing.M) {
	if child := os.Getenv(childRole); child != "" {
		fmt.Fprintln(os.Stderr, runChild(child))
		os.Exit(1)
	}
	code := m.Run()
	if shared.server != nil {
		shared.server.remove()
	}
	os.Exit(code)
}

func sharedServer(tb testing.TB) *Server {
	tb.Helper()
	shared.once.Do(func() { shared.server, shared.err = start() })
	check(tb, shared.err)
	return shared.server
}

// openDB returns a pool on an empty or older schema, which is made if it is not
// there. The pool is closed at the end of the test, or before.
func openDB(tb testing.TB, s *Server, schema string) *sql.DB {
	tb.Helper()
	db, err := connect(s.URL(schema))
	if err == nil {
		_, err = db.ExecContext(context.Background(), "CREATE SCHEMA IF NOT EXISTS "+schema)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	return db
}

func connect(url string) (*sql.DB, error) { return sql.Open("pgx", url) }

var schemas atomic.Int64

// newSchema returns a name for a schema that is not there yet.
func newSchema() string { return fmt.Sprintf("s%d", schemas.Add(1)) }

// schemaOf gives each name of a conformance suite a schema.
func schemaOf(prefix, name string) string { return prefix + "_" + hex.EncodeToString([]byte(name)) }
