package postgrestest

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementsql"
)

const (
	childRole    = "POSTGRESTEST_CHILD" // the child's name
	childURL     = "POSTGRESTEST_URL"
	processLease = time.Second
)

// runChild is a node: it waits for the lease, settles as long as it leads, and
// says so on standard output.
func runChild(name string) error {
	ctx := context.Background()
	db, err := connect(os.Getenv(childURL))
	if err != nil {
		return err
	}
	m, err := prepareMarket(ctx, db, &settlementsql.StoreOptions{Lease: processLease, Name: name})
	if err != nil {
		return err
	}
	fmt.Println("waits 0")
	opts := &settlement.Options{Interval: 5 * time.Millisecond, BatchSize: 3, Leading: func(ctx context.Context) error {
		<-ctx.Done() // as long as this node leads
		fmt.Println("fenced 0")
		os.Exit(0)
		return nil
	}}
	e, err := settlement.Open(ctx, m.receipts, m.ledger, sayingStore{m.store}, opts)
	if err != nil {
		return err
	}
	return e.Run(ctx)
}

// sayingStore says which epoch it got.
type sayingStore struct{ *settlementsql.Store }

func (s sayingStore) Acquire(ctx context.Context) (settlement.Lease, settlement.State, error) {
	lease, state, err := s.Store.Acquire(ctx)
	if err == nil {
		fmt.Println("leads", lease.Epoch)
	}
	return lease, state, err
}

// node is a child process.
type node struct {
	name string
	cmd  *exec.Cmd
}

// event is a line that a node said, or its end.
type event struct {
	node  *node
	what  string
	epoch uint64
}

func startNode(t *testing.T, name, url string, events chan<- event) *node {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"="+name, childURL+"="+url)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	n := &node{name, cmd}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			e := event{node: n}
			if k, _ := fmt.Sscan(lines.Text(), &e.what, &e.epoch); k == 2 {
				events <- e
			}
		}
		cmd.Wait()
		events <- event{node: n, what: "ended " + stderr.String()}
	}()
	return n
}

// TestTwoNodes kills or pauses the node that leads, again and again, while
// receipts come in.
func TestTwoNodes(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 4
	}
	ctx, s, schema := t.Context(), sharedServer(t), newSchema()
	db := openDB(t, s, schema)
	m, err := openMarket(ctx, db, &settlementsql.StoreOptions{Lease: processLease})
	if err == nil {
		_, err = m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{{ID: settlement.ID{1}, From: "issuer", To: "buyer", Amount: 1 << 40}})
	}
	if err == nil {
		err = m.engine.Resign(ctx) // the nodes find an engine that is Real
	}
	if err != nil {
		t.Fatal(err)
	}
	stop := feed(t, m)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	events := make(chan event, 100)
	limit := time.After(2 * time.Minute)
	// until reads events up to the one that is wanted, of any node or of this one.
	until := func(what string, of *node) event {
		for {
			select {
			case e := <-events:
				if e.what == what && (of == nil || e.node == of) {
					return e
				}
				if strings.HasPrefix(e.what, "ended") && e.what != "ended " {
					t.Fatalf("%s %s", e.node.name, e.what)
				}
				if e.what == "leads" || e.what == "fenced" {
					t.Fatalf("%s %s %d, want %s", e.node.name, e.what, e.epoch, what)
				}
			case <-limit:
				t.Fatalf("no node %s", what)
			}
		}
	}
	names := 0
	start := func() *node {
		names++
		return startNode(t, fmt.Sprintf("node-%d", names), s.URL(schema), events)
	}
	start()
	leader := until("leads", nil)
	start()
	until("waits", nil)
	var slowest time.Duration
	for round := range rounds {
		<-time.After(time.Duration(rng.IntN(30_000)) * time.Microsecond)
		old := leader
		since := time.Now()
		if round%2 == 0 {
			old.node.cmd.Process.Kill()
		} else {
			old.node.cmd.Process.Signal(syscall.SIGSTOP)
		}
		leader = until("leads", nil)
		slowest = max(slowest, time.Since(since))
		if leader.node == old.node || leader.epoch <= old.epoch {
			t.Fatalf("%s leads epoch %d after %s in epoch %d", leader.node.name, leader.epoch, old.node.name, old.epoch)
		}
		if round%2 == 1 {
			old.node.cmd.Process.Signal(syscall.SIGCONT)
			until("fenced", old.node)
		}
		start()
		until("waits", nil)
	}
	n := stop()
	// The last leader settles the rest.
	for {
		var paid int64
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM ledger_transfers WHERE tag LIKE 'settle:%'`).Scan(&paid); err != nil {
			t.Fatal(err)
		}
		if paid == n {
			break
		}
		select {
		case <-limit:
			t.Fatalf("%d of %d receipts are settled", paid, n)
		case <-time.After(10 * time.Millisecond):
		}
	}
	l := &load{market: m}
	if err := l.check(ctx, db, n, n); err != nil {
		t.Fatal(err)
	}
	wantOneLeaderAtATime(t, db, leader.epoch)
	t.Logf("%d rounds, %d receipts, the slowest take-over %v after the fault, lease %v", rounds, n, slowest, processLease)
}

// feed appends receipts until the function that it returns is called, which
// tells how many.
func feed(t *testing.T, m *market) (stop func() int64) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var n atomic.Int64
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if _, err := m.receipts.Append(t.Context(), []receipt.Receipt{numbered(int(n.Load()))}); err != nil {
				t.Error(err)
				return
			}
			n.Add(1)
			<-tick.C
		}
	})
	return func() int64 {
		cancel()
		wg.Wait()
		return n.Load()
	}
}

// wantOneLeaderAtATime reads the log beside the transfers: along it, epochs only
// grow.
func wantOneLeaderAtATime(t *testing.T, db *sql.DB, last uint64) {
	t.Helper()
	rows, err := db.Query(`SELECT r.seq, l.epoch FROM receipts AS r JOIN ledger_transfers AS l ON l.id = r.receipt_key ORDER BY r.seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var epoch uint64
	leaders := 0
	for rows.Next() {
		var seq, e uint64
		if err := rows.Scan(&seq, &e); err != nil {
			t.Fatal(err)
		}
		if e < epoch || e > last {
			t.Fatalf("receipt %d was settled in epoch %d, after one in epoch %d; the last is %d", seq, e, epoch, last)
		}
		if e > epoch {
			epoch, leaders = e, leaders+1
		}
	}
	if err := rows.Err(); err != nil || leaders < 2 {
		t.Fatalf("%d leaders settled, %v", leaders, err)
	}
}
