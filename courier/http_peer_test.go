package courier_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriertest"
)

// pipes is a listener for connections in memory, which know deadlines and, within
// synctest, its time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// servePipes runs a peer without a network, and returns what a client dials by.
func servePipes(t *testing.T, to courier.Receiver, o *courier.HandlerOptions) *http.Transport {
	h, err := courier.NewHandler(to, o)
	if err != nil {
		t.Fatal(err)
	}
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.done) })
	server := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go server.Serve(p)
	transport := &http.Transport{DialContext: p.dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		time.Sleep(48 * time.Hour) // those who sleep in a Read wake up and find it closed
	})
	return transport
}

// pipeForwarder returns a forwarder to a peer of servePipes.
func pipeForwarder(t *testing.T, transport *http.Transport) *courier.HTTPForwarder {
	f, err := courier.NewHTTPForwarder("http://peer/courier", &courier.HTTPOptions{Client: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// receiver is one as functions, nil ones being an inbox's.
type receiver struct {
	inbox
	known  func(context.Context, courier.ID) (courier.Receipt, error)
	accept func(context.Context, courier.Receipt, io.Reader) error
}

func (r *receiver) Known(ctx context.Context, id courier.ID) (courier.Receipt, error) {
	if r.known != nil {
		return r.known(ctx, id)
	}
	return r.inbox.Known(ctx, id)
}

func (r *receiver) Accept(ctx context.Context, rec courier.Receipt, b io.Reader) error {
	if r.accept != nil {
		return r.accept(ctx, rec, b)
	}
	return r.inbox.Accept(ctx, rec, b)
}

// putRaw sends a receipt as a client does that never asks first.
func putRaw(c *http.Client, url string, r courier.Receipt, body io.Reader) (status int, verdict string, err error) {
	req, err := http.NewRequest(http.MethodPut, url+r.ID.String(), body)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Courier-Bundle", r.Bundle.String())
	req.Header.Set("Courier-Size", fmt.Sprint(r.Size))
	req.Header.Set("Courier-Sender", r.Sender)
	req.Header.Set("Courier-Sent-At", r.SentAt.Format(time.RFC3339Nano))
	req.Header.Set("Courier-Carries", "bundle")
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Courier-Verdict"), nil
}

// What the peer says without reading the bundle arrives in each of hundreds of
// calls, also at a client that is deaf while it sends.
func TestVerdictArrives(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	in := &receiver{}
	in.accept = func(ctx context.Context, r courier.Receipt, b io.Reader) error {
		if r.Sender == "refused" {
			return courier.ErrRejected
		}
		return in.inbox.Accept(ctx, r, b)
	}
	_, url := serve(t, in, nil)
	client := &http.Client{Transport: new(http.Transport)}
	defer client.CloseIdleConnections()
	f, err := courier.NewHTTPForwarder(strings.TrimSuffix(url, "/"), &courier.HTTPOptions{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	for i, size := range []int{0, 1, 64<<10 - 1, 64 << 10, 1 << 20, 4 << 20} {
		content := strings.Repeat("x", size)
		r := receiptFor(content)
		r.ID[0] = byte(i)
		other, refused := r, r
		other.Sender = "another"
		refused.ID[1], refused.Sender = 1, "refused"
		if err := f.Forward(t.Context(), r, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		for range rounds {
			if err := f.Forward(t.Context(), r, strings.NewReader(content)); err != nil {
				t.Fatalf("%d bytes, known: %v", size, err)
			}
			for _, r := range []courier.Receipt{other, refused} {
				if err := f.Forward(t.Context(), r, strings.NewReader(content)); !errors.Is(err, courier.ErrRejected) {
					t.Fatalf("%d bytes, from %s: %v, want ErrRejected", size, r.Sender, err)
				}
			}
		}
		for range rounds / 10 {
			for r, want := range map[courier.Receipt]string{r: "known", other: "rejected", refused: "rejected"} {
				if _, verdict, err := putRaw(client, url, r, strings.NewReader(content)); verdict != want {
					t.Fatalf("%d bytes, not offered, from %s: %q, %v, want %q", size, r.Sender, verdict, err, want)
				}
			}
		}
	}
}

// A library that traces replaces http.DefaultTransport. It is then used.
func TestDefaultTransportReplaced(t *testing.T) {
	standard := http.DefaultTransport
	defer func() { http.DefaultTransport = standard }()
	_, url := serve(t, new(inbox), nil)
	calls := 0
	for name, replaced := range map[string]http.RoundTripper{
		"a function": roundTripper(func(req *http.Request) (*http.Response, error) {
			calls++
			return standard.RoundTrip(req)
		}),
		"nil":             nil,
		"a nil transport": (*http.Transport)(nil),
		"as it was":       standard,
	} {
		http.DefaultTransport = replaced
		f, err := courier.NewHTTPForwarder(strings.TrimSuffix(url, "/"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Forward(t.Context(), receiptFor("content"), strings.NewReader("content")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if calls != 1 {
		t.Errorf("the replaced one was called %d times", calls)
	}
}

// A receiver may take longer than the handler waits for a body, whatever the
// body's length: the deadline is that of the body alone.
func TestSlowReceiver(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			in := &receiver{}
			in.accept = func(ctx context.Context, r courier.Receipt, b io.Reader) error {
				err := in.inbox.Accept(ctx, r, b)
				time.Sleep(time.Hour)
				return errors.Join(err, ctx.Err())
			}
			f := pipeForwarder(t, servePipes(t, in, &courier.HandlerOptions{Timeout: time.Minute}))
			content := strings.Repeat("x", size)
			if err := f.Forward(t.Context(), receiptFor(content), strings.NewReader(content)); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		})
	}
}

// slowStore takes its time for each Append.
type slowStore struct {
	*couriertest.Model
	time    time.Duration
	appends atomic.Int64
}

func (s *slowStore) Append(ctx context.Context, r courier.Receipt) (courier.Receipt, error) {
	s.appends.Add(1)
	select {
	case <-time.After(s.time):
	case <-ctx.Done():
		return courier.Receipt{}, ctx.Err()
	}
	return s.Model.Append(ctx, r)
}

// A peer whose store takes longer than any sender waits takes the receipt all the
// same, once, and whoever comes again hears of it.
func TestPeerFinishesOnItsOwnTime(t *testing.T) {
	for _, size := range []int{0, 7, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			s := &slowStore{Model: new(couriertest.Model), time: 95 * time.Second}
			bundles := courier.DirBundles(dir)
			relay := newCourier(t, s, &courier.Options{Bundles: bundles})
			f := pipeForwarder(t, servePipes(t, relay, nil))
			content := strings.Repeat("x", size)
			tries := 0
			for err := errors.New("not tried"); err != nil; {
				if tries++; tries > 4 {
					t.Fatalf("%d bytes: %v", size, err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				err = f.Forward(ctx, receiptFor(content), strings.NewReader(content))
				cancel()
				if n := s.appends.Load(); n != 1 {
					t.Fatalf("%d bytes, try %d: %d appends", size, tries, n)
				}
			}
			if tries != 4 {
				t.Errorf("%d bytes: %d tries, want 4", size, tries)
			}
			if r, err := relay.Get(t.Context(), receiptFor(content).ID); err != nil || r.State != courier.Pending {
				t.Errorf("%+v, %v", r, err)
			}
			if names := filesIn(t, dir); len(names) != 1 {
				t.Errorf("files: %v", names)
			}
		})
	}
}

// Another receipt of an ID that is in hand is neither taken nor refused for good.
func TestInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &receiver{}
		in.accept = func(ctx context.Context, r courier.Receipt, b io.Reader) error {
			io.Copy(io.Discard, b)
			time.Sleep(time.Hour)
			return in.inbox.Accept(ctx, r, nil)
		}
		transport := servePipes(t, in, nil)
		f := pipeForwarder(t, transport)
		done := make(chan error)
		go func() { done <- f.Forward(t.Context(), receiptFor("content"), strings.NewReader("content")) }()
		time.Sleep(time.Minute)
		status, verdict, err := putRaw(&http.Client{Transport: transport}, "http://peer/", receiptFor("another"), strings.NewReader("another"))
		if status != 503 || verdict != "" || err != nil {
			t.Errorf("another: %d, %q, %v", status, verdict, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		status, verdict, err = putRaw(&http.Client{Transport: transport}, "http://peer/", receiptFor("another"), strings.NewReader("another"))
		if status != 409 || verdict != "rejected" || err != nil {
			t.Errorf("another, later: %d, %q, %v", status, verdict, err)
		}
	})
}

// trickle brings n bytes at a time, with a pause before each, until the end of
// the content or for ever.
type trickle struct {
	content string
	n       int
	pause   time.Duration
	endless bool
}

func (s *trickle) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	if s.content == "" && s.endless {
		s.content = strings.Repeat("x", s.n)
	}
	n := copy(p[:min(s.n, len(p))], s.content)
	if s.content = s.content[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Whatever a sender does, its request ends in bounded time, nothing of it is kept,
// and an honest sender does not notice.
func TestHostileSendersOfBundles(t *testing.T) {
	const size = 100_000
	content := strings.Repeat("x", size)
	longer := receiptFor(content)
	longer.Size = 1 << 40
	wrong := receiptFor(content)
	wrong.Bundle[0]++
	for name, test := range map[string]struct {
		receipt courier.Receipt
		body    io.Reader
		within  time.Duration
	}{
		"silent":            {receiptFor(content), &trickle{content: content, n: 1, pause: 24 * time.Hour}, time.Minute},
		"slow":              {receiptFor(content), &trickle{content: content, n: 1, pause: 59 * time.Second}, time.Minute},
		"silent at the end": {receiptFor(content), io.MultiReader(strings.NewReader(content[1:]), &trickle{content: "x", n: 1, pause: 24 * time.Hour}), 10 * time.Minute},
		"endless":           {receiptFor(content), &trickle{n: 1000, endless: true}, time.Second},
		"endless and slow":  {receiptFor(content), &trickle{n: 1000, pause: time.Second, endless: true}, 10 * time.Minute},
		"huge":              {longer, &trickle{n: 1 << 10, endless: true}, time.Second},
		"too short":         {receiptFor(content), strings.NewReader(content[1:]), time.Second},
		"too long":          {receiptFor(content), strings.NewReader(content + "x"), time.Second},
		"wrong hash":        {wrong, strings.NewReader(content), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				bundles := courier.DirBundles(dir)
				defer bundles.Close()
				relay := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: bundles})
				transport := servePipes(t, relay, &courier.HandlerOptions{
					MaxBundle: 1 << 20, MaxRequests: 8, MaxPerParty: 8,
				})
				client := &http.Client{Transport: transport}
				var wg sync.WaitGroup
				began := time.Now()
				wg.Go(func() {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					req, _ := http.NewRequestWithContext(ctx, http.MethodPut, "http://peer/"+test.receipt.ID.String(), plain{test.body})
					req.Header.Set("Courier-Bundle", test.receipt.Bundle.String())
					req.Header.Set("Courier-Size", fmt.Sprint(test.receipt.Size))
					req.Header.Set("Courier-Sender", "hostile")
					req.Header.Set("Courier-Sent-At", "1970-01-01T00:00:01Z")
					req.Header.Set("Courier-Carries", "bundle")
					resp, err := client.Do(req)
					if err != nil {
						return // cut off
					}
					resp.Body.Close()
					if resp.StatusCode == http.StatusOK {
						t.Errorf("accepted: %v", resp.Header)
					}
				})
				honest := receiptFor("honest")
				honest.ID[0]++
				if err := pipeForwarder(t, transport).Forward(t.Context(), honest, strings.NewReader("honest")); err != nil {
					t.Errorf("the honest sender: %v", err)
				}
				wg.Wait()
				if took := time.Since(began); took > test.within {
					t.Errorf("took %v, want at most %v", took, test.within)
				}
				if n, err := relay.Count(t.Context()); n != (courier.Counts{Pending: 1}) || err != nil {
					t.Errorf("%+v, %v", n, err)
				}
				synctest.Wait()
				if names := filesIn(t, dir); len(names) != 1 {
					t.Errorf("files stay: %v", names)
				}
			})
		})
	}
}

// Of more requests than there are seats, the rest hear at once to come later;
// each party has its own seats.
func TestTooManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var serving atomic.Int64
		in := &receiver{}
		in.known = func(ctx context.Context, id courier.ID) (courier.Receipt, error) {
			serving.Add(1)
			<-release
			return in.inbox.Known(ctx, id)
		}
		h, err := courier.NewHandler(in, &courier.HandlerOptions{
			MaxRequests: 5, MaxPerParty: 3,
			Party: func(req *http.Request) string { return req.Header.Get("Authorization") },
		})
		if err != nil {
			t.Fatal(err)
		}
		var codes sync.Map // by status, how many
		var wg sync.WaitGroup
		send := func(party string, i int) {
			wg.Go(func() {
				r := receiptFor("content")
				r.ID[0] = byte(i)
				req := httptest.NewRequest(http.MethodPut, "/"+r.ID.String(), strings.NewReader("content"))
				req.Header.Set("Authorization", party)
				req.Header.Set("Courier-Bundle", r.Bundle.String())
				req.Header.Set("Courier-Size", "7")
				req.Header.Set("Courier-Sender", "s")
				req.Header.Set("Courier-Sent-At", "1970-01-01T00:00:01Z")
				req.Header.Set("Courier-Carries", "bundle")
				w := httptest.NewRecorder()
				h.ServeHTTP(w, req)
				n, _ := codes.LoadOrStore(w.Code, new(atomic.Int64))
				n.(*atomic.Int64).Add(1)
			})
			synctest.Wait()
		}
		for i := range 10 {
			send("one", i)
		}
		if n := serving.Load(); n != 3 {
			t.Errorf("%d of one party are served, want 3", n)
		}
		for i := range 10 {
			send("another", 100+i)
		}
		if n := serving.Load(); n != 5 {
			t.Errorf("%d are served, want 5", n)
		}
		close(release)
		wg.Wait()
		send("one", 50) // the seats are free again
		for code, want := range map[int]int64{200: 6, 503: 15} {
			n, ok := codes.Load(code)
			if !ok || n.(*atomic.Int64).Load() != want {
				t.Errorf("%d: %v, want %d", code, n, want)
			}
		}
	})
}

// Whatever a callback of the handler does is the failure of that request, and no
// verdict; the next one is served.
func TestHandlerCallbacks(t *testing.T) {
	for name, end := range map[string]func(){
		"panic":         func() { panic("mine") },
		"panic as no":   func() { panic(courier.ErrRejected) },
		"panic as none": func() { panic(courier.ErrNotFound) },
		"Goexit":        runtime.Goexit,
	} {
		for _, where := range []string{"Known", "Accept", "Party", "Logger"} {
			broken := true
			at := func(what string) {
				if broken && what == where {
					end()
				}
			}
			in := &receiver{}
			in.known = func(ctx context.Context, id courier.ID) (courier.Receipt, error) {
				at("Known")
				if broken && where == "Logger" {
					return courier.Receipt{}, errDown
				}
				return in.inbox.Known(ctx, id)
			}
			in.accept = func(ctx context.Context, r courier.Receipt, b io.Reader) error {
				at("Accept")
				return in.inbox.Accept(ctx, r, b)
			}
			f, url := serve(t, in, &courier.HandlerOptions{
				MaxRequests: 1,
				Party:       func(*http.Request) string { at("Party"); return "" },
				Logger:      slog.New(logs(func() { at("Logger") })),
			})
			for range 3 {
				status, verdict, err := putRaw(http.DefaultClient, url, receiptFor("content"), strings.NewReader("content"))
				if status != 503 || verdict != "" || err != nil {
					t.Errorf("%s in %s: %d, %q, %v", name, where, status, verdict, err)
				}
			}
			broken = false
			if err := f.Forward(t.Context(), receiptFor("content"), strings.NewReader("content")); err != nil {
				t.Errorf("after %s in %s: %v", name, where, err)
			}
		}
	}
}

// logs is a log handler that calls a function.
type logs func()

func (l logs) Enabled(context.Context, slog.Level) bool  { return true }
func (l logs) Handle(context.Context, slog.Record) error { l(); return nil }
func (l logs) WithAttrs([]slog.Attr) slog.Handler        { return l }
func (l logs) WithGroup(string) slog.Handler             { return l }

// A bundle whose Read panics, or ends the transport's goroutine, is a failure of
// that call.
func TestBundleReadFails(t *testing.T) {
	f, _ := serve(t, new(inbox), nil)
	for name, end := range map[string]func(){"panic": func() { panic("mine") }, "Goexit": runtime.Goexit} {
		err := f.Forward(t.Context(), receiptFor("content"), readFunc(func([]byte) (int, error) { end(); return 0, nil }))
		if err == nil || errors.Is(err, courier.ErrRejected) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.Forward(t.Context(), receiptFor("content"), strings.NewReader("content")); err != nil {
		t.Error(err)
	}
}
