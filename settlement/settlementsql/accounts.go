package settlementsql

import (
	"context"
	"fmt"
	"iter"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/settlement"
)

// Accounts implements settlement.Ledger. It reads all accounts in one statement
// when the iteration begins, and so at one instant; it keeps no connection while
// the loop's body runs. In memory an account takes its name and 16 bytes.
func (l *Ledger) Accounts(ctx context.Context) iter.Seq2[settlement.Account, error] {
	return func(yield func(settlement.Account, error) bool) {
		all, err := l.snapshot(ctx)
		if err != nil {
			yield(settlement.Account{}, sqldb.Translate(ctx, err))
			return
		}
		for i := range all.balances {
			if err := ctx.Err(); err != nil {
				yield(settlement.Account{}, err)
				return
			}
			if !yield(all.account(i), nil) {
				return
			}
		}
		if all.damage != nil { // hides no other
			yield(settlement.Account{}, all.damage)
		}
	}
}

// snapshot is accounts one behind the other, and the first damaged one.
type snapshot struct {
	names    []byte
	ends     []int // of each name
	balances []uint64
	damage   error
}

func (s *snapshot) account(i int) settlement.Account {
	begin := 0
	if i > 0 {
		begin = s.ends[i-1]
	}
	return settlement.Account{Name: string(s.names[begin:s.ends[i]]), Balance: s.balances[i]}
}

func (s *snapshot) add(row accountRow) {
	if row.damage != nil {
		if s.damage == nil {
			s.damage = row.damage
		}
		return
	}
	s.names = append(s.names, row.Name...)
	s.ends = append(s.ends, len(s.names))
	s.balances = append(s.balances, row.Balance)
}

func (l *Ledger) snapshot(ctx context.Context) (all *snapshot, err error) {
	err = sqldb.Reading(ctx, l.db, func(q sqldb.Querier) error {
		all = new(snapshot)
		_, err := sqldb.Collect(ctx, q, func(row sqldb.Row) (struct{}, error) {
			a, err := scanAccount(row)
			if err == nil {
				all.add(a)
			}
			return struct{}{}, err
		}, selectAccounts+`WHERE name <> $1 ORDER BY name`, sqldb.Text(l.issuer))
		return err
	})
	return all, err
}

const selectAccounts = `SELECT name, balance FROM ledger_accounts `

// accountRow is what one row of ledger_accounts holds: an account, or the reason
// why it is none.
type accountRow struct {
	settlement.Account
	damage error // wraps settlement.ErrCorrupt
}

// scanAccount reads into types that hold whatever the columns can. That a row is
// damaged is no error of the scan.
func scanAccount(from sqldb.Row) (row accountRow, err error) {
	var name, balance string
	if err := from.Scan(&name, &balance); err != nil {
		return row, err
	}
	var judge sqldb.Judge
	row.Name = judge.Text("name", name)
	judge.In("the length of name", int64(len(row.Name)), 1, settlement.MaxAccountBytes)
	row.Balance = judge.Uint("balance", balance)
	row.damage = damaged(fmt.Sprintf("the row of ledger_accounts with name %.80q", name), judge.Err())
	return row, nil
}
