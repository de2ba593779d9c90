package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Two nodes carry for each other: what one sends, the other has, with the sender's
// name and the bundle itself, and each is rewarded for what it forwarded.
func TestCourierBothWays(t *testing.T) {
	a, b := newDir(t), newDir(t)
	nodes := map[string]*running{a: startNode(t, a), b: startNode(t, b)}
	for i, from := range []string{a, b} {
		to := []string{b, a}[i]
		bundle := filepath.Join(t.TempDir(), "bundle.bin")
		if err := os.WriteFile(bundle, []byte("from "+from), 0o600); err != nil {
			t.Fatal(err)
		}
		do(t, from, "compute", "courier", "send", bundle, "alice of "+from)
		r := doJSON[flushResult](t, from, "compute", "courier", "flush",
			"--to", "http://"+nodes[to].addr+"/courier", "--token-file", filepath.Join(to, "courier_token"))
		// The second has what came from the first besides. The first has handed that
		// on, and so takes it again: it cannot promise that somebody else holds it.
		if r.Forwarded != uint64(1+i) || r.Remaining != 0 {
			t.Fatalf("%+v", r)
		}
		if bal := doJSON[balance](t, from, "credits", "balance", "node"); bal.Balance != r.Forwarded {
			t.Errorf("%+v", bal)
		}
		there := doJSON[courierResult](t, to, "compute", "courier", "list")
		if there.Pending != uint64(1+i) || !slices.ContainsFunc(there.Receipts, func(b bundleResult) bool {
			return b.Sender == "alice of "+from && b.Size > 0
		}) {
			t.Errorf("%+v", there)
		}
	}
}

// A peer that is down leaves all as it was; the flush after it came up pays once.
func TestPeerDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	peer := newDir(t, "listen="+addr)
	dir := newDir(t, "courier_peer=http://"+addr+"/courier", "courier_attempts=2", "courier_backoff_ms=1",
		"courier_peer_token_file="+filepath.Join(peer, "courier_token"))
	if _, err := openToken(filepath.Join(peer, "courier_token")); err != nil {
		t.Fatal(err)
	}
	do(t, dir, "compute", "courier", "send", sample, "alice") // on the data dir
	n := startNode(t, dir)
	_, errs, code := tryDo(t, dir, "compute", "courier", "flush")
	if code != 1 || !strings.Contains(errs, "did not take 1 of them") {
		t.Fatalf("exit %d %s", code, errs)
	}
	values, _ := scrape(t, n.addr)
	if values["courier_flush_attempt_total"] != "2" || values["courier_flush_failure_total"] != "2" {
		t.Errorf("attempts %s, failures %s", values["courier_flush_attempt_total"], values["courier_flush_failure_total"])
	}
	if c := doJSON[courierResult](t, dir, "compute", "courier", "list"); c.Pending != 1 {
		t.Errorf("%+v", c)
	}
	startNode(t, peer)
	for _, forwarded := range []uint64{1, 0} {
		if r := doJSON[flushResult](t, dir, "compute", "courier", "flush"); r.Forwarded != forwarded {
			t.Errorf("%+v", r)
		}
		if bal := doJSON[balance](t, dir, "credits", "balance", "node"); bal.Balance != 1 {
			t.Errorf("%+v", bal)
		}
	}
}

// A long flush tells how far it is.
func TestProgress(t *testing.T) {
	release := make(chan struct{})
	peer := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer peer.Close()
	dir := newDir(t, "courier_attempts=1")
	startNode(t, dir)
	do(t, dir, "compute", "courier", "send", sample, "alice")
	told := make(chan string, 1)
	c := &cli{ctx: t.Context(), dir: dir, out: io.Discard, progress: writerFunc(func(b []byte) {
		select {
		case told <- string(b):
			close(release)
		default:
		}
	})}
	if err := (flushCommand{To: peer.URL}).Run(c); err == nil {
		t.Error("the peer took it")
	}
	if line := <-told; line != "forwarded 0, failed 0, pending 1\n" {
		t.Error(line)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}
