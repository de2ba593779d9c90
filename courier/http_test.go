package courier_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lukechampine.com/blake3"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/couriertest"
)

// serve runs a peer on loopback and returns a forwarder to it.
func serve(t *testing.T, to courier.Receiver, o *courier.HandlerOptions) (*courier.HTTPForwarder, string) {
	t.Helper()
	h, err := courier.NewHandler(to, o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/courier/", h)
	return connect(t, mux)
}

func connect(t *testing.T, h http.Handler) (*courier.HTTPForwarder, string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	f, err := courier.NewHTTPForwarder(server.URL+"/courier", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, server.URL + "/courier/"
}

// A relay keeps what it is sent and carries it on.
func TestRelay(t *testing.T) {
	relay := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(t.TempDir())})
	origin := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(t.TempDir())})
	f, _ := serve(t, relay, nil)
	large := strings.Repeat("large ", 100_000)
	var sent []courier.Receipt
	for i, s := range append(hostile, "large", "empty") {
		content := fmt.Sprint("bundle ", i)
		switch s {
		case "large":
			content = large
		case "empty":
			content = ""
		}
		r, err := origin.Send(t.Context(), strings.NewReader(content), s)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, r)
	}
	n := uint64(len(sent))
	report(t, origin, f, courier.Report{Forwarded: n})
	for _, r := range sent {
		if got, err := relay.Get(t.Context(), r.ID); err != nil || !got.Same(r) {
			t.Errorf("%+v, %v, want %+v", got, err, r)
		}
	}
	var bytes atomic.Int64
	report(t, relay, forwarder(func(_ context.Context, _ courier.Receipt, b io.Reader) error {
		n, err := io.Copy(io.Discard, b)
		bytes.Add(n)
		return err
	}), courier.Report{Forwarded: n})
	if want := int64(len(large) + len("bundle 0")*len(hostile)); bytes.Load() != want {
		t.Errorf("%d bytes arrived, want %d", bytes.Load(), want)
	}
}

func TestReceiptsAlone(t *testing.T) {
	var in inbox
	f, _ := serve(t, &in, nil)
	c := newCourier(t, new(couriertest.Model), nil)
	send(t, c, 20)
	report(t, c, f, courier.Report{Forwarded: 20})
	if len(in.receipts) != 20 {
		t.Errorf("%d arrived", len(in.receipts))
	}
}

// Between a courier that carries bundles and one that does not, nothing passes:
// the sender would remove what the receiver did not keep.
func TestBundlesOnOneSide(t *testing.T) {
	relay := newCourier(t, new(couriertest.Model), nil)
	origin := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(t.TempDir())})
	f, _ := serve(t, relay, nil)
	send(t, origin, 1)
	report(t, origin, f, courier.Report{Rejected: 1})
}

func receiptFor(content string) courier.Receipt {
	return courier.Receipt{
		ID: courier.ID{9}, Bundle: blake3.Sum256([]byte(content)), Size: int64(len(content)),
		Sender: "s", SentAt: time.Unix(1, 0).UTC(), Carried: true,
	}
}

// plain hides what a reader is, so that the request is chunked where the size
// is not given.
type plain struct{ io.Reader }

func TestHandlerRefuses(t *testing.T) {
	dir := t.TempDir()
	relay := newCourier(t, new(couriertest.Model), &courier.Options{Bundles: courier.DirBundles(dir), MaxBundle: 500})
	_, url := serve(t, relay, &courier.HandlerOptions{MaxBundle: 1000})
	good := receiptFor("content")
	put := func(r courier.Receipt, body io.Reader, change func(*http.Request)) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+r.ID.String(), body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Courier-Bundle", r.Bundle.String())
		req.Header.Set("Courier-Size", fmt.Sprint(r.Size))
		req.Header.Set("Courier-Sender", r.Sender)
		req.Header.Set("Courier-Sent-At", r.SentAt.Format(time.RFC3339Nano))
		req.Header.Set("Courier-Carries", "bundle")
		if change != nil {
			change(req)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Courier-Verdict")
	}
	header := func(name, value string) func(*http.Request) {
		return func(req *http.Request) { req.Header.Set(name, value) }
	}
	for _, test := range []struct {
		name    string
		r       courier.Receipt
		body    string
		change  func(*http.Request)
		status  int
		verdict string
	}{
		{"wrong hash", good, "contemt", nil, 422, ""},
		{"too short", good, "conten", nil, 422, ""},
		{"too long", good, "content!", nil, 422, ""},
		{"much too long", good, strings.Repeat("content", 100_000), nil, 422, ""},
		{"over the handler's limit", receiptFor(strings.Repeat("x", 1001)), strings.Repeat("x", 1001), nil, 413, "rejected"},
		{"over the relay's limit", receiptFor(strings.Repeat("x", 501)), strings.Repeat("x", 501), nil, 413, "rejected"},
		{"no hash", good, "content", header("Courier-Bundle", ""), 400, "rejected"},
		{"hash in capitals", good, "content", header("Courier-Bundle", strings.ToUpper(good.Bundle.String())), 400, "rejected"},
		{"no size", good, "content", header("Courier-Size", "many"), 400, "rejected"},
		{"negative size", good, "content", header("Courier-Size", "-1"), 400, "rejected"},
		{"no sender", good, "content", header("Courier-Sender", ""), 400, "rejected"},
		{"sender no UTF-8", good, "content", header("Courier-Sender", "%ff"), 400, "rejected"},
		{"bad escape", good, "content", header("Courier-Sender", "%zz"), 400, "rejected"},
		{"no time", good, "content", header("Courier-Sent-At", "now"), 400, "rejected"},
		{"nothing carried", good, "content", header("Courier-Carries", "pigeon"), 400, "rejected"},
		{"no ID", good, "content", func(req *http.Request) { req.URL.Path = "/courier/x" }, 400, "rejected"},
		{"GET", good, "", func(req *http.Request) { req.Method = "GET" }, 405, ""},
	} {
		if status, verdict := put(test.r, plain{strings.NewReader(test.body)}, test.change); status != test.status || verdict != test.verdict {
			t.Errorf("%s: %d %q, want %d %q", test.name, status, verdict, test.status, test.verdict)
		}
		if status, _ := put(test.r, strings.NewReader(test.body), test.change); status != test.status {
			t.Errorf("%s, with Content-Length: %d, want %d", test.name, status, test.status)
		}
	}
	if n, err := relay.Count(t.Context()); n != (courier.Counts{}) || err != nil {
		t.Errorf("%+v, %v", n, err)
	}
	if names := filesIn(t, dir); len(names) != 0 {
		t.Errorf("files stay: %v", names)
	}

	if status, verdict := put(good, strings.NewReader("content"), nil); status != 200 || verdict != "stored" {
		t.Errorf("the good one: %d %q", status, verdict)
	}
	if status, verdict := put(good, strings.NewReader(""), nil); status != 200 || verdict != "known" {
		t.Errorf("again, without the body: %d %q", status, verdict)
	}
	other := receiptFor("another")
	if status, verdict := put(other, strings.NewReader("another"), nil); status != 409 || verdict != "rejected" {
		t.Errorf("the same ID for another bundle: %d %q", status, verdict)
	}
}

// An answer that is not a handler's neither acknowledges nor refuses: a node at
// the end of a bad link meets captive portals.
func TestOnlyTheHandlersVerdictCounts(t *testing.T) {
	for _, status := range []int{200, 201, 204, 302, 400, 404, 409, 413, 500} {
		f, _ := connect(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/login")
			w.WriteHeader(status)
		}))
		err := f.Forward(t.Context(), receiptFor("content"), strings.NewReader("content"))
		if err == nil || errors.Is(err, courier.ErrRejected) {
			t.Errorf("%d: %v, want a failure for now", status, err)
		}
	}
}

// A repeated receipt costs no second upload of its bundle.
func TestRepeatedIDIsNotUploaded(t *testing.T) {
	var in inbox
	f, _ := serve(t, &in, nil)
	content := strings.Repeat("x", 8<<20)
	for i, most := range []int64{8 << 20, 0} {
		body := &counting{Reader: strings.NewReader(content)}
		if err := f.Forward(t.Context(), receiptFor(content), body); err != nil {
			t.Fatal(err)
		}
		if n := body.n.Load(); n > most {
			t.Errorf("delivery %d read %d bytes", i+1, n)
		}
	}
}

type counting struct {
	io.Reader
	n atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// A peer that answers nothing is left when the context ends, and the bundle is
// not read after that.
func TestHTTPPeerThatHangs(t *testing.T) {
	release := make(chan struct{})
	f, _ := connect(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Courier-Carries") == "offer" {
			w.Header().Set("Courier-Verdict", "wanted")
			return
		}
		req.Body.Read(make([]byte, 1))
		<-release
	}))
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	content := strings.Repeat("x", 32<<20)
	read := false
	err := f.Forward(ctx, receiptFor(content), readFunc(func(p []byte) (int, error) {
		cancel()
		read = true // a race if the transport reads on after Forward
		return copy(p, content), nil
	}))
	if !errors.Is(err, context.Canceled) || !read {
		t.Errorf("got %v", err)
	}
}

// roundTripper is a transport as a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A transport may answer while it still reads the body. Forward takes the bundle
// back before it returns, since the flush then closes it.
func TestBundleNotReadAfterForward(t *testing.T) {
	for _, answer := range []string{"stored", "rejected", ""} {
		synctest.Test(t, func(t *testing.T) {
			var returned atomic.Bool
			early := roundTripper(func(req *http.Request) (*http.Response, error) {
				go func() {
					<-req.Context().Done()
					time.Sleep(time.Second)
					req.Body.Read(make([]byte, 1))
					req.Body.Close()
				}()
				if answer == "" {
					return nil, errDown
				}
				return &http.Response{
					StatusCode: 200, Header: http.Header{"Courier-Verdict": {answer}}, Body: http.NoBody, Request: req,
				}, nil
			})
			f, err := courier.NewHTTPForwarder("http://peer", &courier.HTTPOptions{Client: &http.Client{Transport: early}})
			if err != nil {
				t.Fatal(err)
			}
			reads := 0
			f.Forward(t.Context(), receiptFor("content"), readFunc(func(p []byte) (int, error) {
				if reads++; returned.Load() {
					t.Errorf("%q: the bundle was read after Forward returned", answer)
				}
				return copy(p, "content"), io.EOF
			}))
			returned.Store(true)
			synctest.Wait()
			time.Sleep(time.Minute)
			if reads != 0 {
				t.Errorf("%q: read %d times, after the answer", answer, reads)
			}
		})
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// lazy is a receiver that does not look at the end of what it is sent.
type lazy struct{ inbox }

func (l *lazy) Accept(ctx context.Context, r courier.Receipt, b io.Reader) error {
	io.ReadFull(b, make([]byte, r.Size))
	return l.inbox.Accept(ctx, r, nil)
}

func TestReceiverThatDoesNotVerify(t *testing.T) {
	f, _ := serve(t, new(lazy), nil)
	if err := f.Forward(t.Context(), receiptFor("content"), strings.NewReader("contemt")); err == nil {
		t.Error("a wrong bundle was acknowledged")
	}
	f, _ = serve(t, new(lazy), nil)
	if err := f.Forward(t.Context(), receiptFor("content"), strings.NewReader("content")); err != nil {
		t.Error(err)
	}
}

func TestNewHTTPForwarder(t *testing.T) {
	for _, base := range []string{"", "peer", "ftp://peer", "http://", "http://a b", "://"} {
		if _, err := courier.NewHTTPForwarder(base, nil); !errors.Is(err, courier.ErrInvalid) {
			t.Errorf("%q: %v", base, err)
		}
	}
	if _, err := courier.NewHandler(nil, nil); !errors.Is(err, courier.ErrInvalid) {
		t.Errorf("no receiver: %v", err)
	}
}

// Whatever a request says, the handler answers, and keeps only what matches.
func FuzzHandler(f *testing.F) {
	good := receiptFor("content")
	f.Add(good.ID.String(), good.Bundle.String(), "7", "s", "1970-01-01T00:00:01Z", "bundle", []byte("content"))
	f.Add("", "", "9223372036854775808", "%", "", "receipt", []byte{})
	f.Fuzz(func(t *testing.T, id, bundle, size, sender, at, carries string, body []byte) {
		var in inbox
		h, err := courier.NewHandler(&in, nil)
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest(http.MethodPut, "/", bytes.NewReader(body))
		req.URL.Path = "/courier/" + id
		req.Header.Set("Courier-Bundle", bundle)
		req.Header.Set("Courier-Size", size)
		req.Header.Set("Courier-Sender", sender)
		req.Header.Set("Courier-Sent-At", at)
		req.Header.Set("Courier-Carries", carries)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if (w.Code == http.StatusOK) != (len(in.receipts) == 1) {
			t.Errorf("answer %d, %d kept", w.Code, len(in.receipts))
		}
		for _, r := range in.receipts {
			if r.Validate() != nil || carries == "bundle" && r.Bundle != blake3.Sum256(body) {
				t.Errorf("kept: %+v", r)
			}
		}
	})
}
