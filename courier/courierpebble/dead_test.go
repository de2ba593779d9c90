package courierpebble_test

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
)

// refuses takes no receipt but one.
type refuses struct{ but courier.ID }

func (f refuses) Forward(_ context.Context, r courier.Receipt, b io.Reader) error {
	if r.ID != f.but {
		return courier.ErrRejected
	}
	_, err := io.Copy(io.Discard, b)
	return err
}

// The bundle of a dead receipt stays while others that share it are
// acknowledged and pruned and the store is reopened: requeued, it is forwarded.
// Discarded, it goes.
func TestBundleOfDeadReceiptStays(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	bundles := courier.DirBundles(filepath.Join(dir, "bundles"))
	defer bundles.Close()
	files := func() (n int) {
		t.Helper()
		for _, err := range bundles.All(ctx) {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	open := func() (*courierpebble.Store, *courier.Courier) {
		s, err := courierpebble.Open(filepath.Join(dir, "db"), nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := courier.New(s, &courier.Options{Bundles: bundles})
		if err != nil {
			t.Fatal(err)
		}
		return s, c
	}
	flush := func(c *courier.Courier, f courier.Forwarder, want courier.Report) {
		t.Helper()
		if got, err := c.Flush(ctx, f); got != want || err != nil {
			t.Fatalf("Flush: %+v, %v, want %+v", got, err, want)
		}
	}
	s, c := open()
	ids := []courier.ID{{1}, {2}, {3}}
	for _, id := range ids {
		if _, err := c.SendAs(ctx, id, strings.NewReader("shared"), "sender"); err != nil {
			t.Fatal(err)
		}
	}
	flush(c, refuses{but: ids[0]}, courier.Report{Forwarded: 1, Rejected: 2})
	for range 2 {
		if _, err := c.Prune(ctx, -1); err != nil {
			t.Fatal(err)
		}
		if n := files(); n != 1 {
			t.Fatalf("%d bundles kept, want the one of the dead", n)
		}
		s.Close()
		s, c = open()
	}
	defer s.Close()
	if n, err := c.Requeue(ctx, ids[1]); n != 1 || err != nil {
		t.Fatalf("Requeue: %d, %v", n, err)
	}
	flush(c, refuses{but: ids[1]}, courier.Report{Forwarded: 1})
	if n := files(); n != 1 {
		t.Fatalf("%d bundles kept, want the one of the last dead", n)
	}
	if n, err := c.Discard(ctx, ids[2]); n != 1 || err != nil {
		t.Fatalf("Discard: %d, %v", n, err)
	}
	if n := files(); n != 0 {
		t.Errorf("%d bundles kept that nobody needs", n)
	}
}
