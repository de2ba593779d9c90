package postgrestest

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/computemarket/computemarket/internal/sqldb"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
)

const (
	buyers    = 1000
	providers = 100
)

// benchMarket is a market that is Real, with rich buyers.
func benchMarket(b *testing.B) (*sql.DB, *market) {
	b.Helper()
	ctx := context.Background()
	db := openDB(b, sharedServer(b), newSchema())
	m, err := openMarket(ctx, db, nil)
	if err != nil {
		b.Fatal(err)
	}
	var rich []settlement.Transfer
	for i := range buyers {
		rich = append(rich, settlement.Transfer{ID: settlement.ID{1, byte(i), byte(i >> 8)}, From: "issuer", To: buyer(i), Amount: 1 << 40})
	}
	if _, err := m.ledger.Post(ctx, settlement.Lease{}, rich); err != nil {
		b.Fatal(err)
	}
	return db, m
}

func buyer(i int) string { return fmt.Sprintf("buyer-%d", i%buyers) }

func benchReceipts(from, n int) []receipt.Receipt {
	rs := make([]receipt.Receipt, n)
	for i := range rs {
		k := from + i
		rs[i] = receipt.New(fmt.Sprintf("job-%08d", k), buyer(k), fmt.Sprintf("provider-%d", k%providers), 1, issued)
	}
	return rs
}

// bare inserts rows as those of ledger_transfers into a table like it, in one
// statement that commits by itself.
type bare struct {
	db *sql.DB
	n  uint64
}

func newBare(b *testing.B, db *sql.DB) *bare {
	if _, err := db.Exec(`CREATE TABLE bare (LIKE ledger_transfers INCLUDING ALL)`); err != nil {
		b.Fatal(err)
	}
	return &bare{db: db}
}

func (f *bare) insert(b *testing.B, rs []receipt.Receipt) time.Duration {
	start := time.Now()
	var id, from, to, amount, tag sqldb.Array
	for i := range rs {
		t := settlement.TransferFor(&rs[i])
		f.n++
		binary.BigEndian.PutUint64(t.ID[24:], f.n)
		id.Bytes(t.ID[:])
		from.Text(t.From)
		to.Text(t.To)
		amount.Uint(t.Amount)
		tag.Text(t.Tag)
	}
	if _, err := f.db.Exec(`INSERT INTO bare (id, from_account, to_account, amount, tag, epoch)
		SELECT v.*, 1 FROM unnest(CAST($1 AS TEXT)::BYTEA[], CAST($2 AS TEXT)::TEXT[], CAST($3 AS TEXT)::TEXT[],
			CAST($4 AS TEXT)::NUMERIC(20,0)[], CAST($5 AS TEXT)::TEXT[]) AS v`,
		id.String(), from.String(), to.String(), amount.String(), tag.String()); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

func benchmarkSettle(b *testing.B, size int) {
	ctx := context.Background()
	db, m := benchMarket(b)
	floor := newBare(b, db)
	var base time.Duration
	n := 0
	step := func() {
		rs := benchReceipts(n, size)
		n += size
		if _, err := m.receipts.Append(ctx, rs); err != nil {
			b.Fatal(err)
		}
		base += floor.insert(b, rs)
	}
	settle := func() {
		if done, err := m.engine.Settle(ctx); err != nil || done.Applied != size {
			b.Fatal(done, err)
		}
	}
	for range max(4, 2000/size) { // plans, pages and connections
		step()
		settle()
	}
	if _, err := db.Exec(`ANALYZE`); err != nil { // as autovacuum does, within a minute
		b.Fatal(err)
	}
	base = 0
	for b.Loop() {
		b.StopTimer()
		step()
		b.StartTimer()
		settle()
	}
	b.ReportMetric(float64(base)/float64(b.Elapsed()), "xfloor")
	b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "settled/s")
}

// BenchmarkSettleSingle settles one receipt at a time, from appended to durably
// settled, against one bare insert of its transfer.
func BenchmarkSettleSingle(b *testing.B) { benchmarkSettle(b, 1) }

// BenchmarkSettleBatch settles 8,192 receipts at a time, against one bare
// multi-row insert of their transfers.
func BenchmarkSettleBatch(b *testing.B) { benchmarkSettle(b, 8192) }
