package postgrestest

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/computemarket/computemarket/internal/sqldb"
)

// hostile are values that each type of our columns allows, as SQL.
var hostile = map[string][]string{
	"bigint":  {"-9223372036854775808", "-1", "0", "2", "9223372036854775807"},
	"integer": {"-2147483648", "-1", "0", "1000", "70000", "2147483647"},
	"numeric": {"'NaN'", "-1", "0", "7", "18446744073709551615", "18446744073709551616", "99999999999999999999"},
	"bytea":   {`'\x'`, `'\x00'`, `decode(repeat('ab', 16), 'hex')`, `decode(repeat('ab', 32), 'hex')`, `decode(repeat('ab', 33), 'hex')`},
	"text":    {`''`, `'other'`, `chr(1)`, `'a' || chr(1) || 'z'`, `repeat('x', 300)`, `repeat('x', 3000)`, `'dead'`, `'acknowledged'`, `'armed'`},
	"boolean": {"TRUE", "FALSE"},
	"timestamp with time zone": {`'infinity'`, `'-infinity'`, `'4713-01-01 00:00:00+00 BC'`, `'0001-01-01 00:00:00+00'`,
		`'294276-12-31 23:59:59+00'`},
}

// damage is one column of one row with a hostile value.
type damage struct{ column, value string }

// legal is what a column may be set to without any harm that could be noticed:
// a column, or a column and a value.
type legal map[string]bool

func (l legal) has(d damage) bool { return l[d.column] || l[d.column+" = "+d.value] }

// eachDamage sets every column of the row of table to every hostile value that
// the table takes, one at a time, and calls check. Afterwards it puts the tables
// back as they were. It fails when a column has a type without hostile values.
func eachDamage(t *testing.T, db *sql.DB, table, where string, check func(*testing.T, damage)) {
	t.Helper()
	tables := query(t, db, `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()`)
	for _, name := range tables {
		run(t, db, `CREATE TEMPORARY TABLE saved_`+name+` AS SELECT * FROM `+name)
	}
	restore := func() {
		all := ""
		for _, name := range tables {
			all += `DELETE FROM ` + name + `; INSERT INTO ` + name + ` SELECT * FROM saved_` + name + `;`
		}
		run(t, db, all)
	}
	cases := 0
	for _, column := range query(t, db, `SELECT column_name || ' ' || data_type FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position`, table) {
		name, kind, _ := strings.Cut(column, " ")
		if len(hostile[kind]) == 0 {
			t.Fatalf("no hostile values of type %s", kind)
		}
		for _, value := range hostile[kind] {
			res, err := db.Exec(`UPDATE ` + table + ` SET ` + name + ` = ` + value + ` WHERE ` + where)
			if slices.Contains([]string{"23514", "23505", "22003"}, sqldb.State(err)) {
				continue // the table does not take it
			}
			if err != nil {
				t.Fatal(err)
			}
			if n, err := res.RowsAffected(); n != 1 {
				t.Fatalf("%d rows of %s where %s, %v", n, table, where, err)
			}
			cases++
			t.Run(fmt.Sprintf("%s=%s", name, value), func(t *testing.T) { check(t, damage{name, value}) })
			restore()
		}
	}
	for _, name := range tables {
		run(t, db, `DROP TABLE saved_`+name)
	}
	if cases == 0 {
		t.Fatal("nothing was damaged")
	}
}

func run(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func query(t *testing.T, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	all, err := sqldb.Collect(t.Context(), db, func(row sqldb.Row) (s string, err error) { return s, row.Scan(&s) }, query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
