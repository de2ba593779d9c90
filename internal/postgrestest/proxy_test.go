package postgrestest

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriersql"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
)

// trap is what a proxy does with the next message of the client that matters.
type trap struct {
	next   atomic.Int32
	sprung chan struct{}
}

func (t *trap) set(f fault) { t.next.Store(int32(f)) }

// behindProxy returns a pool of one connection, which goes through a proxy with
// a trap for the messages that which accepts.
func behindProxy(t *testing.T, which func([]byte) bool) (*sql.DB, *trap) {
	t.Helper()
	s, schema := sharedServer(t), newSchema()
	openDB(t, s, schema)
	p, next := newProxy(t, s.Addr()), &trap{sprung: make(chan struct{}, 1)}
	p.pick = func(b []byte) fault {
		if next.next.Load() == int32(pass) || !which(b) {
			return pass
		}
		f := fault(next.next.Swap(int32(pass)))
		select {
		case next.sprung <- struct{}{}:
		default:
		}
		return f
	}
	db, err := connect(URL(p.Addr().String(), schema))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	return db, next
}

func TestAnswerOfCommitLost(t *testing.T) {
	ctx := t.Context()
	db, next := behindProxy(t, isCommit)
	m, err := openMarket(ctx, db, nil)
	if err != nil {
		t.Fatal(err)
	}
	rs := []receipt.Receipt{numbered(1), numbered(2)}

	next.set(cutBefore)
	if _, err := m.receipts.Append(ctx, rs); !errors.Is(err, receipt.ErrUnknown) {
		t.Fatalf("Append whose commit was lost: %v", err)
	}
	if _, err := m.receipts.Get(ctx, rs[0].Key); !errors.Is(err, receipt.ErrNotFound) {
		t.Fatalf("Get: %v", err)
	}
	next.set(loseAnswer)
	if _, err := m.receipts.Append(ctx, rs); !errors.Is(err, receipt.ErrUnknown) {
		t.Fatalf("Append whose answer was lost: %v", err)
	}
	if _, err := m.receipts.Get(ctx, rs[1].Key); err != nil {
		t.Fatalf("Get: %v", err)
	}
	if statuses, err := m.receipts.Append(ctx, rs); err != nil || statuses[0] != receipt.Duplicate || statuses[1] != receipt.Duplicate {
		t.Fatalf("Append again: %v, %v", statuses, err)
	}

	issue := []settlement.Transfer{
		{ID: settlement.ID{1}, From: "issuer", To: "buyer", Amount: 10},
		{ID: settlement.ID{2}, From: "issuer", To: "provider", Amount: 10},
	}
	next.set(loseAnswer)
	if results, err := m.ledger.Post(ctx, settlement.Lease{}, issue); !errors.Is(err, settlement.ErrUnknown) || len(results) != 0 {
		t.Fatalf("Post whose answer was lost: %v, %v", results, err)
	}
	if results, err := m.ledger.Post(ctx, settlement.Lease{}, issue); err != nil || results[0] != settlement.Duplicate {
		t.Fatalf("Post again: %v, %v", results, err)
	}

	// The engine resolves it by itself.
	lease, state, err := m.store.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []fault{loseAnswer, cutBefore} {
		state.Failed++
		failure := settlement.Failure{Seq: state.Failed, Receipt: numbered(int(state.Failed)), Reason: settlement.ReasonInsufficient, At: issued}
		next.set(f)
		if err := m.store.Save(ctx, lease, settlement.Change{State: state, Put: []settlement.Failure{failure}}); err != nil {
			t.Fatalf("Save: %v", err)
		}
		if next.next.Load() != int32(pass) {
			t.Fatal("nothing was lost")
		}
		for f, err := range m.store.Failures(ctx, state.Failed) {
			if err != nil || f.Seq != state.Failed {
				t.Fatalf("%+v, %v", f, err)
			}
		}
	}
	next.set(loseAnswer)
	if _, _, err := m.store.Acquire(ctx); !errors.Is(err, settlement.ErrUnknown) {
		t.Fatalf("Acquire whose answer was lost: %v", err)
	}
	_, again, err := m.store.Acquire(ctx)
	if err != nil || again != state {
		t.Fatalf("Acquire: %+v, %v, want %+v", again, err, state)
	}
}

// A call that is cancelled while its COMMIT is under way has an unknown outcome,
// and says so.
func TestCancelledInCommit(t *testing.T) {
	db, next := behindProxy(t, isCommit)
	m, err := openMarket(t.Context(), db, nil)
	if err == nil {
		err = couriersql.Migrate(t.Context(), db)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := couriersql.New(t.Context(), db, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]struct {
		do   func(context.Context) error
		want error
	}{
		"receiptsql.Append": {func(ctx context.Context) error {
			_, err := m.receipts.Append(ctx, []receipt.Receipt{numbered(1)})
			return err
		}, receipt.ErrUnknown},
		"settlementsql.Post": {func(ctx context.Context) error {
			return posted(m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue(0, "a"), issue(1, "b")}))
		}, settlement.ErrUnknown},
		"couriersql.Append": {func(ctx context.Context) error {
			_, err := c.Append(ctx, courier.Receipt{ID: courier.ID{1}, Sender: "a", SentAt: issued})
			return err
		}, courier.ErrUnknown},
	} {
		next.set(freeze)
		ctx, cancel := context.WithCancel(t.Context())
		answer := make(chan error, 1)
		go func() { answer <- call.do(ctx) }()
		<-next.sprung
		cancel()
		if err := <-answer; !errors.Is(err, call.want) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A statement that commits by itself.
func TestAnswerOfStatementLost(t *testing.T) {
	ctx := t.Context()
	db, next := behindProxy(t, func([]byte) bool { return true })
	m, err := openMarket(ctx, db, nil)
	if err != nil {
		t.Fatal(err)
	}
	transfer := func(i int) []settlement.Transfer {
		return []settlement.Transfer{{ID: settlement.ID{1, byte(i)}, From: "issuer", To: "buyer", Amount: 1}}
	}
	for i := range 3 { // and the statement is prepared
		if _, err := m.ledger.Post(ctx, settlement.Lease{}, transfer(i)); err != nil {
			t.Fatal(err)
		}
	}
	next.set(loseAnswer)
	if results, err := m.ledger.Post(ctx, settlement.Lease{}, transfer(7)); !errors.Is(err, settlement.ErrUnknown) || len(results) != 0 {
		t.Fatalf("Post whose answer was lost: %v, %v", results, err)
	}
	if results, err := m.ledger.Post(ctx, settlement.Lease{}, transfer(7)); err != nil || results[0] != settlement.Duplicate {
		t.Fatalf("Post again: %v, %v", results, err)
	}
	lease, state, err := m.store.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		state.Cursor++
		if err := m.store.Save(ctx, lease, settlement.Change{State: state}); err != nil {
			t.Fatal(err)
		}
	}
	state.Cursor = 99
	next.set(loseAnswer)
	if err := m.store.Save(ctx, lease, settlement.Change{State: state}); err != nil {
		t.Fatal(err)
	}
	_, again, err := m.store.Acquire(ctx)
	if err != nil || again != state {
		t.Fatalf("Acquire: %+v, %v, want %+v", again, err, state)
	}
}

func TestCourierAnswerLost(t *testing.T) {
	ctx := t.Context()
	db, next := behindProxy(t, isCommit)
	if err := couriersql.Migrate(ctx, db); err != nil {
		t.Fatal(err)
	}
	s, err := couriersql.New(ctx, db, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := courier.Receipt{ID: courier.ID{1}, Sender: "a", SentAt: issued}
	next.set(loseAnswer)
	if _, err := s.Append(ctx, r); !errors.Is(err, courier.ErrUnknown) {
		t.Fatalf("Append whose answer was lost: %v", err)
	}
	stored, err := s.Append(ctx, r)
	if err != nil || stored.Seq != 1 {
		t.Fatalf("Append again: %+v, %v", stored, err)
	}
	move := []courier.Move{{Receipt: stored, To: courier.Acknowledged, At: issued}}
	next.set(loseAnswer)
	if _, err := s.Move(ctx, move); !errors.Is(err, courier.ErrUnknown) {
		t.Fatalf("Move whose answer was lost: %v", err)
	}
	if n, err := s.Move(ctx, move); err != nil || n != 0 {
		t.Fatalf("Move again: %d, %v", n, err)
	}
	if c, err := s.Count(ctx); err != nil || c != (courier.Counts{Acknowledged: 1}) {
		t.Fatalf("Count: %+v, %v", c, err)
	}
}

// An engine that is paused between its statements and COMMIT keeps the others
// from taking over for no longer than a lease.
func TestPausedInTransaction(t *testing.T) {
	ctx := t.Context()
	const term = 300 * time.Millisecond
	db, next := behindProxy(t, isCommit)
	first, err := openMarket(ctx, db, &settlementsql.StoreOptions{Lease: term})
	if err != nil {
		t.Fatal(err)
	}
	var schema string
	if err := db.QueryRow(`SELECT current_schema()`).Scan(&schema); err != nil {
		t.Fatal(err)
	}
	second, err := prepareMarket(ctx, openDB(t, sharedServer(t), schema), &settlementsql.StoreOptions{Lease: term})
	if err != nil {
		t.Fatal(err)
	}
	lease, _, err := first.store.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	next.set(freeze)
	posted := make(chan error, 1)
	go func() {
		_, err := first.ledger.Post(ctx, lease, []settlement.Transfer{
			{ID: settlement.ID{1}, From: "issuer", To: "buyer", Amount: 10},
			{ID: settlement.ID{2}, From: "issuer", To: "provider", Amount: 10},
		})

		posted <- err
	}()
	<-next.sprung
	limit, cancel := context.WithTimeout(ctx, 20*term)
	defer cancel()
	if _, _, err := second.acquire(limit); err != nil {
		t.Fatal(err)
	}
	if err := <-posted; err == nil {
		t.Error("the paused engine posted")
	}
	if sum, err := second.ledger.Balance(ctx, "provider"); err != nil || sum != 0 {
		t.Errorf("the paused engine moved %d, %v", sum, err)
	}
}

// TestDroppingProxy lets a load run over connections that are cut at random,
// before a message or after it.
func TestDroppingProxy(t *testing.T) {
	const want = 60 // lost connections
	s, schema := sharedServer(t), newSchema()
	direct := openDB(t, s, schema)
	p := newProxy(t, s.Addr())
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	rng, on, lost, commits := rand.New(rand.NewPCG(seed, 0)), false, 0, 0
	p.pick = func(b []byte) fault {
		mu.Lock()
		defer mu.Unlock()
		odds := 30
		if isCommit(b) {
			odds = 4
		}
		if !on || rng.IntN(odds) > 0 {
			return pass
		}
		lost++
		if rng.IntN(3) == 0 {
			return cutBefore
		}
		if isCommit(b) {
			commits++
		}
		return loseAnswer
	}
	db, err := connect(URL(p.Addr().String(), schema))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	m, err := openMarket(t.Context(), db, &settlementsql.StoreOptions{Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoad(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	on = true
	mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.run(ctx) }()
	for range l.progress {
		mu.Lock()
		if lost >= want {
			on = false
		}
		more := on
		mu.Unlock()
		if !more {
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := m.engine.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.check(t.Context(), direct, l.appended.Load(), l.appended.Load()); err != nil {
		t.Fatal(err)
	}
	if l.unknown.Load() == 0 || commits == 0 {
		t.Error("no answer was lost")
	}
	t.Logf("%d connections lost, %d behind a COMMIT, %d receipts, %d failed calls, %d of them unknown",
		lost, commits, l.appended.Load(), l.failed.Load(), l.unknown.Load())
}
