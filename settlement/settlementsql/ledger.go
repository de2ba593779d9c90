package settlementsql

import (
	"context"
	"database/sql"
	"fmt"
	"unicode/utf8"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/settlement"
)

// LedgerOptions of [NewLedger]. The zero value and nil are ready to use.
type LedgerOptions struct {
	// Issuer names the issuing account. Defaults to "issuer". It is fixed when
	// the ledger is used first; another name later is settlement.ErrSchema.
	Issuer string
	// UnsafeServer is that of StoreOptions.
	UnsafeServer bool
}

// Ledger is a settlement.Ledger on tables that [Migrate] has made. Any number of
// them, on any number of nodes, may post at once. It never returns
// settlement.ErrPoisoned: after a failure the next call takes another connection.
type Ledger struct {
	db     *sql.DB
	issuer string
}

var _ settlement.Ledger = (*Ledger)(nil)

// NewLedger returns the ledger in a database that the caller closes. opts may be
// nil. Possible errors: settlement.ErrOptions (db is nil), settlement.ErrSchema,
// settlement.ErrAccount (the issuer's name), settlement.ErrCorrupt, [ErrMigrate],
// [ErrUnsafe], settlement.ErrClosed, that of ctx, and the driver's.
func NewLedger(ctx context.Context, db *sql.DB, opts *LedgerOptions) (*Ledger, error) {
	var o LedgerOptions
	if opts != nil {
		o = *opts
	}
	if o.Issuer == "" {
		o.Issuer = "issuer"
	}
	if err := (&settlement.Transfer{From: o.Issuer, To: o.Issuer + "."}).Validate(); err != nil {
		return nil, fmt.Errorf("the issuer's name: %w", err)
	}
	if err := open(ctx, db, o.UnsafeServer); err != nil {
		return nil, err
	}
	l := &Ledger{db: db, issuer: o.Issuer}
	if err := l.ensureIssuer(ctx); err != nil {
		return nil, sqldb.Translate(ctx, err)
	}
	return l, nil
}

func (l *Ledger) ensureIssuer(ctx context.Context) error {
	return sqldb.Run(ctx, l.db, sqldb.Idle, func(tx *sql.Tx) error {
		name := sqldb.Text(l.issuer)
		if _, err := tx.ExecContext(ctx, `INSERT INTO ledger (id, issuer) VALUES (1, $1) ON CONFLICT (id) DO NOTHING`, name); err != nil {
			return err
		}
		var issuer string
		if err := tx.QueryRowContext(ctx, `SELECT issuer FROM ledger WHERE id = 1`).Scan(&issuer); err != nil {
			return err
		}
		if _, ok := sqldb.Plain(issuer); !ok {
			return fmt.Errorf("%w: the row of ledger: issuer is %.40q", settlement.ErrCorrupt, issuer)
		}
		if issuer != name {
			return fmt.Errorf("%w: its issuer is %q, not %q", settlement.ErrSchema, issuer, l.issuer)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO ledger_accounts (name, balance) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING`, name)
		return err
	})
}

// Issuer implements settlement.Ledger.
func (l *Ledger) Issuer() string { return l.issuer }

// Balance implements settlement.Ledger.
func (l *Ledger) Balance(ctx context.Context, account string) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if !utf8.ValidString(account) {
		return 0, nil // no transfer can have named it
	}
	rows, err := sqldb.Read(ctx, l.db, scanAccount, selectAccounts+`WHERE name = $1`, sqldb.Text(account))
	if err != nil || len(rows) == 0 {
		return 0, sqldb.Translate(ctx, err)
	}
	return rows[0].Balance, rows[0].damage
}

// Transfer returns the transfer with the id; ok is false when none was applied.
// Errors as of Balance.
func (l *Ledger) Transfer(ctx context.Context, id settlement.ID) (t settlement.Transfer, ok bool, err error) {
	var found map[settlement.ID]transferRow
	err = sqldb.Reading(ctx, l.db, func(q sqldb.Querier) (err error) {
		found, err = findTransfers(ctx, q, []settlement.ID{id})
		return err
	})
	row, ok := found[id]
	if err == nil {
		err = row.damage
	}
	return row.Transfer, ok && err == nil, sqldb.Translate(ctx, err)
}

// Check adds up all balances. It returns settlement.ErrCorrupt unless they are
// what is outstanding; other errors as of Balance.
func (l *Ledger) Check(ctx context.Context) error {
	var sum, outstanding string
	err := sqldb.Reading(ctx, l.db, func(q sqldb.Querier) error {
		return q.QueryRowContext(ctx, `SELECT
			COALESCE((SELECT sum(balance) FROM ledger_accounts WHERE name <> $1), 0),
			COALESCE((SELECT sum(balance) FROM ledger_accounts WHERE name = $1), 0)`, sqldb.Text(l.issuer)).Scan(&sum, &outstanding)
	})
	if err == nil && sum != outstanding {
		err = fmt.Errorf("%w: the balances add up to %s, %s are outstanding", settlement.ErrCorrupt, sum, outstanding)
	}
	return sqldb.Translate(ctx, err)
}
