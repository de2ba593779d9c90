package courier_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"lukechampine.com/blake3"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriertest"
)

func TestSend(t *testing.T) {
	c := newCourier(t, new(couriertest.Model), nil)
	content := bytes.Repeat([]byte("0123456789"), 20_000)
	r, err := c.Send(t.Context(), iotest.OneByteReader(bytes.NewReader(content[:5000])), "s")
	if err != nil || r.Bundle != blake3.Sum256(content[:5000]) || r.Size != 5000 {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = c.Send(t.Context(), bytes.NewReader(content), "s")
	if err != nil || r.Bundle != blake3.Sum256(content) || r.Size != 200_000 || r.State != courier.Pending || r.Carried {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = c.Send(t.Context(), bytes.NewReader(nil), "s")
	if err != nil || r.Bundle != blake3.Sum256(nil) || r.Size != 0 {
		t.Errorf("empty: %+v, %v", r, err)
	}
}

func TestSendAs(t *testing.T) {
	c := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(t.TempDir())})
	id := courier.ID{1}
	first, err := c.SendAs(t.Context(), id, strings.NewReader("a"), "s")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.SendAs(t.Context(), id, strings.NewReader("a"), "s"); err != nil || again != first {
		t.Errorf("again: %+v, %v", again, err)
	}
	if _, err := c.SendAs(t.Context(), id, strings.NewReader("b"), "s"); !errors.Is(err, courier.ErrConflict) {
		t.Errorf("another bundle: %v", err)
	}
	if _, err := c.SendAs(t.Context(), id, strings.NewReader("a"), "t"); !errors.Is(err, courier.ErrConflict) {
		t.Errorf("another sender: %v", err)
	}
	report(t, c, reader("a"), courier.Report{Forwarded: 1})
	if again, err := c.SendAs(t.Context(), id, strings.NewReader("a"), "s"); err != nil || !again.Acknowledged() {
		t.Errorf("again, after it was forwarded: %+v, %v", again, err)
	}
}

// reader is a peer that wants one bundle.
func reader(want string) courier.Forwarder {
	return forwarder(func(_ context.Context, _ courier.Receipt, b io.Reader) error {
		got, err := io.ReadAll(b)
		if err == nil && string(got) != want {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
}

func TestCollidingIDs(t *testing.T) {
	c := newCourier(t, new(couriertest.Model), &courier.Options{Rand: bytes.NewReader(make([]byte, 32))})
	send(t, c, 1)
	if _, err := c.Send(t.Context(), strings.NewReader("other"), "s"); !errors.Is(err, courier.ErrConflict) {
		t.Errorf("the same random ID: %v, want ErrConflict", err)
	}
	if _, err := c.Send(t.Context(), strings.NewReader("other"), "s"); !errors.Is(err, io.EOF) {
		t.Errorf("no random bits: %v", err)
	}
}

var hostile = []string{"a\r\nX: y", "../../etc/passwd", "\x00", "<script>", "%00%", strings.Repeat("é", 128), " ", "\u202e"}

func TestHostileSenders(t *testing.T) {
	c := newCourier(t, new(couriertest.Model), nil)
	for _, s := range hostile {
		if r, err := c.Send(t.Context(), strings.NewReader("x"), s); err != nil || r.Sender != s {
			t.Errorf("%q: %+v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "\xff\xfe", strings.Repeat("x", 257)} {
		if _, err := c.Send(t.Context(), neverRead{t}, s); !errors.Is(err, courier.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", s, err)
		}
	}
}

type neverRead struct{ t *testing.T }

func (n neverRead) Read([]byte) (int, error) {
	n.t.Error("read")
	return 0, io.EOF
}

// filesIn returns the names of all files under a folder, but for its lock.
func filesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "lock" {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Of a bundle that could not be taken nothing stays: no receipt, no file.
func TestSendFails(t *testing.T) {
	dir := t.TempDir()
	c := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(dir), MaxBundle: 1000})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx    context.Context
		bundle io.Reader
		want   error
	}{
		{t.Context(), strings.NewReader(strings.Repeat("x", 1001)), courier.ErrTooLarge},
		{t.Context(), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(syscall.EIO)), syscall.EIO},
		{t.Context(), iotest.ErrReader(nil), io.ErrNoProgress},
		{cancelled, strings.NewReader("x"), context.Canceled},
	} {
		if _, err := c.Send(test.ctx, test.bundle, "s"); !errors.Is(err, test.want) {
			t.Errorf("got %v, want %v", err, test.want)
		}
	}
	if n, err := c.Count(t.Context()); err != nil || n.Pending != 0 {
		t.Errorf("%+v, %v", n, err)
	}
	if names := filesIn(t, dir); len(names) > 0 {
		t.Errorf("files stay: %v", names)
	}
	if _, err := c.Send(t.Context(), strings.NewReader(strings.Repeat("x", 1000)), "s"); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

// fullDisk refuses to write more than it has room for.
type fullDisk struct {
	courier.Bundles
	room int
}

type fullWriter struct {
	courier.BundleWriter
	disk *fullDisk
}

func (d *fullDisk) Create(ctx context.Context) (courier.BundleWriter, error) {
	w, err := d.Bundles.Create(ctx)
	return fullWriter{w, d}, err
}

func (w fullWriter) Write(p []byte) (int, error) {
	if len(p) > w.disk.room {
		return 0, syscall.ENOSPC
	}
	w.disk.room -= len(p)
	return w.BundleWriter.Write(p)
}

func TestDiskFullDuringSend(t *testing.T) {
	dir := t.TempDir()
	disk := &fullDisk{courier.DirBundles(dir), 100_000}
	c := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: disk})
	large := strings.Repeat("x", 200_000)
	if _, err := c.Send(t.Context(), strings.NewReader(large), "s"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
	if names := filesIn(t, dir); len(names) > 0 {
		t.Errorf("files stay: %v", names)
	}
	disk.room = 1 << 20
	if _, err := c.Send(t.Context(), strings.NewReader(large), "s"); err != nil {
		t.Error(err)
	}
	report(t, c, reader(large), courier.Report{Forwarded: 1})
}

func TestEqualBundles(t *testing.T) {
	dir := t.TempDir()
	c := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(dir)})
	var sent []courier.Receipt
	for range 3 {
		r, err := c.Send(t.Context(), strings.NewReader("same"), "s")
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, r)
	}
	if names := filesIn(t, dir); len(names) != 1 {
		t.Errorf("files: %v, want one", names)
	}
	refuse := sent[1].ID
	f := forwarder(func(ctx context.Context, r courier.Receipt, b io.Reader) error {
		if r.ID == refuse {
			return courier.ErrRejected
		}
		return reader("same").Forward(ctx, r, b)
	})
	report(t, c, f, courier.Report{Forwarded: 2, Rejected: 1})
	if names := filesIn(t, dir); len(names) != 1 {
		t.Errorf("files: %v: the dead receipt still needs one", names)
	}
	if n, err := c.Requeue(t.Context(), refuse); n != 1 || err != nil {
		t.Errorf("Requeue: %d, %v", n, err)
	}
	report(t, c, reader("same"), courier.Report{Forwarded: 1})
	if names := filesIn(t, dir); len(names) != 0 {
		t.Errorf("files: %v: nobody needs them", names)
	}
}

func TestDiscardRemovesBundle(t *testing.T) {
	dir := t.TempDir()
	c := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(dir)})
	r, err := c.Send(t.Context(), strings.NewReader("x"), "s")
	if err != nil {
		t.Fatal(err)
	}
	report(t, c, forwarder(func(context.Context, courier.Receipt, io.Reader) error { return courier.ErrRejected }),
		courier.Report{Rejected: 1})
	if n, err := c.Discard(t.Context(), r.ID); n != 1 || err != nil {
		t.Errorf("Discard: %d, %v", n, err)
	}
	if names := filesIn(t, dir); len(names) != 0 {
		t.Errorf("files: %v", names)
	}
}

// A bundle that is not what was sent is never forwarded as if it were, and is
// mended by sending it again.
func TestDamagedBundles(t *testing.T) {
	for name, damage := range map[string]func(string) error{
		"truncated": func(f string) error { return os.Truncate(f, 3) },
		"longer":    func(f string) error { return os.WriteFile(f, []byte("bundle and more"), 0o600) },
		"flipped":   func(f string) error { return os.WriteFile(f, []byte("bumdle"), 0o600) },
		"missing":   os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(dir)})
			r, err := c.Send(t.Context(), strings.NewReader("bundle"), "s")
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(filesIn(t, dir)[0]); err != nil {
				t.Fatal(err)
			}
			report(t, c, reader("bundle"), courier.Report{Damaged: 1})
			if r, err := c.Get(t.Context(), r.ID); err != nil || r.Cause != courier.Damaged || r.Reason == "" {
				t.Errorf("%+v, %v", r, err)
			}
			if _, err := c.SendAs(t.Context(), r.ID, strings.NewReader("bundle"), "s"); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Requeue(t.Context(), r.ID); err != nil {
				t.Fatal(err)
			}
			report(t, c, reader("bundle"), courier.Report{Forwarded: 1})
		})
	}
}

// Sending and forwarding equal bundles at once never removes one that a receipt
// still needs.
func TestSendWhileFlushing(t *testing.T) {
	c := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(t.TempDir()), Concurrency: 2})
	var senders sync.WaitGroup
	for i := range 4 {
		senders.Go(func() {
			for range 40 {
				if _, err := c.Send(t.Context(), strings.NewReader("same"), fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		senders.Wait()
		close(done)
	}()
	for more := true; more; {
		select {
		case <-done:
			more = false
		default:
		}
		if r, err := c.Flush(t.Context(), reader("same")); err != nil || r.Damaged+r.Failed > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if n, err := c.Count(t.Context()); err != nil || n.Acknowledged != 160 {
		t.Errorf("%+v, %v", n, err)
	}
}

// What a crash leaves behind goes: temporary files at the first use, bundles
// without a receipt with Prune.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"tmp/7", "ab/" + strings.Repeat("cd", 31)} {
		os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(dir)})
	if _, err := c.Send(t.Context(), strings.NewReader("x"), "s"); err != nil {
		t.Fatal(err)
	}
	if names := filesIn(t, dir); len(names) != 2 {
		t.Errorf("after Send: %v", names)
	}
	if _, err := c.Prune(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if names := filesIn(t, dir); len(names) != 1 {
		t.Errorf("after Prune: %v", names)
	}
	report(t, c, reader("x"), courier.Report{Forwarded: 1})
}

func TestOptions(t *testing.T) {
	for _, o := range []courier.Options{
		{MaxBundle: -1}, {Concurrency: -1}, {Lifetime: -1},
		{Rewarder: &tally{}}, {Rewarder: &tally{}, Account: "a"}, {Rewarder: &tally{}, Amount: amount},
	} {
		if _, err := courier.New(new(couriertest.Model), &o); !errors.Is(err, courier.ErrOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := courier.New(nil, nil); !errors.Is(err, courier.ErrOptions) {
		t.Errorf("no store: %v", err)
	}
	type bare struct{ courier.Store }
	if _, err := courier.New(bare{new(couriertest.Model)}, nil); !errors.Is(err, courier.ErrOptions) {
		t.Errorf("a store without a Notebook: %v", err)
	}
	type plain struct {
		courier.Store
		courier.Notebook
	}
	if _, err := courier.New(plain{Store: new(couriertest.Model), Notebook: new(couriertest.Model)}, &courier.Options{Bundles: courier.DirBundles("x")}); !errors.Is(err, courier.ErrOptions) {
		t.Errorf("a store without BundleIndex: %v", err)
	}
}
