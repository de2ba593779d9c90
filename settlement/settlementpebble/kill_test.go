package settlementpebble_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/computemarket/computemarket/internal/dbtest"
	"github.com/computemarket/computemarket/internal/kv"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptpebble"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/settlement/settlementpebble"
	"github.com/computemarket/computemarket/settlement/settlementtest"
)

var killCycles = flag.Int("kills", 200, "how often TestKill kills the process")

const (
	childDir   = "SETTLEMENT_KILL_DIR"
	childStart = "SETTLEMENT_KILL_START"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		start, _ := strconv.Atoi(os.Getenv(childStart))
		fmt.Fprintln(os.Stderr, settleForEver(dir, start, os.Stdout))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// openOnDisk opens a market that is Real.
func openOnDisk(ctx context.Context, dir string) (*market, error) {
	db, err := dbtest.Open(dir, &kv.Options{MemTableBytes: 64 << 10})
	if err != nil {
		return nil, err
	}
	m := &market{close: db.Close}
	var e1, e2, e3 error
	m.receipts, e1 = receiptpebble.New(db, nil)
	m.ledger, e2 = settlementpebble.NewLedger(db, nil)
	m.store, e3 = settlementpebble.NewStore(db, nil)
	if err := errors.Join(e1, e2, e3); err != nil {
		return nil, err
	}
	issue := settlement.Transfer{ID: settlement.ID{1}, From: "issuer", To: "buyer", Amount: 1 << 40}
	if _, err := m.ledger.Post(ctx, settlement.Lease{}, []settlement.Transfer{issue}); err != nil {
		return nil, err
	}
	if err := m.open(ctx, 0); err != nil {
		return nil, err
	}
	if m.engine.Mode() == settlement.DryRun {
		if err := m.engine.Arm(ctx, settlement.After(0)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func killed(i int) receipt.Receipt {
	return receipt.New(fmt.Sprintf("job-%d", i), "buyer", "provider", 1, issued)
}

// settleForEver is the child: it appends and settles receipts from number start
// on, and says on out what was acknowledged: "a 7" appended, "s 7" settled.
func settleForEver(dir string, start int, out io.Writer) error {
	ctx := context.Background()
	m, err := openOnDisk(ctx, dir)
	if err != nil {
		return err
	}
	for i := start; ; i++ {
		// The last one once more: it may be there or not.
		if _, err := m.receipts.Append(ctx, []receipt.Receipt{killed(i), killed(max(i-1, 0))}); err != nil {
			return err
		}
		fmt.Fprintln(out, "a", i)
		if _, err := m.engine.Settle(ctx); err != nil {
			return err
		}
		fmt.Fprintln(out, "s", i)
	}
}

func TestKill(t *testing.T) {
	cycles := *killCycles
	if testing.Short() {
		cycles = 10
	}
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	start, worked := 0, 0
	for cycle := range cycles {
		appended, settled := runAndKill(t, dir, start, time.Duration(rng.IntN(25_000))*time.Microsecond)
		if appended >= start {
			worked++
		}
		if err := survived(t.Context(), dir, appended, settled, cycle%50 == 0 || cycle == cycles-1); err != nil {
			t.Fatalf("cycle %d, appended up to %d, settled up to %d: %v", cycle, appended, settled, err)
		}
		start = max(start, appended)
	}
	if worked < cycles/4 {
		t.Errorf("only %d of %d children lived long enough to work", worked, cycles)
	}
	t.Logf("%d kills, %d of them at work, %d receipts", cycles, worked, start)
}

// runAndKill starts a child, kills it some time after its first word, and
// returns the last numbers that it acknowledged, or start-1.
func runAndKill(t *testing.T, dir string, start int, after time.Duration) (appended, settled int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childStart+"="+strconv.Itoa(start))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	appended, settled = start-1, start-1
	lines := bufio.NewScanner(out)
	var kill *time.Timer
	for lines.Scan() {
		if kill == nil {
			kill = time.AfterFunc(after, func() { cmd.Process.Kill() })
		}
		var what string
		var i int
		if n, _ := fmt.Sscan(lines.Text(), &what, &i); n != 2 {
			continue // cut off by the kill
		}
		if what == "a" {
			appended = i
		} else {
			settled = i
		}
	}
	cmd.Wait()
	if stderr.Len() > 0 {
		t.Fatalf("the child failed: %s", stderr.String())
	}
	return appended, settled
}

// survived checks what was acknowledged last, and, if all is set, everything.
func survived(ctx context.Context, dir string, appended, settled int, all bool) error {
	m, err := openOnDisk(ctx, dir)
	if err != nil {
		return err
	}
	defer m.close()
	from := max(appended-50, 0)
	if all {
		from = 0
	}
	for i := from; i <= appended; i++ {
		r := killed(i)
		if _, err := m.receipts.Get(ctx, r.Key); err != nil {
			return fmt.Errorf("receipt %d: %w", i, err)
		}
		if is, err := m.settled(ctx, &r); err != nil || !is && i <= settled {
			return fmt.Errorf("receipt %d is settled: %v, %v", i, is, err)
		}
	}
	if err := settlementtest.Conserved(ctx, m.ledger); err != nil {
		return err
	}
	if !all {
		return nil
	}
	if _, err := m.engine.Settle(ctx); err != nil {
		return err
	}
	return m.consistent(ctx, 0)
}
