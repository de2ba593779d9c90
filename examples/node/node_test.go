package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creachadair/jrpc2"

	"github.com/computemarket/computemarket/admission"
	"github.com/computemarket/computemarket/settlement"
	"github.com/computemarket/computemarket/workload"
)

// From a first start to a settled receipt, with a restart between each two steps.
func TestEndToEnd(t *testing.T) {
	for name, start := range map[string]func(*testing.T, string) *running{
		"in process": startNode, "as a process": startProcess,
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			restart := func(n *running) *running {
				t.Helper()
				if err := n.stop(); err != nil {
					t.Fatal(err)
				}
				return start(t, dir)
			}
			n := start(t, dir)
			do(t, dir, "credits", "issue", "alice", "1000")
			n = restart(n)
			do(t, dir, "settlement", "arm")
			eventually(t, "real", func() bool {
				return doJSON[settlementResult](t, dir, "settlement", "status").Mode == settlement.Real
			})
			n = restart(n)

			// The bid stands through a restart before it is met, and the offer too.
			j := doJSON[jobResult](t, dir, "job", "submit", "--id", "j", "--buyer", "alice", "--price", "30", sample, sample)
			if j.State != "open" || j.Slices[0].State != "waiting" {
				t.Fatalf("%+v", j)
			}
			n = restart(n)
			do(t, dir, "offer", "--id", "o", "bob", "1", "20")
			eventually(t, "one slice settled", func() bool {
				j = doJSON[jobResult](t, dir, "job", "status", "j")
				return j.Slices[0].Settled && j.Slices[1].State == "waiting"
			})
			n = restart(n)
			do(t, dir, "offer", "--id", "o2", "carol", "9", "25")
			eventually(t, "both slices settled", func() bool {
				j = doJSON[jobResult](t, dir, "job", "status", "j")
				return j.Slices[0].Settled && j.Slices[1].Settled
			})
			n = restart(n)
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}

			// The same on the data dir of the stopped node.
			j = doJSON[jobResult](t, dir, "job", "status", "j")
			for i, want := range []struct {
				provider string
				price    uint64
			}{{"bob", 20}, {"carol", 25}} {
				s := j.Slices[i]
				if s.Provider != want.provider || s.Price != want.price || s.Reference.String() != sampleProof(t) {
					t.Errorf("slice %d: %+v", i, s)
				}
			}
			status := doJSON[settlementResult](t, dir, "settlement", "status")
			if status.Applied != 2 || status.Owed != 0 || status.Failed != 0 || status.Outstanding != 1000 {
				t.Errorf("%+v", status)
			}
			want := []balance{{"alice", 955}, {"bob", 20}, {"carol", 25}}
			for i, b := range status.Balances {
				if b != want[i] {
					t.Errorf("balance %+v, want %+v", b, want[i])
				}
			}
			bands := doJSON[struct{ Bands bandsResult }](t, dir, "prices").Bands
			if bands.Prices != 2 || bands.Median != 25 || bands.P25 != 20 {
				t.Errorf("bands %+v", bands)
			}
			if _, err := os.Stat(filepath.Join(dir, addressName)); !os.IsNotExist(err) {
				t.Errorf("the address outlives the node: %v", err)
			}
		})
	}
}

// A reference that the work does not give: nobody is paid, and the offer stands.
func TestWrongReference(t *testing.T) {
	dir := newDir(t)
	startNode(t, dir)
	do(t, dir, "credits", "issue", "alice", "100")
	do(t, dir, "settlement", "arm")
	do(t, dir, "offer", "--id", "o", "bob", "5", "1")
	wrong := strings.Repeat("0", 63) + "1"
	j := doJSON[jobResult](t, dir, "job", "submit", "--id", "bad", "--buyer", "alice", "--price", "1",
		"--reference", wrong, "--wait", sample)
	if j.State != "failed" || !strings.Contains(j.Slices[0].Reason, "does not match the reference") {
		t.Fatalf("%+v", j)
	}
	j = doJSON[jobResult](t, dir, "job", "submit", "--buyer", "alice", "--price", "1",
		"--reference", sampleProof(t), "--wait", sample)
	if j.State != "done" {
		t.Fatalf("%+v", j)
	}
	status := doJSON[settlementResult](t, dir, "settlement", "status")
	if status.Applied != 1 || status.Outstanding != 100 {
		t.Fatalf("%+v", status)
	}
}

// A buyer without credits reverts settlement to dry run; the receipt is archived,
// and paid when it is asked for again.
func TestPoorBuyer(t *testing.T) {
	dir := newDir(t)
	startNode(t, dir)
	do(t, dir, "settlement", "arm")
	do(t, dir, "offer", "bob", "5", "7")
	do(t, dir, "job", "submit", "--id", "j", "--buyer", "poor", "--price", "7", sample)
	eventually(t, "reverted", func() bool {
		s := doJSON[settlementResult](t, dir, "settlement", "status")
		return s.Mode == settlement.DryRun && s.Failed == 1
	})
	failures := doJSON[failuresResult](t, dir, "settlement", "failures").Failures
	if len(failures) != 1 || failures[0].Reason != settlement.ReasonInsufficient {
		t.Fatalf("%+v", failures)
	}
	key := failures[0].Receipt.Key.String()
	if _, errs, code := tryDo(t, dir, "settlement", "retry", key); code != 1 || !strings.Contains(errs, "not in this mode") {
		t.Fatalf("retry in dry run: %d %s", code, errs)
	}
	do(t, dir, "credits", "issue", "poor", "10")
	do(t, dir, "settlement", "arm")
	do(t, dir, "settlement", "retry", key)
	if b := doJSON[balance](t, dir, "credits", "balance", "bob"); b.Balance != 7 {
		t.Fatalf("bob has %+v", b)
	}
}

func TestCancelAndExpire(t *testing.T) {
	dir := newDir(t)
	n := startNode(t, dir)
	do(t, dir, "job", "submit", "--id", "j", "--buyer", "alice", "--price", "5", sample, sample)
	do(t, dir, "offer", "--id", "o", "bob", "5", "9") // too dear
	if c := doJSON[cancelResult](t, dir, "cancel", "j"); c.Units != 2 {
		t.Fatalf("%+v", c)
	}
	do(t, dir, "cancel", "o")
	do(t, dir, "job", "submit", "--id", "brief", "--for", "1s", "--buyer", "alice", "--price", "5", sample)
	eventually(t, "expired", func() bool {
		j := doJSON[jobResult](t, dir, "job", "status", "brief")
		return j.State == "failed" && j.Slices[0].Reason == "expired"
	})
	// What the jobs held is given back at once, long before the leases end.
	var a admissionResult
	if err := rpc(t.Context(), n.addr, "", "admission_status", none{}, &a); err != nil || a.Leased > 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	n.stop()
	n = startNode(t, dir)
	for id, want := range map[string]string{"j": "cancelled", "brief": "failed"} {
		if j := doJSON[jobResult](t, dir, "job", "status", id); j.State != want {
			t.Errorf("%s after a restart: %+v", id, j)
		}
	}
	if err := rpc(t.Context(), n.addr, "", "admission_status", none{}, &a); err != nil {
		t.Fatal(err)
	}
	for _, l := range a.Lanes {
		if l.Bids+l.Asks > 0 || a.Leased > 0 {
			t.Errorf("after a restart: %+v", a)
		}
	}
}

// What is sent again under the same id happened once.
func TestRepeats(t *testing.T) {
	dir := newDir(t)
	startNode(t, dir)
	for range 2 {
		do(t, dir, "credits", "issue", "--id", "first", "alice", "10")
		do(t, dir, "credits", "transfer", "--id", "first", "alice", "bob", "4")
		do(t, dir, "offer", "--id", "o", "bob", "5", "9")
		do(t, dir, "job", "submit", "--id", "j", "--buyer", "alice", "--price", "5", sample)
		do(t, dir, "compute", "courier", "send", "--id", strings.Repeat("ab", 16), sample, "alice")
	}
	for _, other := range [][]string{
		{"credits", "issue", "--id", "first", "alice", "11"},
		{"offer", "--id", "o", "bob", "6", "9"},
		{"offer", "--id", "j", "bob", "5", "9"},
		{"job", "submit", "--id", "j", "--buyer", "alice", "--price", "6", sample},
		{"compute", "courier", "send", "--id", strings.Repeat("ab", 16), sample, "bob"},
	} {
		if out, errs, code := tryDo(t, dir, other...); code != 1 || errs == "" {
			t.Errorf("%q: exit %d %s%s", other, code, out, errs)
		}
	}
	if b := doJSON[balance](t, dir, "credits", "balance", "alice"); b.Balance != 6 {
		t.Errorf("alice has %+v", b)
	}
	if c := doJSON[courierResult](t, dir, "compute", "courier", "list"); c.Pending != 1 {
		t.Errorf("%+v", c)
	}
}

func TestPage(t *testing.T) {
	dir := newDir(t, "comfort_threshold_p90=30")
	n := startNode(t, dir)
	do(t, dir, "credits", "issue", "<b>alice</b>", "1000")
	do(t, dir, "offer", "bob", "5", "20")
	do(t, dir, "job", "submit", "--wait", "--buyer", "<b>alice</b>", "--price", "30", sample)
	for path, want := range map[string]string{
		"/":        "&lt;b&gt;alice&lt;/b&gt;",
		"/healthz": "ok\n",
	} {
		resp, err := http.Get("http://" + n.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(text), want) {
			t.Errorf("%s: %d %v %s", path, resp.StatusCode, err, text)
		}
		if strings.Contains(string(text), "<b>") || strings.Contains(string(text), "src=") {
			t.Errorf("%s: not escaped, or with assets of others", path)
		}
	}
}

// A refusal says why, in a word for programs and a sentence for people, and
// leaves nothing behind.
func TestNotAdmitted(t *testing.T) {
	dir := newDir(t, "capacity_shards=1", "job_time_limit=60")
	n := startNode(t, dir)
	content := []byte("x")
	price := uint64(1)
	p := jobParams{
		ID: "j", Buyer: "alice", Lane: admission.Industrial, Kind: workload.Transcode, Price: &price,
		Slices: []sliceParams{{Content: &content}, {Content: &content}},
	}
	err := rpc(t.Context(), n.addr, tokenOf(t, dir), "job_submit", p, &jobResult{})
	e, ok := errors.AsType[*jrpc2.Error](err)
	if !ok || e.Code != codeAdmission || e.Message != "not admitted: too_large" ||
		!strings.Contains(string(e.Data), `"code":"too_large"`) {
		t.Fatalf("%v %+v", err, e)
	}
	p.Slices = p.Slices[:1]
	if err := rpc(t.Context(), n.addr, tokenOf(t, dir), "job_submit", p, &jobResult{}); err != nil {
		t.Fatal(err)
	}
	p.ID = "another"
	err = rpc(t.Context(), n.addr, tokenOf(t, dir), "job_submit", p, &jobResult{})
	if e, ok := errors.AsType[*jrpc2.Error](err); !ok || e.Code != codeAdmission || !strings.Contains(e.Message, "try again in") {
		t.Fatalf("%v", err)
	}
	values, _ := scrape(t, n.addr)
	if values["industrial_admitted_total"] != "1" || values["industrial_deferred_total"] != "2" {
		t.Errorf("%s admitted, %s deferred", values["industrial_admitted_total"], values["industrial_deferred_total"])
	}
}

// An armed node waits, through a restart too, and can be told otherwise.
func TestArmed(t *testing.T) {
	dir := newDir(t)
	n := startNode(t, dir)
	if out := do(t, dir, "settlement", "arm", "--delay", "1h"); !strings.Contains(out, "armed") || !strings.Contains(out, "becomes real") {
		t.Error(out)
	}
	n.stop()
	startNode(t, dir)
	s := doJSON[settlementResult](t, dir, "settlement", "status")
	if s.Mode != settlement.Armed || s.Activation == nil {
		t.Fatalf("%+v", s)
	}
	if s := doJSON[settlementResult](t, dir, "settlement", "cancel-arm"); s.Mode != settlement.DryRun {
		t.Fatalf("%+v", s)
	}
	do(t, dir, "settlement", "arm", "--height", "5")
	do(t, dir, "settlement", "height", "4")
	if s := doJSON[settlementResult](t, dir, "settlement", "height", "5"); s.Mode != settlement.Real {
		t.Fatalf("%+v", s)
	}
	if s := doJSON[settlementResult](t, dir, "settlement", "dry-run", "--reason", "a pause"); s.Mode != settlement.DryRun || s.Reason != "a pause" {
		t.Fatalf("%+v", s)
	}
}

// A full lane refuses, and the node starts again, also with less room than before.
func TestFullLane(t *testing.T) {
	dir := newDir(t, "book_capacity=2")
	n := startNode(t, dir)
	do(t, dir, "offer", "--id", "a", "bob", "1", "9")
	do(t, dir, "job", "submit", "--id", "j", "--buyer", "alice", "--price", "1", sample)
	if _, errs, code := tryDo(t, dir, "offer", "--id", "b", "bob", "1", "9"); code != 1 || !strings.Contains(errs, "lane is full") {
		t.Errorf("exit %d %s", code, errs)
	}
	j := doJSON[jobResult](t, dir, "job", "submit", "--id", "k", "--buyer", "alice", "--price", "1", sample)
	if j.State != "failed" || !strings.Contains(j.Slices[0].Reason, "lane is full") {
		t.Errorf("%+v", j)
	}
	n.stop()
	config := filepath.Join(dir, configName)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = keyLine("book_capacity").ReplaceAll(text, []byte("book_capacity = 1"))
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	startNode(t, dir)
	if j := doJSON[jobResult](t, dir, "job", "status", "j"); j.State != "failed" {
		t.Errorf("%+v", j)
	}
}

// With less capacity than before, restored jobs go on; those that admission does
// not take yet come before any new one.
func TestRestoredJobsAreCharged(t *testing.T) {
	dir := newDir(t, "capacity_shards=3")
	n := startNode(t, dir)
	submit := func(id string, slices ...string) (string, int) {
		args := []string{"job", "submit", "--id", id, "--buyer", "buyer-of-" + id, "--lane", "industrial", "--price", "1"}
		_, errs, code := tryDo(t, dir, append(args, slices...)...)
		return errs, code
	}
	for i, id := range []string{"j1", "j2"} {
		if errs, code := submit(id, []string{sample, sample}[:i+1]...); code != 0 {
			t.Fatal(errs)
		}
	}
	n.stop()
	config := filepath.Join(dir, configName)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = keyLine("capacity_shards").ReplaceAll(text, []byte("capacity_shards = 2"))
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	startNode(t, dir)
	for _, id := range []string{"j1", "j2"} {
		if errs, code := submit("new", sample); code == 0 || !strings.Contains(errs, "not admitted: capacity, try again") {
			t.Errorf("beside %s: exit %d %s", id, code, errs)
		}
		if j := doJSON[jobResult](t, dir, "job", "status", id); j.State != "open" {
			t.Errorf("%+v", j)
		}
		do(t, dir, "cancel", id)
	}
	if errs, code := submit("new", sample); code != 0 {
		t.Error(errs)
	}
}

// SIGTERM amid traffic: exit 0, the board saved, and what was acknowledged is there.
func TestTerminate(t *testing.T) {
	dir := newDir(t, "capacity_shards=100000")
	do(t, dir, "credits", "issue", "alice", "1000000")
	do(t, dir, "settlement", "arm")
	do(t, dir, "offer", "bob", "1000000", "3")
	n := startProcess(t, dir)
	c := &crashClient{acked: make(map[string]bool), token: tokenOf(t, dir)}
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { c.jobs(t.Context(), n.addr, fmt.Sprint("j", i), 3) })
	}
	eventually(t, "settled", func() bool { return conserved(t, n.addr).Applied > 20 })
	if err := n.signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	bands := doJSON[struct{ Bands bandsResult }](t, dir, "prices").Bands
	status := doJSON[settlementResult](t, dir, "settlement", "status")
	if bands.Prices < 20 || bands.Median != 3 || status.Owed != 0 {
		t.Errorf("%+v, %+v", bands, status)
	}
	restarted := startNode(t, dir)
	for id := range c.acked {
		var j jobResult
		if err := rpc(t.Context(), restarted.addr, "", "job_status", idParams{id}, &j); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}
