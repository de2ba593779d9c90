package settlementsql

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/settlement"
)

// maxBatch bounds the transfers of one transaction.
const maxBatch = 8192

// errUneven: not every transfer of a batch is new and can be paid from accounts
// that are there; so each has to be looked at.
var errUneven = errors.New("settlementsql: uneven batch")

// Post implements settlement.Ledger.
func (l *Ledger) Post(ctx context.Context, lease settlement.Lease, transfers []settlement.Transfer) ([]settlement.Result, error) {
	results := make([]settlement.Result, 0, len(transfers))
	if err := ctx.Err(); err != nil {
		return results, err
	}
	for part := range slices.Chunk(transfers, maxBatch) {
		part, refusal := valid(part)
		if len(part) > 0 {
			done, err := l.post(ctx, lease, part)
			results = append(results, done...)
			if err != nil {
				return results, sqldb.Translate(ctx, err)
			}
		}
		if refusal != nil {
			return results, refusal
		}
	}
	return results, nil
}

// valid returns the transfers before the first that is not valid, and its error.
func valid(transfers []settlement.Transfer) ([]settlement.Transfer, error) {
	for i := range transfers {
		if err := transfers[i].Validate(); err != nil {
			return transfers[:i], err
		}
	}
	return transfers, nil
}

func (l *Ledger) post(ctx context.Context, lease settlement.Lease, transfers []settlement.Transfer) ([]settlement.Result, error) {
	if sum, ok := l.sumUp(transfers); ok {
		err := l.postEven(ctx, lease, transfers, sum)
		if err == nil {
			return slices.Repeat([]settlement.Result{settlement.Applied}, len(transfers)), nil
		}
		if !errors.Is(err, errUneven) {
			return nil, err
		}
	}
	return l.postEach(ctx, lease, transfers)
}

// flow is what a batch does to one account.
type flow struct {
	net         int64 // so far, and in the end
	least, most int64 // the lowest and the highest that net has been
}

// sumUp adds up the batch for each account. ok is false when an ID occurs twice,
// or when the amounts are too great to be added up in 63 bits.
func (l *Ledger) sumUp(transfers []settlement.Transfer) (flows map[string]*flow, ok bool) {
	flows = make(map[string]*flow)
	ids := make(map[settlement.ID]struct{}, len(transfers))
	var total uint64
	for i := range transfers {
		t := &transfers[i]
		if t.Amount > math.MaxInt64-total {
			return nil, false
		}
		total += t.Amount
		ids[t.ID] = struct{}{}
		// What Move makes of balances in the middle of all, which it can change by
		// 63 bits either way.
		const middle = 1 << 63
		from, to, err := t.Move(l.issuer, middle, middle)
		if err != nil {
			return nil, false
		}
		for _, side := range [...]struct {
			account string
			after   uint64
		}{{t.From, from}, {t.To, to}} {
			f := flows[side.account]
			if f == nil {
				f = new(flow)
				flows[side.account] = f
			}
			f.net += int64(side.after - middle)
			f.least, f.most = min(f.least, f.net), max(f.most, f.net)
		}
	}
	return flows, len(ids) == len(transfers)
}

// evenSQL moves a whole batch in one statement: it locks the accounts that are
// there and can bear their part of the batch at every step, in the order of
// their names; inserts the transfers if that is all of the accounts, and if the
// lease is still the latest; and changes the balances if all of them were new.
// That the names are given twice keeps the planner from reading all accounts,
// of which it may know little. The caller learns the three counts, and commits when they are what they should
// be.
const evenSQL = `
	WITH fence AS (
		SELECT epoch FROM settlement_state WHERE id = 1 AND (epoch = CAST($6 AS BIGINT) AND holder = $14 OR epoch = 0) FOR UPDATE
	), ready AS (
		SELECT a.name FROM ledger_accounts AS a, ` + flowsOfBatch + `
		WHERE a.name = ANY(CAST($7 AS TEXT)::TEXT[]) AND a.name = v.name
			AND a.balance + v.least >= 0 AND a.balance + v.most <= 18446744073709551615
		ORDER BY a.name FOR UPDATE OF a
	), moved AS (` + insertTransfers + `
		WHERE (SELECT count(*) FROM fence) >= CAST($11 AS BIGINT) AND (SELECT count(*) FROM ready) = CAST($12 AS BIGINT)
		ON CONFLICT (id) DO NOTHING RETURNING 1
	), changed AS (
		UPDATE ledger_accounts AS a SET balance = a.balance + v.net
		FROM ` + flowsOfBatch + `
		WHERE a.name = ANY(CAST($7 AS TEXT)::TEXT[]) AND a.name = v.name
			AND (SELECT count(*) FROM moved) = CAST($13 AS BIGINT)
		RETURNING 1
	)
	SELECT (SELECT count(*) FROM fence), (SELECT count(*) FROM moved), (SELECT count(*) FROM changed)`

const flowsOfBatch = `unnest(
		CAST($7 AS TEXT)::TEXT[], CAST($8 AS TEXT)::NUMERIC[], CAST($9 AS TEXT)::NUMERIC[], CAST($10 AS TEXT)::NUMERIC[]
	) AS v (name, net, least, most)`

// insertTransfers has the arguments of insertArgs.
const insertTransfers = `
	INSERT INTO ledger_transfers (id, from_account, to_account, amount, tag, epoch)
	SELECT v.id, v.from_account, v.to_account, v.amount, v.tag, CAST($6 AS BIGINT)
	FROM unnest(
		CAST($1 AS TEXT)::BYTEA[], CAST($2 AS TEXT)::TEXT[], CAST($3 AS TEXT)::TEXT[],
		CAST($4 AS TEXT)::NUMERIC(20,0)[], CAST($5 AS TEXT)::TEXT[]
	) AS v (id, from_account, to_account, amount, tag)`

func insertArgs(transfers []*settlement.Transfer, lease settlement.Lease) []any {
	var id, from, to, amount, tag sqldb.Array
	for _, t := range transfers {
		id.Bytes(t.ID[:])
		from.Text(t.From)
		to.Text(t.To)
		amount.Uint(t.Amount)
		tag.Text(t.Tag)
	}
	return []any{id.String(), from.String(), to.String(), amount.String(), tag.String(), int64(lease.Epoch)}
}

// oneSQL is evenSQL for one transfer. It moves wholly or not at all, and so needs
// no transaction around it.
const oneSQL = `
	WITH ` + sqldb.Durable + `, fence AS (
		SELECT epoch FROM settlement_state WHERE id = 1 AND (epoch = CAST($6 AS BIGINT) AND holder = $10 OR epoch = 0) FOR UPDATE
	), ready AS (
		SELECT name FROM ledger_accounts
		WHERE name IN ($2, $3) AND balance BETWEEN 0 AND 18446744073709551615
			AND balance + ` + netOfOne + ` BETWEEN 0 AND 18446744073709551615
		ORDER BY name FOR UPDATE
	), moved AS (
		INSERT INTO ledger_transfers (id, from_account, to_account, amount, tag, epoch)
		SELECT $1, $2, $3, CAST($4 AS TEXT)::NUMERIC(20,0), $5, CAST($6 AS BIGINT)
		WHERE (SELECT count(*) FROM fence) >= CAST($9 AS BIGINT) AND (SELECT count(*) FROM ready) = 2
		ON CONFLICT (id) DO NOTHING RETURNING 1
	), changed AS (
		UPDATE ledger_accounts SET balance = balance + ` + netOfOne + `
		WHERE name IN ($2, $3) AND (SELECT count(*) FROM moved) = 1
		RETURNING 1
	)
	SELECT (SELECT count(*) FROM fence), (SELECT count(*) FROM moved), (SELECT count(*) FROM changed)
	FROM durable`

const netOfOne = `CASE WHEN name = $2 THEN CAST($7 AS BIGINT) ELSE CAST($8 AS BIGINT) END`

// postEven posts a batch that is all new and can be paid. It returns errUneven,
// and has done nothing, when it is not.
func (l *Ledger) postEven(ctx context.Context, lease settlement.Lease, transfers []settlement.Transfer, flows map[string]*flow) error {
	fences := 1
	if lease.IsZero() {
		fences = 0
	}
	var latest, moved, changed int
	counts := []any{&latest, &moved, &changed}
	judge := func(err error) error {
		switch {
		case err != nil:
			return err
		case latest < fences:
			return fenced(lease)
		case moved < len(transfers) || changed < len(flows):
			return errUneven
		}
		return nil
	}
	if len(transfers) == 1 {
		t := &transfers[0]
		return judge(sqldb.QueryRow(ctx, l.db, idle(lease), counts, oneSQL,
			t.ID[:], sqldb.Text(t.From), sqldb.Text(t.To), number(t.Amount), sqldb.Text(t.Tag), int64(lease.Epoch),
			flows[t.From].net, flows[t.To].net, fences, sqldb.Text(lease.Holder)))
	}
	var name, net, least, most sqldb.Array
	for _, account := range slices.Sorted(maps.Keys(flows)) {
		f := flows[account]
		name.Text(account)
		net.Int(f.net)
		least.Int(f.least)
		most.Int(f.most)
	}
	args := append(insertArgs(sortedByID(transfers), lease), name.String(), net.String(), least.String(), most.String(),
		fences, len(flows), len(transfers), sqldb.Text(lease.Holder))
	return sqldb.Run(ctx, l.db, idle(lease), func(tx *sql.Tx) error {
		return judge(tx.QueryRowContext(ctx, evenSQL, args...).Scan(counts...))
	})
}
