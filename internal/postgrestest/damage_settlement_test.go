package postgrestest

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
)

// damagedMarket is a ledger on which the issuer gave 100 each to a, b and c, and
// a state with three failures.
func damagedMarket(t *testing.T) (l *settlementsql.Ledger, st *settlementsql.Store, each func(table, where string, check func(*testing.T, damage))) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	db.SetMaxOpenConns(1)
	l, err := newLedger(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	st, err = settlementsql.NewStore(ctx, db, &settlementsql.StoreOptions{Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for i, to := range []string{"a", "b", "c"} {
		if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(i, to)}); err != nil {
			t.Fatal(err)
		}
	}
	lease, state, err := st.Acquire(ctx)
	if err == nil {
		err = st.Save(ctx, lease, settlement.Change{State: state, Put: []settlement.Failure{failed(1), failed(2), failed(3)}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return l, st, func(table, where string, check func(*testing.T, damage)) { eachDamage(t, db, table, where, check) }
}

func issue(i int, to string) settlement.Transfer {
	return settlement.Transfer{ID: settlement.ID{1, byte(i)}, From: "issuer", To: to, Amount: 100, Tag: "t"}
}

func failed(i int) settlement.Failure {
	return settlement.Failure{Seq: uint64(i), Receipt: numbered(i), Reason: settlement.ReasonInsufficient, Detail: "d", At: issued, Tries: 1}
}

func TestDamagedAccounts(t *testing.T) {
	l, _, each := damagedMarket(t)
	harmless := legal{"balance": true,
		"name = 'other'": true, "name = 'dead'": true, "name = 'acknowledged'": true, "name = 'armed'": true}
	each("ledger_accounts", "name = 'b'", func(t *testing.T, d damage) {
		ctx := t.Context()
		got := map[string]uint64{}
		var last error
		for a, err := range l.Accounts(ctx) {
			if last = err; err == nil {
				got[a.Name] = a.Balance
			}
		}
		if got["a"] != 100 || got["c"] != 100 || (last == nil) != harmless.has(d) || last != nil && !errors.Is(last, settlement.ErrCorrupt) {
			t.Errorf("Accounts: %v, %v", got, last)
		}
		if ts := []settlement.Transfer{{ID: settlement.ID{2}, From: "a", To: "c", Amount: 1}}; posted(l.Post(ctx, settlement.Lease{}, ts)) != nil {
			t.Errorf("between the others: %v", posted(l.Post(ctx, settlement.Lease{}, ts)))
		}
	})
}

// A balance that the table's own check would refuse.
func TestDamagedBalance(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	l, err := newLedger(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(0, "a"), issue(1, "b"), issue(2, "c")}); err != nil {
		t.Fatal(err)
	}
	run(t, db, `ALTER TABLE ledger_accounts DROP CONSTRAINT ledger_accounts_balance_check`)
	for i, value := range []string{"'NaN'", "-5", "18446744073709551616"} {
		run(t, db, `UPDATE ledger_accounts SET balance = `+value+` WHERE name = 'b'`)
		if _, err := l.Balance(ctx, "b"); !errors.Is(err, settlement.ErrCorrupt) {
			t.Errorf("%s: Balance: %v", value, err)
		}
		id := byte(i)
		for _, touch := range []settlement.Transfer{
			{ID: settlement.ID{3, id}, From: "b", To: "a", Amount: 7}, {ID: settlement.ID{4, id}, From: "a", To: "b", Amount: 7},
		} {
			around := []settlement.Transfer{
				{ID: settlement.ID{5, id, touch.ID[0]}, From: "a", To: "c", Amount: 1}, touch, {ID: settlement.ID{6, id, touch.ID[0]}, From: "a", To: "c", Amount: 1},
			}
			results, err := l.Post(ctx, settlement.Lease{}, around)
			if !errors.Is(err, settlement.ErrCorrupt) || !slices.Equal(results, []settlement.Result{settlement.Applied}) {
				t.Errorf("%s: Post around it: %v, %v", value, results, err)
			}
			if results, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{touch}); !errors.Is(err, settlement.ErrCorrupt) || len(results) > 0 {
				t.Errorf("%s: Post: %v, %v", value, results, err)
			}
		}
		if err := l.Check(ctx); !errors.Is(err, settlement.ErrCorrupt) {
			t.Errorf("%s: Check: %v", value, err)
		}
	}
}

func TestDamagedTransfers(t *testing.T) {
	l, _, each := damagedMarket(t)
	// It is another transfer then, which nobody can tell from one that was posted.
	other := legal{"amount": true, "from_account": true, "to_account": true, "tag": true}
	unread := legal{"epoch": true, "posted_at": true}
	broken := legal{"chr(1)": true, "'a' || chr(1) || 'z'": true, "repeat('x', 300)": true, "repeat('x', 3000)": true}
	each("ledger_transfers", `id = '\x0101' || decode(repeat('00', 30), 'hex')`, func(t *testing.T, d damage) {
		ctx := t.Context()
		got, ok, gerr := l.Transfer(ctx, issue(1, "b").ID)
		perr := posted(l.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(1, "b")}))
		switch corrupt := broken[d.value] || d.value == "''" && d.column != "tag"; {
		case unread[d.column]:
			if !ok || got != issue(1, "b") || gerr != nil || perr != nil {
				t.Errorf("Transfer: %+v, %v, %v, Post: %v", got, ok, gerr, perr)
			}
		case d.column == "id": // nobody knows any more which it was
			if ok || gerr != nil || perr != nil {
				t.Errorf("Transfer: %v, %v, Post: %v", ok, gerr, perr)
			}
		case other[d.column] && !corrupt:
			if !ok || gerr != nil || !errors.Is(perr, settlement.ErrConflict) {
				t.Errorf("Transfer: %v, %v, Post: %v", ok, gerr, perr)
			}
		default:
			if ok || !errors.Is(gerr, settlement.ErrCorrupt) || !errors.Is(perr, settlement.ErrCorrupt) {
				t.Errorf("Transfer: %v, %v, Post: %v", ok, gerr, perr)
			}
		}
		results, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(0, "a"), issue(9, "b"), issue(2, "c")})
		if !slices.Equal(results, []settlement.Result{settlement.Duplicate, settlement.Applied, settlement.Duplicate}) || err != nil {
			t.Errorf("the others: %v, %v", results, err)
		}
	})
}

func TestDamagedArchive(t *testing.T) {
	_, st, each := damagedMarket(t)
	harmless := legal{
		"dry_run": true, "failed_at_nanos = 0": true, "issued_at_nanos = 0": true, "issued_at = '0001-01-01 00:00:00+00'": true,
		"failed_at = '4713-01-01 00:00:00+00 BC'": true, "failed_at = '0001-01-01 00:00:00+00'": true, "failed_at = '294276-12-31 23:59:59+00'": true,
		"tries = 0": true, "tries = 1000": true, "tries = 70000": true, "tries = 2147483647": true,
		"seq = 0": true, "seq = 7": true, "seq = 18446744073709551615": true,
	}
	broken := legal{"chr(1)": true, "'a' || chr(1) || 'z'": true}
	each("settlement_failures", "seq = 2", func(t *testing.T, d damage) {
		ctx := t.Context()
		sound := harmless.has(d) || (d.column == "reason" || d.column == "detail") && !broken[d.value]
		met := map[uint64]bool{}
		var last error
		for f, err := range st.Failures(ctx, 0) {
			if last = err; err == nil {
				met[f.Seq] = true
			}
		}
		want := map[uint64]bool{1: true, 3: true}
		switch {
		case d.column == "seq":
			if len(met) < 2 || (last == nil) != sound {
				t.Errorf("Failures: %v, %v", met, last)
			}
		case sound:
			if want[2] = true; last != nil || !maps.Equal(met, want) {
				t.Errorf("Failures: %v, %v", met, last)
			}
		default:
			if !errors.Is(last, settlement.ErrCorrupt) || !maps.Equal(met, want) {
				t.Errorf("Failures: %v, %v", met, last)
			}
		}
	})
}

// The engine's own row is all that it has: it is sound, or it is ErrCorrupt.
func TestDamagedState(t *testing.T) {
	_, st, each := damagedMarket(t)
	each("settlement_state", "id = 1", func(t *testing.T, d damage) {
		_, state, err := st.Load(t.Context())
		_, _, aerr := st.Acquire(t.Context())
		held := errors.As(aerr, new(*settlement.HeldError)) && (d.column == "holder" || d.column == "lease_until")
		if err == nil && (aerr != nil && !held) || err != nil && !errors.Is(err, settlement.ErrCorrupt) || err != nil && !errors.Is(aerr, settlement.ErrCorrupt) {
			t.Errorf("Load: %v, Acquire: %v", err, aerr)
		}
		switch d.column {
		case "holder", "lease_until", "epoch": // of the lease
		case "revision": // as if a node of the first release had written the columns
			if err == nil && state != (settlement.State{}) {
				t.Errorf("state %+v", state)
			}
		default:
			if err == nil && state != (settlement.State{}) {
				t.Errorf("a changed %s passes: %+v", d.column, state)
			}
		}
	})
}

func TestDamagedIssuer(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	if _, err := newLedger(ctx, db); err != nil {
		t.Fatal(err)
	}
	eachDamage(t, db, "ledger", "id = 1", func(t *testing.T, d damage) {
		want := settlement.ErrSchema
		if d.value == "chr(1)" || d.value == "'a' || chr(1) || 'z'" {
			want = settlement.ErrCorrupt
		}
		if _, err := settlementsql.NewLedger(ctx, db, nil); !errors.Is(err, want) {
			t.Errorf("NewLedger: %v", err)
		}
	})
}
