package main

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/match"
	"github.com/computemarket/computemarket/workload"
)

var (
	killCycles = flag.Int("kills", 30, "how often TestKill kills the node")
	killSeed   = flag.Uint64("killseed", 0, "seed of TestKill; 0 takes one from the clock")
)

// The node is killed at random moments while jobs are submitted, matched, run and
// settled and bundles are sent and forwarded. Whatever was acknowledged is there
// in the end, and paid once.
func TestKill(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-killseed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	if *killCycles >= maxPrice {
		t.Fatalf("at most %d kills", maxPrice-1)
	}

	peerDir := newDir(t)
	peer := startNode(t, peerDir)
	dir := newDir(t, "capacity_shards=100000", "courier_peer=http://"+peer.addr+"/courier",
		"courier_peer_token_file="+filepath.Join(peerDir, "courier_token"), "log_level=error")
	const issued = 10_000_000
	do(t, dir, "credits", "issue", "alice", fmt.Sprint(issued))
	do(t, dir, "settlement", "arm")

	c := &crashClient{acked: make(map[string]bool), token: tokenOf(t, dir)}
	cycles := *killCycles
	if testing.Short() {
		cycles = min(cycles, 5)
	}
	for cycle := range cycles {
		if rng.IntN(5) == 0 { // on its way up
			cmd := command(dir, "run")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rng.Int64N(int64(60 * time.Millisecond))))
			cmd.Process.Kill()
			cmd.Wait()
			continue
		}
		n := startProcess(t, dir)
		conserved(t, n.addr)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() { c.jobs(ctx, n.addr, fmt.Sprintf("j%d-%d", cycle, i), maxPrice-uint64(cycle)) })
		}
		wg.Go(func() { c.bundles(ctx, n.addr, cycle) })
		time.Sleep(time.Duration(rng.Int64N(int64(120 * time.Millisecond))))
		n.kill()
		cancel()
		wg.Wait()
	}

	n := startProcess(t, dir)
	do(t, dir, "offer", "bob", "1000000", fmt.Sprint(maxPrice)) // for those that are left
	var jobs, bundles uint64
	for what := range c.sent {
		if !c.acked[what.id] { // its answer was lost, and nobody knows
			if err := what.send(t.Context(), n.addr, c.token); err != nil {
				t.Fatal(err)
			}
		}
		if what.job {
			jobs++
		} else {
			bundles++
		}
	}
	t.Logf("%d kills, %d jobs, %d bundles, %d acknowledged before", cycles, jobs, bundles, len(c.acked))
	if jobs == 0 || bundles == 0 {
		t.Fatal("nothing was under way")
	}
	eventually(t, "all settled", func() bool {
		s := conserved(t, n.addr)
		return s.Applied == jobs && s.Owed == 0
	})
	for what := range c.sent {
		var j jobResult
		if !what.job {
			continue
		}
		if err := rpc(t.Context(), n.addr, "", "job_status", idParams{what.id}, &j); err != nil || j.State != "done" {
			t.Errorf("%s: %+v, %v", what.id, j, err)
		}
	}
	var report flushResult
	if err := rpc(t.Context(), n.addr, c.token, "courier_flush", none{}, &report); err != nil || report.Remaining > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	s := conserved(t, n.addr)
	if s.Failed > 0 || s.Outstanding != issued+bundles {
		t.Errorf("%+v", s)
	}
	var there courierResult
	if err := rpc(t.Context(), peer.addr, "", "courier_status", none{}, &there); err != nil || there.Pending != bundles {
		t.Errorf("the peer has %+v, want %d bundles (%v)", there, bundles, err)
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	paid := oneReceiptEach(t, dir, c)
	want := map[string]uint64{"alice": issued - paid, "bob": paid, "node": bundles}
	for _, b := range s.Balances {
		if b.Balance != want[b.Account] {
			t.Errorf("%s has %d, want %d", b.Account, b.Balance, want[b.Account])
		}
	}
}

// oneReceiptEach reads the log itself, and returns what its receipts ask for.
func oneReceiptEach(t *testing.T, dir string, c *crashClient) (total uint64) {
	cfg, err := readConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	n, err := openNode(t.Context(), dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	receipts := make(map[string]int)
	for rec, err := range n.receipts.After(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		j, ok := match.ParseJob(rec.JobID)
		if !ok || rec.DryRun {
			t.Errorf("receipt %+v", rec)
		}
		receipts[j.Bid]++
		total += rec.QuotePrice
	}
	for what := range c.sent {
		if what.job && receipts[bidID(what.id, 0)] != 1 {
			t.Errorf("job %s has %d receipts", what.id, receipts[bidID(what.id, 0)])
		}
	}
	return total
}

// conserved asks for the status and checks that no credit came or went.
func conserved(t *testing.T, addr string) settlementResult {
	t.Helper()
	var s settlementResult
	if err := rpc(t.Context(), addr, "", "settlement_status", none{}, &s); err != nil {
		t.Fatal(err)
	}
	var sum uint64
	for _, b := range s.Balances {
		sum += b.Balance
	}
	if sum != s.Outstanding || s.Mode != settlement.Real {
		t.Fatalf("balances are %d in all: %+v", sum, s)
	}
	return s
}

// crashClient remembers what it sent and what was acknowledged.
type crashClient struct {
	token string

	mu    sync.Mutex
	all   []thing
	acked map[string]bool
}

type thing struct {
	job bool
	id  string
}

func (c *crashClient) sent(yield func(thing) bool) {
	for _, what := range c.all {
		if !yield(what) {
			return
		}
	}
}

// maxPrice is what every slice bids.
const maxPrice = 1000

// jobs submits one after the other. Offers are small and become cheaper, so that
// a slice that is wrongly matched again after a restart meets another offer, and
// gets another receipt.
func (c *crashClient) jobs(ctx context.Context, addr, prefix string, price uint64) {
	for i := 0; ; i++ {
		if i%4 == 0 {
			rpc(ctx, addr, c.token, "offer_post", offerParams{ // acknowledged or not
				ID: fmt.Sprintf("%s-%d-offer", prefix, i), Provider: "bob", Lane: admission.Consumer, Units: 4, Price: price,
			}, &offer{})
		}
		if !c.try(ctx, addr, thing{true, fmt.Sprintf("%s-%d", prefix, i)}) {
			return
		}
	}
}

func (c *crashClient) bundles(ctx context.Context, addr string, cycle int) {
	for i := 0; ; i++ {
		id := courier.ID{byte(cycle >> 8), byte(cycle), byte(i >> 8), byte(i)}
		if !c.try(ctx, addr, thing{false, hex.EncodeToString(id[:])}) {
			return
		}
		if i%8 == 7 {
			var report flushResult
			rpc(ctx, addr, c.token, "courier_flush", none{}, &report) // or the next one
		}
	}
}

func (c *crashClient) try(ctx context.Context, addr string, what thing) bool {
	c.mu.Lock()
	c.all = append(c.all, what)
	c.mu.Unlock()
	if what.send(ctx, addr, c.token) != nil {
		return false
	}
	c.mu.Lock()
	c.acked[what.id] = true
	c.mu.Unlock()
	return true
}

func (w thing) send(ctx context.Context, addr, auth string) error {
	content := []byte("content of " + w.id)
	if w.job {
		price := uint64(maxPrice)
		return rpc(ctx, addr, auth, "job_submit", jobParams{
			ID: w.id, Buyer: "alice", Lane: admission.Consumer, Kind: workload.Transcode, Price: &price,
			Slices: []sliceParams{{Content: &content}},
		}, &jobResult{})
	}
	return rpc(ctx, addr, auth, "courier_send", sendParams{ID: w.id, Sender: "alice", Content: &content}, &bundleResult{})
}
