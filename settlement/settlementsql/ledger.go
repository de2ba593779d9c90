package settlementsql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"unicode/utf8"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/settlement"
)

// LedgerOptions of [NewLedger]. The zero value and nil are ready to use.
type LedgerOptions struct {
	// Issuer names the issuing account. Defaults to "issuer". It is fixed when
	// the ledger is used first; another name later is settlement.ErrSchema.
	Issuer string
	// Fence lets the ledger post only while the epoch that this store acquired
	// is the latest, and else answer settlement.ErrFenced: for the ledger that
	// an engine settles on. The store is in the same database. Defaults to
	// none, for ledgers that issue or reward.
	Fence *Store
}

// Ledger is a settlement.Ledger on tables that [Migrate] has made. Any number of
// them, on any number of nodes, may post at once. It never returns
// settlement.ErrPoisoned: after a failure the next call takes another connection.
type Ledger struct {
	db     *sql.DB
	issuer string
	fence  *Store
}

var _ settlement.Ledger = (*Ledger)(nil)

// NewLedger returns the ledger in a database that the caller closes. opts may be
// nil. Possible errors: settlement.ErrSchema, settlement.ErrAccount (the
// issuer's name), [ErrMigrate], settlement.ErrClosed, that of ctx, and the
// driver's.
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
	if err := schema.Check(ctx, db); err != nil {
		return nil, translate(ctx, err)
	}
	l := &Ledger{db: db, issuer: o.Issuer, fence: o.Fence}
	return l, translate(ctx, l.ensureIssuer(ctx))
}

func (l *Ledger) ensureIssuer(ctx context.Context) error {
	return sqldb.Run(ctx, l.db, l.idle(), func(tx *sql.Tx) error {
		name := sqldb.Text(l.issuer)
		if _, err := tx.ExecContext(ctx, `INSERT INTO ledger (id, issuer) VALUES (1, $1) ON CONFLICT (id) DO NOTHING`, name); err != nil {
			return err
		}
		var issuer string
		if err := tx.QueryRowContext(ctx, `SELECT issuer FROM ledger WHERE id = 1`).Scan(&issuer); err != nil {
			return err
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
	var balance uint64
	err := l.db.QueryRowContext(ctx, `SELECT balance FROM ledger_accounts WHERE name = $1`, sqldb.Text(account)).Scan(&balance)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return balance, translate(ctx, err)
}

// Transfer returns the transfer with the id; ok is false when none was applied.
// Errors as of Balance.
func (l *Ledger) Transfer(ctx context.Context, id settlement.ID) (t settlement.Transfer, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return t, false, err
	}
	found, err := findTransfers(ctx, l.db, []settlement.ID{id})
	t, ok = found[id]
	return t, ok, translate(ctx, err)
}

// Accounts implements settlement.Ledger. Only while there are more than a few
// thousand does it keep a connection.
func (l *Ledger) Accounts(ctx context.Context) iter.Seq2[settlement.Account, error] {
	return func(yield func(settlement.Account, error) bool) {
		page := func(tx *sql.Tx, last *settlement.Account, limit int) ([]settlement.Account, error) {
			after := ""
			if last != nil {
				after = sqldb.Text(last.Name)
			}
			return sqldb.Collect(ctx, tx, scanAccount,
				`SELECT name, balance FROM ledger_accounts WHERE name > $1 AND name <> $2 ORDER BY name LIMIT $3`,
				after, sqldb.Text(l.issuer), limit)
		}
		for a, err := range sqldb.Snapshot(ctx, l.db, page) {
			if !yield(a, translate(ctx, err)) {
				return
			}
		}
	}
}

func scanAccount(row sqldb.Row) (a settlement.Account, err error) {
	err = row.Scan(&a.Name, &a.Balance)
	a.Name = sqldb.Plain(a.Name)
	return a, err
}

// Check adds up all balances. It returns settlement.ErrCorrupt unless they are
// what is outstanding; other errors as of Balance.
func (l *Ledger) Check(ctx context.Context) error {
	var sum, outstanding string
	err := l.db.QueryRowContext(ctx, `SELECT
		COALESCE((SELECT sum(balance) FROM ledger_accounts WHERE name <> $1), 0),
		COALESCE((SELECT sum(balance) FROM ledger_accounts WHERE name = $1), 0)`, sqldb.Text(l.issuer)).Scan(&sum, &outstanding)
	if err == nil && sum != outstanding {
		err = fmt.Errorf("%w: the balances add up to %s, %s are outstanding", settlement.ErrCorrupt, sum, outstanding)
	}
	return translate(ctx, err)
}
