package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Schema is the tables of a component in all their versions: step i leads from
// version i to i+1, each in one transaction with all others that are due.
type Schema struct {
	Component string
	Steps     [][]string // statements
}

// Migrate brings the tables to the newest version. It may be called by many
// nodes at once. Possible errors: ErrOptions, ErrSchema, ErrCorrupt, and those of
// Run.
func (s Schema) Migrate(ctx context.Context, db *sql.DB) error {
	if db == nil {
		return ErrOptions
	}
	return Run(ctx, db, time.Minute, func(tx *sql.Tx) error {
		version, err := s.lock(ctx, tx)
		if err != nil {
			return raced(err)
		}
		if version < 0 || version > len(s.Steps) {
			return s.unfit(version)
		}
		for _, step := range s.Steps[version:] {
			for _, statement := range step {
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return fmt.Errorf("migrate %s: %w", s.Component, err)
				}
			}
		}
		if version == len(s.Steps) {
			return nil
		}
		_, err = tx.ExecContext(ctx, `UPDATE computemarket_schema SET version = $2, migrated_at = now() WHERE component = $1`,
			s.Component, len(s.Steps))
		return err
	})
}

// lock returns the version, and lets no other migrate meanwhile.
func (s Schema) lock(ctx context.Context, tx *sql.Tx) (version int, err error) {
	for _, statement := range []struct {
		query string
		args  []any
	}{
		{`CREATE TABLE IF NOT EXISTS computemarket_schema (
			component TEXT PRIMARY KEY,
			version INTEGER NOT NULL,
			migrated_at TIMESTAMPTZ NOT NULL)`, nil},
		{`INSERT INTO computemarket_schema (component, version, migrated_at) VALUES ($1, 0, now())
			ON CONFLICT (component) DO NOTHING`, []any{s.Component}},
	} {
		if _, err := tx.ExecContext(ctx, statement.query, statement.args...); err != nil {
			return 0, err
		}
	}
	err = tx.QueryRowContext(ctx, `SELECT version FROM computemarket_schema WHERE component = $1 FOR UPDATE`, s.Component).Scan(&version)
	return version, err
}

// raced turns the errors of two who create the first table at once, in spite of
// IF NOT EXISTS, into another try.
func raced(err error) error {
	switch State(err) {
	case "23505", "42P07", "42710", "XX000":
		return fmt.Errorf("%w: %w", ErrAgain, err)
	}
	return err
}

// unfit is the error for tables whose version is not that of this release.
func (s Schema) unfit(version int) error {
	switch {
	case version < 0:
		return fmt.Errorf("%w: computemarket_schema: %s has version %d", ErrCorrupt, s.Component, version)
	case version < len(s.Steps):
		return fmt.Errorf("%w: %s has version %d, this release needs %d", ErrMigrate, s.Component, version, len(s.Steps))
	}
	return fmt.Errorf("%w: %s has version %d, this release knows %d", ErrSchema, s.Component, version, len(s.Steps))
}

// Check returns nil when the tables have the version of this release, and else
// ErrOptions, ErrSchema, ErrMigrate, ErrCorrupt or the error of Read.
func (s Schema) Check(ctx context.Context, db *sql.DB) error {
	if db == nil {
		return ErrOptions
	}
	versions, err := Read(ctx, db, func(row Row) (version int, err error) { return version, row.Scan(&version) },
		`SELECT version FROM computemarket_schema WHERE component = $1`, s.Component)
	switch {
	case State(err) == "42P01" || err == nil && len(versions) == 0:
		return fmt.Errorf("%w: no tables of %s", ErrMigrate, s.Component)
	case err != nil:
		return err
	case versions[0] != len(s.Steps):
		return s.unfit(versions[0])
	}
	return nil
}

// CheckServer returns ErrUnsafe when a crash of the server, or of its machine,
// may take what was committed, whatever a transaction asks for. Other errors are
// those of Read.
func CheckServer(ctx context.Context, db *sql.DB) error {
	for _, setting := range [...]string{"fsync", "full_page_writes"} {
		values, err := Read(ctx, db, func(row Row) (value sql.NullString, err error) { return value, row.Scan(&value) },
			`SELECT current_setting($1, true)`, setting)
		if err != nil {
			return err
		}
		if len(values) == 1 && values[0].String == "off" { // NULL on a server without the setting
			return fmt.Errorf("%w: its %s is off", ErrUnsafe, setting)
		}
	}
	return nil
}
