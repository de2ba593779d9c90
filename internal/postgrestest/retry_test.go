package postgrestest

import (
	"database/sql"
	"strings"
	"sync"
	"testing"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/settlement"
)

// Two transactions that lock two rows in opposite order both come through.
func TestDeadlockIsTriedAgain(t *testing.T) {
	ctx, db := t.Context(), openDB(t, sharedServer(t), newSchema())
	if _, err := db.Exec(`CREATE TABLE pair (id INTEGER PRIMARY KEY, n INTEGER NOT NULL); INSERT INTO pair VALUES (0, 0), (1, 0)`); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup // meet once, between the two locks
	both.Add(2)
	var wg sync.WaitGroup
	var mu sync.Mutex
	tries := 0
	for first := range 2 {
		wg.Go(func() {
			met := false
			err := sqldb.Run(ctx, db, sqldb.Idle, func(tx *sql.Tx) error {
				mu.Lock()
				tries++
				mu.Unlock()
				if _, err := tx.Exec(`UPDATE pair SET n = n + 1 WHERE id = $1`, first); err != nil {
					return err
				}
				if !met {
					met = true
					both.Done()
					both.Wait()
				}
				_, err := tx.Exec(`UPDATE pair SET n = n + 1 WHERE id = $1`, 1-first)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var sum int
	if err := db.QueryRow(`SELECT sum(n) FROM pair`).Scan(&sum); err != nil || sum != 4 || tries < 3 {
		t.Errorf("sum %d after %d tries, %v", sum, tries, err)
	}
}

// An operator may have made SERIALIZABLE the default.
func TestSerializationFailureIsTriedAgain(t *testing.T) {
	ctx, s, schema := t.Context(), sharedServer(t), newSchema()
	openDB(t, s, schema)
	db, err := connect(s.URL(schema) + "&default_transaction_isolation=serializable")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l, err := newLedger(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	for i, to := range []string{"a", "b"} {
		if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: settlement.ID{1, byte(i)}, From: "issuer", To: to, Amount: 1000}}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for caller := range 3 {
		wg.Go(func() {
			for i := range 30 {
				if _, err := l.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: settlement.ID{2, byte(caller), byte(i)}, From: "a", To: "b", Amount: 1}}); err != nil {
					t.Errorf("caller %d, %d: %v", caller, i, err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := l.Balance(ctx, "b"); err != nil || got != 1000+3*30 {
		t.Errorf("b has %d, %v", got, err)
	}
	if !strings.Contains(s.Log(), "could not serialize access") {
		t.Error("nothing had to be tried again")
	}
}
