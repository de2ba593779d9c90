package postgrestest

import (
	"context"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/computemarket/computemarket/settlement/settlementsql"
)

var crashes = flag.Int("crashes", 50, "how often TestServerCrashes ends the server")

// TestServerCrashes kills or stops PostgreSQL in mid-settle and starts it again,
// while one engine goes on. For more, go test -run ServerCrashes -crashes 200.
func TestServerCrashes(t *testing.T) {
	ends := *crashes
	if testing.Short() {
		ends = 5
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := Start(t)
	schema := newSchema()
	db := openDB(t, s, schema)
	m, err := openMarket(t.Context(), db, &settlementsql.StoreOptions{Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoad(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.run(ctx) }()
	defer cancel()
	for i := range ends {
		select {
		case <-l.progress: // perhaps of before the crash
			<-l.progress
		case err := <-done:
			t.Fatalf("after %d crashes: %v", i, err)
		}
		<-time.After(time.Duration(rng.IntN(5000)) * time.Microsecond)
		if i%4 == 3 {
			s.Stop()
		} else {
			s.Kill()
		}
		settled, appended := l.settled.Load(), l.appended.Load()
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		if err := l.check(ctx, openDB(t, s, schema), settled, appended); err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := m.engine.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.check(t.Context(), db, l.appended.Load(), l.appended.Load()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d crashes, %d receipts, %d failed calls, %d of them unknown", ends, l.appended.Load(), l.failed.Load(), l.unknown.Load())
}
