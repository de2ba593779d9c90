package main

import (
	"database/sql"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creachadair/jrpc2"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/internal/postgrestest"
	"github.com/computemarket/computemarket/receipt"
	"github.com/computemarket/computemarket/receipt/receiptsql"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/workload"
)

// Two nodes on one database. The first is killed in the middle of its work, and
// the second settles what it has left, nothing twice. Then the second is stopped
// in order and the first takes over again.
func TestTakeOver(t *testing.T) {
	server := postgrestest.Start(t)
	url := server.URL("")
	lease := []string{"database=" + url, "database_lease=4", "log_level=error", "capacity_shards=100000", "job_max_slices=1000"}
	dirA, dirB := newDir(t, lease...), newDir(t, lease...)
	a := startProcess(t, dirA)
	eventually(t, "A leads", func() bool { return get(t, a.addr, "/healthz") == "ok\n" })
	b := startProcess(t, dirB)

	// B stands by and says so. Its credits are those of all.
	do(t, dirA, "credits", "issue", "alice", "1000")
	if got := doJSON[balance](t, dirB, "credits", "balance", "alice"); got.Balance != 1000 {
		t.Errorf("B has %+v", got)
	}
	if got := get(t, b.addr, "/healthz"); got != "standby\n" {
		t.Errorf("B is %q", got)
	}
	if page := get(t, b.addr, "/"); !strings.Contains(page, "standby") {
		t.Error(page)
	}
	if s := doJSON[settlementResult](t, dirB, "settlement", "status"); !s.Standby || s.Leader == "" || s.Outstanding != 1000 {
		t.Errorf("B's status is %+v", s)
	}
	for _, args := range [][]string{
		{"settlement", "arm"}, {"settlement", "dry-run"}, {"offer", "bob", "1", "1"},
		{"job", "submit", "--buyer", "alice", "--price", "1", sample},
	} {
		if _, errs, code := tryDo(t, dirB, args...); code != 1 || errs != "node: "+strings.TrimPrefix(settlement.ErrStandby.Error(), "settlement: ")+"\n" {
			t.Errorf("B: %v: exit %d, %s", args, code, errs)
		}
	}

	do(t, dirA, "settlement", "arm")
	do(t, dirA, "offer", "--id", "o", "bob", "1000", "3")
	const count, price = 200, 3
	submitMany(t, a.addr, tokenOf(t, dirA), "j", count)
	eventually(t, "some settled", func() bool { return conserved(t, a.addr).Applied > 0 })
	a.kill()
	// Whatever A had settled, it leaves one more receipt that is owed.
	leaveReceipt(t, url, receipt.New("left", "alice", "carol", 7, time.Now()))

	eventually(t, "B leads", func() bool { return get(t, b.addr, "/healthz") == "ok\n" })
	var s settlementResult
	eventually(t, "B has settled what A left", func() bool {
		s = conserved(t, b.addr)
		return s.Owed == 0
	})
	paid := s.Applied - 1
	if paid == 0 || paid > count {
		t.Fatalf("%+v", s)
	}
	balances(t, s, map[string]uint64{"alice": 1000 - 7 - price*paid, "bob": price * paid, "carol": 7})

	// A starts again and stands by; B stops in order, and A goes on at once with
	// the slices that it had not run.
	a = startProcess(t, dirA)
	if got := get(t, a.addr, "/healthz"); got != "standby\n" {
		t.Errorf("A is %q", got)
	}
	// The database goes and comes back, which stops neither.
	server.Stop()
	eventually(t, "B knows", func() bool { return strings.HasPrefix(get(t, b.addr, "/healthz"), "ledger: ") })
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "B leads after the restart", func() bool { return get(t, b.addr, "/healthz") == "ok\n" })
	eventually(t, "A stands by after the restart", func() bool { return get(t, a.addr, "/healthz") == "standby\n" })
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "A leads again", func() bool { return get(t, a.addr, "/healthz") == "ok\n" })
	eventually(t, "all settled", func() bool {
		s = conserved(t, a.addr)
		return s.Applied == count+1 && s.Owed == 0
	})
	balances(t, s, map[string]uint64{"alice": 1000 - 7 - price*count, "bob": price * count, "carol": 7})
	if s.Failed > 0 || s.Outstanding != 1000 {
		t.Errorf("%+v", s)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}

	// The command line works on the data dir of a stopped node, and takes the lead
	// for that long. A gave the lease up, or B would be told to stand by.
	if s := doJSON[settlementResult](t, dirB, "settlement", "status"); s.Applied != count+1 || s.Mode != settlement.Real {
		t.Errorf("%+v", s)
	}
}

// The flag of run is written down at the first start. Another later is an error,
// and so is one for a node with data of its own.
func TestDatabaseFlag(t *testing.T) {
	refused := func(dir, want string) {
		t.Helper()
		_, errs, code := tryDo(t, dir, "run", "--database", "postgres://two@127.0.0.1:1/two")
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("exit %d, %s, want %s", code, errs, want)
		}
	}
	dir := newDir(t)
	refused(dir, "connection refused")
	if cfg, err := readConfig(dir); err != nil || cfg.Database != "postgres://two@127.0.0.1:1/two" {
		t.Errorf("%+v, %v", cfg, err)
	}
	refused(newDir(t, "database=postgres://one"), "names another database")
	dir = newDir(t)
	do(t, dir, "credits", "issue", "alice", "1")
	refused(dir, "has data of its own")
}

func leaveReceipt(t *testing.T, url string, r receipt.Receipt) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	log, err := receiptsql.New(t.Context(), db, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), []receipt.Receipt{r}); err != nil {
		t.Fatal(err)
	}
}

func submitMany(t *testing.T, addr, auth, id string, n int) {
	t.Helper()
	content, price := []byte("content"), uint64(5)
	p := jobParams{ID: id, Buyer: "alice", Lane: admission.Consumer, Kind: workload.Transcode, Price: &price}
	p.Slices = slices.Repeat([]sliceParams{{Content: &content}}, n)
	if err := rpc(t.Context(), addr, auth, "job_submit", p, &jobResult{}); err != nil {
		if e, ok := err.(*jrpc2.Error); ok {
			t.Fatal(e.Message)
		}
		t.Fatal(err)
	}
}

func balances(t *testing.T, s settlementResult, want map[string]uint64) {
	t.Helper()
	for _, b := range s.Balances {
		if b.Balance != want[b.Account] {
			t.Errorf("%s has %d, want %d", b.Account, b.Balance, want[b.Account])
		}
	}
	if len(s.Balances) != len(want) {
		t.Errorf("%+v", s.Balances)
	}
}

func get(t *testing.T, addr, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
