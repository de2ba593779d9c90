package courier

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
)

// expectFrom is the size in bytes from which the peer is asked before a bundle
// is sent: it may have it already, or refuse it.
const expectFrom = 64 << 10

// HTTPForwarder is a [Forwarder] to the handler of [NewHandler]. It is safe for
// concurrent use.
type HTTPForwarder struct {
	base   *url.URL
	opts   HTTPOptions
	closer func()
}

var _ Forwarder = (*HTTPForwarder)(nil)

// HTTPOptions of [NewHTTPForwarder].
type HTTPOptions struct {
	// Client sends the requests. Defaults to one that follows no redirects and
	// takes proxies from the environment. Timeouts come from the flush.
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
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 64
		f.opts.Client = &http.Client{
			Transport:     t,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		f.closer = t.CloseIdleConnections
	}
	return f, nil
}

// Close closes the idle connections of the default client. The forwarder can
// still be used.
func (f *HTTPForwarder) Close() error {
	f.closer()
	return nil
}

// Forward implements [Forwarder]. The peer's answer counts only with its
// handler's verdict: any other, whatever its status, is a failure to be retried.
func (f *HTTPForwarder) Forward(ctx context.Context, r Receipt, bundle io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, f.base.JoinPath(r.ID.String()).String(), nil)
	if err != nil {
		return err
	}
	for name, values := range f.opts.Header {
		req.Header[name] = values
	}
	setHeaders(req.Header, r, carriesReceipt)
	if bundle != nil {
		req.Header.Set(headerCarries, carriesBundle)
		if r.Size >= expectFrom {
			req.Header.Set("Expect", "100-continue")
		}
	}
	if bundle != nil && r.Size > 0 {
		body := &requestBody{Reader: bundle, closed: make(chan struct{})}
		req.Body, req.ContentLength = body, r.Size
		// The transport may read on after Do has returned, until it closes.
		defer func() {
			cancel()
			<-body.closed
		}()
	}
	resp, err := f.opts.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, MaxReason))
	switch verdict := resp.Header.Get(headerVerdict); {
	case verdict == verdictRejected:
		return fmt.Errorf("%w: %s: %s", ErrRejected, resp.Status, text)
	case resp.StatusCode == http.StatusOK && (verdict == verdictStored || verdict == verdictKnown):
		return nil
	}
	return fmt.Errorf("courier: the peer answers %s: %s", resp.Status, text)
}

type requestBody struct {
	io.Reader
	once   sync.Once
	closed chan struct{}
}

func (b *requestBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}
