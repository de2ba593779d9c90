package courier_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/computemarket/computemarket/courier"
)

var sweep = flag.Bool("sweep", false, "longer tests of crashes and kills")

// TestMain runs the child of TestKill in place of the tests when it is told to.
func TestMain(m *testing.M) {
	if dir := os.Getenv("COURIER_TEST_DIR"); dir != "" {
		if err := child(dir, os.Getenv("COURIER_TEST_URL")); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child sends and flushes until it is killed. It prints the ID of each receipt
// that Send returned.
func child(dir, url string) error {
	n, err := openNode(vfs.Default, filepath.Join(dir, "db"), courier.DirBundles(filepath.Join(dir, "bundles")))
	if err != nil {
		return err
	}
	f, err := courier.NewHTTPForwarder(url, nil)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		var wg sync.WaitGroup
		for j := range 6 {
			wg.Go(func() {
				r, err := n.Send(context.Background(), strings.NewReader(fmt.Sprint("bundle ", i, j%3)), "child")
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				os.Stdout.WriteString("sent " + r.ID.String() + "\n")
			})
		}
		if _, err := n.Flush(context.Background(), f); err != nil {
			return err
		}
		wg.Wait()
	}
}

// inbox is a peer that keeps receipts in memory.
type inbox struct {
	mu       sync.Mutex
	receipts map[courier.ID]courier.Receipt
	repeated int
}

func (in *inbox) Known(_ context.Context, id courier.ID) (courier.Receipt, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	r, ok := in.receipts[id]
	if !ok {
		return r, courier.ErrNotFound
	}
	in.repeated++
	return r, nil
}

func (in *inbox) Accept(_ context.Context, r courier.Receipt, bundle io.Reader) error {
	if bundle != nil {
		if _, err := io.Copy(io.Discard, bundle); err != nil {
			return err
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.receipts == nil {
		in.receipts = map[courier.ID]courier.Receipt{}
	}
	in.receipts[r.ID] = r
	return nil
}

// A process that sends, flushes and earns is killed again and again. What it
// said was sent arrives and is credited once.
func TestKill(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	if *sweep {
		rounds = 200
	}
	var peer inbox
	handler, err := courier.NewHandler(&peer, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	dir := t.TempDir()
	sent := map[courier.ID]bool{}
	for range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "COURIER_TEST_DIR="+dir, "COURIER_TEST_URL="+server.URL)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for after := rand.IntN(60); lines.Scan(); after-- {
			if after == 0 {
				cmd.Process.Kill() // what it has printed by then is still read
			}
			id, ok := strings.CutPrefix(lines.Text(), "sent ")
			if !ok {
				t.Errorf("the child says: %s", lines.Text())
				break
			}
			if id, err := courier.ParseID(id); err == nil { // else cut off by the kill
				sent[id] = true
			}
		}
		cmd.Wait()
	}

	bundles := courier.DirBundles(filepath.Join(dir, "bundles"))
	defer bundles.Close()
	n, err := openNode(vfs.Default, filepath.Join(dir, "db"), bundles)
	if err != nil {
		t.Fatal(err)
	}
	defer n.db.Close()
	f, err := courier.NewHTTPForwarder(server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before, err := n.ledger.credited()
	if err != nil {
		t.Fatal(err)
	}
	for id := range before {
		if _, ok := peer.receipts[id]; !ok {
			t.Errorf("%v was credited and never delivered", id)
		}
	}
	if r, err := n.Flush(t.Context(), f); err != nil || r.Remaining+r.Damaged+r.Rejected > 0 {
		t.Fatalf("the last flush: %+v, %v", r, err)
	}
	credited, err := n.ledger.credited()
	if err != nil {
		t.Fatal(err)
	}
	for id := range sent {
		r, err := n.Get(t.Context(), id)
		if err != nil || !r.Acknowledged() || !credited[id] {
			t.Errorf("%v was sent: %v, %v, credited: %v", id, r.State, err, credited[id])
		}
		if _, ok := peer.receipts[id]; !ok {
			t.Errorf("%v was sent and never delivered", id)
		}
	}
	counts, err := n.Count(t.Context())
	if err != nil || int(counts.Acknowledged) != len(credited) || len(credited) != len(peer.receipts) {
		t.Errorf("%+v, %v: %d credits, %d delivered", counts, err, len(credited), len(peer.receipts))
	}
	if _, err := n.Prune(t.Context(), 0); err != nil {
		t.Error(err)
	}
	for h, err := range bundles.All(t.Context()) {
		t.Errorf("a bundle stays: %v, %v", h, err)
	}
	t.Logf("%d sent in %d lives, %d delivered, %d again", len(sent), rounds, len(peer.receipts), peer.repeated)
	if len(sent) == 0 {
		t.Error("nothing was sent")
	}
}
