package courier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/computemarket/computemarket/internal/callback"
)

// offerFrom is the size in bytes from which a bundle is offered before it is
// sent: the peer may have it already, or refuse it. A smaller one costs less than
// the question.
const offerFrom = 64 << 10

// HTTPForwarder is a [Forwarder] to the handler of [NewHandler]. It is safe for
// concurrent use. Make one with [NewHTTPForwarder].
type HTTPForwarder struct {
	base   *url.URL
	opts   HTTPOptions
	closer func()
}

var _ Forwarder = (*HTTPForwarder)(nil)

// HTTPOptions of [NewHTTPForwarder].
type HTTPOptions struct {
	// Client sends the requests. Defaults to one that follows no redirects. Its
	// transport is a copy of http.DefaultTransport, or http.DefaultTransport itself
	// where that was replaced. Timeouts come from the flush.
	Client *http.Client
	// Header is added to each request, such as an Authorization.
	Header http.Header
}

// NewHTTPForwarder returns a forwarder to the peer's handler at base, such as
// https://peer.example/courier. opts may be nil. The error is ErrInvalid.
func NewHTTPForwarder(base string, opts *HTTPOptions) (*HTTPForwarder, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: %q is no http or https URL", ErrInvalid, base)
	}
	f := &HTTPForwarder{base: u, closer: func() {}}
	if opts != nil {
		f.opts = *opts
		f.opts.Header = opts.Header.Clone()
	}
	if f.opts.Client == nil {
		f.opts.Client, f.closer = defaultClient()
	}
	return f, nil
}

// defaultClient also returns what closes its idle connections.
func defaultClient() (*http.Client, func()) {
	c := &http.Client{
		Transport:     http.DefaultTransport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	own := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if standard, ok := http.DefaultTransport.(*http.Transport); ok && standard != nil {
		own = standard.Clone()
	} else if http.DefaultTransport != nil && !ok {
		return c, func() {} // somebody's, who traces: its connections are not ours to close
	}
	own.MaxIdleConnsPerHost = 64
	c.Transport = own
	return c, own.CloseIdleConnections
}

// Close closes the idle connections of the default client. The forwarder can
// still be used.
func (f *HTTPForwarder) Close() error {
	if f.closer != nil {
		f.closer()
	}
	return nil
}

// Forward implements [Forwarder]. A bundle of 64 KiB and more is offered first,
// so that it is not sent to a peer that has it or refuses it; nor need the
// client's transport then be one that hears an answer while it sends. The peer's
// answer counts only with its handler's verdict: any other, whatever its status,
// is a failure to be retried.
func (f *HTTPForwarder) Forward(ctx context.Context, r Receipt, bundle io.Reader) error {
	if f.base == nil {
		return fmt.Errorf("%w: an HTTPForwarder comes from NewHTTPForwarder", ErrInvalid)
	}
	if bundle == nil {
		return held(f.put(ctx, r, carriesReceipt, nil))
	}
	if r.Size >= offerFrom {
		verdict, err := f.put(ctx, r, carriesOffer, nil)
		if err != nil || verdict != verdictWanted {
			return held(verdict, err)
		}
	}
	return held(f.put(ctx, r, carriesBundle, bundle))
}

// held returns nil if the verdict says that the peer has the receipt.
func held(verdict string, err error) error {
	if err == nil && verdict != verdictStored && verdict != verdictKnown {
		err = fmt.Errorf("courier: the peer answers %q", verdict)
	}
	return err
}

// put sends one request and returns the peer's verdict, if that is not an error:
// ErrRejected, or that there is none.
func (f *HTTPForwarder) put(ctx context.Context, r Receipt, carries string, bundle io.Reader) (verdict string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, f.base.JoinPath(r.ID.String()).String(), nil)
	if err != nil {
		return "", err
	}
	for name, values := range f.opts.Header {
		req.Header[name] = values
	}
	setHeaders(req.Header, r, carries)
	if bundle != nil && r.Size > 0 {
		body := &requestBody{src: bundle}
		req.Body, req.ContentLength = body, r.Size
		// The transport may read on after Do has returned.
		defer body.Close()
		defer cancel()
	}
	resp, err := f.opts.Client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, MaxReason))
	verdict = resp.Header.Get(headerVerdict)
	switch {
	case verdict == verdictRejected:
		return "", fmt.Errorf("%w: %s: %s", ErrRejected, resp.Status, text)
	case verdict == "" || resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("courier: the peer answers %s: %s", resp.Status, text)
	}
	return verdict, nil
}

// requestBody is read by the transport, on a goroutine of its own, until Close.
type requestBody struct {
	mu  sync.Mutex // held over a Read, for which Close has to wait
	src io.Reader  // nil after Close
}

var errBodyClosed = errors.New("courier: the bundle was taken back")

func (b *requestBody) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.src == nil {
		return 0, errBodyClosed
	}
	err = callback.Run("Bundles.Open's Read", func() error {
		var err error
		n, err = b.src.Read(p)
		return err
	})
	return n, err
}

// Close returns when nobody reads from the bundle, or will.
func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.src = nil
	return nil
}
