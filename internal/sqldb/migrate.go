package sqldb

import (
	"context"
	"database/sql"
	"errors"
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
// nodes at once. Possible errors: ErrNewer, and those of Run.
func (s Schema) Migrate(ctx context.Context, db *sql.DB) error {
	return Run(ctx, db, time.Minute, func(tx *sql.Tx) error {
		version, err := s.lock(ctx, tx)
		if err != nil {
			return raced(err)
		}
		if version > len(s.Steps) {
			return s.newer(version)
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

func (s Schema) newer(version int) error {
	return fmt.Errorf("%w: %s has version %d, this release knows %d", ErrNewer, s.Component, version, len(s.Steps))
}

// Check returns nil when the tables have the version of this release, and else
// ErrNewer, ErrMigrate or the error of Run.
func (s Schema) Check(ctx context.Context, db *sql.DB) error {
	var version int
	err := db.QueryRowContext(ctx, `SELECT version FROM computemarket_schema WHERE component = $1`, s.Component).Scan(&version)
	switch {
	case errors.Is(err, sql.ErrNoRows) || State(err) == "42P01":
		return fmt.Errorf("%w: no tables of %s", ErrMigrate, s.Component)
	case err != nil:
		return Translate(ctx, err)
	case version > len(s.Steps):
		return s.newer(version)
	case version < len(s.Steps):
		return fmt.Errorf("%w: %s has version %d, this release needs %d", ErrMigrate, s.Component, version, len(s.Steps))
	}
	return nil
}
