package settlementsql

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/settlement"
)

// postEach decides on each transfer, up to the first that fails.
func (l *Ledger) postEach(ctx context.Context, lease settlement.Lease, transfers []settlement.Transfer) (results []settlement.Result, refusal error) {
	// What was applied once stays so: it need not be read again in another try.
	known := map[settlement.ID]transferRow{}
	present := false // some of them were applied before
	err := sqldb.Run(ctx, l.db, idle(lease), func(tx *sql.Tx) error {
		if err := checkFence(ctx, tx, lease); err != nil {
			return err
		}
		if present {
			if err := learn(ctx, tx, transfers, known); err != nil {
				return err
			}
		}
		accounts, err := lockAccounts(ctx, tx, transfers)
		if err != nil {
			return err
		}
		d := l.decide(transfers, known, accounts)
		if d.refusal != nil {
			// It may have been paid before.
			if err := learn(ctx, tx, transfers, known); err != nil {
				return err
			}
			d = l.decide(transfers, known, accounts)
		}
		results, refusal = d.results, d.refusal
		if len(d.applied) == 0 {
			return nil
		}
		inserted, err := insertEach(ctx, tx, d.applied, lease)
		if err != nil {
			return err
		}
		if inserted < int64(len(d.applied)) {
			present = true // which ones, only another transaction can tell from those of this one
			return sqldb.ErrAgain
		}
		return writeBalances(ctx, tx, d.balances, accounts)
	})
	if err != nil {
		return nil, err
	}
	return results, refusal
}

// idle is how long a process that was paused in a transaction can keep others
// from taking over.
func idle(lease settlement.Lease) time.Duration {
	if lease.Term > 0 {
		return lease.Term
	}
	return sqldb.Idle
}

// fenced is the answer to an engine whose lease is not the latest.
func fenced(lease settlement.Lease) error {
	return fmt.Errorf("%w: the lease of epoch %d by %q is not the latest", settlement.ErrFenced, lease.Epoch, lease.Holder)
}

// isLatest is true of the row that holds the lease. In a database where no engine
// ever took one, the leases are those of another store, and not compared.
const isLatest = `id = 1 AND (epoch = CAST($1 AS BIGINT) AND holder = $2 OR epoch = 0)`

// checkFence keeps the lease the latest until the transaction ends.
func checkFence(ctx context.Context, tx *sql.Tx, lease settlement.Lease) error {
	if lease.IsZero() {
		return nil
	}
	rows, err := sqldb.Collect(ctx, tx, func(row sqldb.Row) (n int64, err error) { return n, row.Scan(&n) },
		`SELECT epoch FROM settlement_state WHERE `+isLatest+` FOR UPDATE`, int64(lease.Epoch), sqldb.Text(lease.Holder))
	if err == nil && len(rows) == 0 {
		err = fenced(lease)
	}
	return err
}

// lockAccounts locks the accounts that are there, in the order of their names,
// and returns their balances.
func lockAccounts(ctx context.Context, tx *sql.Tx, transfers []settlement.Transfer) (map[string]accountRow, error) {
	names := map[string]struct{}{}
	for i := range transfers {
		names[transfers[i].From] = struct{}{}
		names[transfers[i].To] = struct{}{}
	}
	var array sqldb.Array
	for name := range names {
		array.Text(name)
	}
	rows, err := sqldb.Collect(ctx, tx, scanAccount,
		selectAccounts+`WHERE name = ANY(CAST($1 AS TEXT)::TEXT[]) ORDER BY name FOR UPDATE`,
		array.String())
	accounts := make(map[string]accountRow, len(rows))
	for _, a := range rows {
		accounts[a.Name] = a
	}
	return accounts, err
}

// decision is what becomes of a batch.
type decision struct {
	results  []settlement.Result
	refusal  error                  // why it stopped behind results
	applied  []*settlement.Transfer // in the order of their ids
	balances map[string]uint64      // of the accounts that change
}

// decide applies the transfers in order to the balances in accounts, when known
// is what was applied before.
func (l *Ledger) decide(transfers []settlement.Transfer, known map[settlement.ID]transferRow, accounts map[string]accountRow) decision {
	d := decision{balances: map[string]uint64{}}
	now := map[settlement.ID]*settlement.Transfer{}
	for i := range transfers {
		t := &transfers[i]
		old := now[t.ID]
		if k, ok := known[t.ID]; ok {
			old, d.refusal = &k.Transfer, k.damage
		}
		result := settlement.Applied
		if d.refusal == nil && old != nil {
			result, d.refusal = t.Again(old)
		} else if d.refusal == nil {
			d.refusal = l.move(t, accounts, d.balances)
		}
		if d.refusal != nil {
			break
		}
		d.results = append(d.results, result)
		if result == settlement.Applied {
			now[t.ID] = t
			d.applied = append(d.applied, t)
		}
	}
	slices.SortFunc(d.applied, byID)
	return d
}

func byID(a, b *settlement.Transfer) int { return bytes.Compare(a.ID[:], b.ID[:]) }

// sortedByID is the order in which transfers are inserted: two batches with the
// same ids wait for each other instead of in a circle.
func sortedByID(transfers []settlement.Transfer) []*settlement.Transfer {
	sorted := make([]*settlement.Transfer, len(transfers))
	for i := range transfers {
		sorted[i] = &transfers[i]
	}
	slices.SortFunc(sorted, byID)
	return sorted
}

// move changes two of the balances, or none.
func (l *Ledger) move(t *settlement.Transfer, accounts map[string]accountRow, balances map[string]uint64) error {
	for _, name := range [...]string{t.From, t.To} {
		if damage := accounts[name].damage; damage != nil {
			return damage
		}
	}
	balance := func(name string) uint64 {
		if b, ok := balances[name]; ok {
			return b
		}
		return accounts[name].Balance
	}
	from, to, err := t.Move(l.issuer, balance(t.From), balance(t.To))
	if err == nil {
		balances[t.From], balances[t.To] = from, to
	}
	return err
}

// learn reads which of the transfers were applied before.
func learn(ctx context.Context, tx *sql.Tx, transfers []settlement.Transfer, known map[settlement.ID]transferRow) error {
	ids := make([]settlement.ID, len(transfers))
	for i := range transfers {
		ids[i] = transfers[i].ID
	}
	found, err := findTransfers(ctx, tx, ids)
	maps.Copy(known, found)
	return err
}

// transferRow is what one row of ledger_transfers holds: a transfer, or the
// reason why it is none.
type transferRow struct {
	settlement.Transfer
	damage error // wraps settlement.ErrCorrupt
}

func findTransfers(ctx context.Context, q sqldb.Querier, ids []settlement.ID) (map[settlement.ID]transferRow, error) {
	var array sqldb.Array
	for i := range ids {
		array.Bytes(ids[i][:])
	}
	rows, err := sqldb.Collect(ctx, q, scanTransfer,
		`SELECT id, from_account, to_account, amount, tag FROM ledger_transfers
		WHERE id = ANY(CAST($1 AS TEXT)::BYTEA[])`, array.String())
	found := make(map[settlement.ID]transferRow, len(rows))
	for _, t := range rows {
		found[t.ID] = t
	}
	return found, err
}

// scanTransfer reads into types that hold whatever the columns can. That a row
// is damaged is no error of the scan.
func scanTransfer(from sqldb.Row) (row transferRow, err error) {
	var id []byte
	var amount string
	t := &row.Transfer
	if err := from.Scan(&id, &t.From, &t.To, &amount, &t.Tag); err != nil {
		return row, err
	}
	var judge sqldb.Judge
	judge.Bytes("id", t.ID[:], id)
	t.From, t.To, t.Tag = judge.Text("from_account", t.From), judge.Text("to_account", t.To), judge.Text("tag", t.Tag)
	t.Amount = judge.Uint("amount", amount)
	err = judge.Err()
	if err == nil {
		err = t.Validate()
	}
	row.damage = damaged(fmt.Sprintf("the row of ledger_transfers with id %.32x", id), err)
	return row, nil
}

func insertEach(ctx context.Context, tx *sql.Tx, transfers []*settlement.Transfer, lease settlement.Lease) (int64, error) {
	res, err := tx.ExecContext(ctx, insertTransfers+` ON CONFLICT (id) DO NOTHING`, insertArgs(transfers, lease)...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// writeBalances updates the accounts that are there, which are locked, and makes
// the others. Another transaction that makes one of them at the same time goes
// first.
func writeBalances(ctx context.Context, tx *sql.Tx, balances map[string]uint64, accounts map[string]accountRow) error {
	var names, values, newNames, newValues sqldb.Array
	made := int64(0)
	for _, name := range slices.Sorted(maps.Keys(balances)) {
		if _, ok := accounts[name]; ok {
			names.Text(name)
			values.Uint(balances[name])
			continue
		}
		made++
		newNames.Text(name)
		newValues.Uint(balances[name])
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE ledger_accounts AS a SET balance = v.balance
		FROM unnest(CAST($1 AS TEXT)::TEXT[], CAST($2 AS TEXT)::NUMERIC(20,0)[]) AS v (name, balance)
		WHERE a.name = v.name`, names.String(), values.String()); err != nil {
		return err
	}
	if made == 0 {
		return nil
	}
	res, err := tx.ExecContext(ctx, `
		INSERT INTO ledger_accounts (name, balance)
		SELECT v.name, v.balance
		FROM unnest(CAST($1 AS TEXT)::TEXT[], CAST($2 AS TEXT)::NUMERIC(20,0)[]) AS v (name, balance)
		ON CONFLICT (name) DO NOTHING`, newNames.String(), newValues.String())
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != made {
		return sqldb.ErrAgain
	}
	return nil
}
