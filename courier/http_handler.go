package courier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"time"
)

// Receiver is where a peer keeps what it is sent. A [Courier] is one, which
// carries it on.
type Receiver interface {
	// Known returns the receipt accepted under id, or ErrNotFound.
	Known(ctx context.Context, id ID) (Receipt, error)
	// Accept reads bundle to its end and keeps it and r, durably when it returns
	// nil. A Read that fails with ErrMismatch says that it is not r's: nothing
	// may be kept then. bundle is nil when the receipt alone is carried. What is
	// accepted already is accepted again; calls for one ID may come at once.
	// ErrRejected, ErrInvalid, ErrTooLarge and ErrConflict tell the sender never
	// to send r again, any other error to do so later.
	Accept(ctx context.Context, r Receipt, bundle io.Reader) error
}

// HandlerOptions of [NewHandler].
type HandlerOptions struct {
	// MaxBundle is the size of the largest bundle accepted, in bytes. Defaults
	// to 1 GiB.
	MaxBundle int64
	// Timeout ends a request whose body brings nothing for so long. Defaults to
	// 1 min.
	Timeout time.Duration
	// Logger hears of failures of the Receiver. Defaults to discarding.
	Logger *slog.Logger
}

// NewHandler returns the peer's side of [HTTPForwarder]. It takes the receipt's
// ID from the last element of the path, so it can be mounted anywhere. A bundle
// is verified while it streams; one with another hash or size, or over the
// limit, is refused. A known ID is answered before its body is read: with
// success for the same receipt, with a rejection for another. opts may be nil.
// The error is ErrInvalid.
func NewHandler(to Receiver, opts *HandlerOptions) (http.Handler, error) {
	var o HandlerOptions
	if opts != nil {
		o = *opts
	}
	if to == nil || o.MaxBundle < 0 || o.Timeout < 0 {
		return nil, fmt.Errorf("%w: no receiver, or a negative option", ErrInvalid)
	}
	o.MaxBundle = or(o.MaxBundle, 1<<30)
	o.Timeout = or(o.Timeout, time.Minute)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &handler{to, o}, nil
}

type handler struct {
	to   Receiver
	opts HandlerOptions
}

func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPut {
		w.Header().Set("Allow", http.MethodPut)
		http.Error(w, "PUT a receipt", http.StatusMethodNotAllowed)
		return
	}
	verdict, err := h.receive(w, req)
	if err == nil {
		w.Header().Set(headerVerdict, verdict)
		return
	}
	status, final := http.StatusServiceUnavailable, true
	switch {
	case errors.Is(err, ErrTooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrConflict):
		status = http.StatusConflict
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrRejected):
		status = http.StatusBadRequest
	case errors.Is(err, ErrMismatch): // the way may be to blame: no verdict
		status, final = http.StatusUnprocessableEntity, false
	default:
		final = false
		level := slog.LevelError
		if req.Context().Err() != nil { // the sender has hung up
			level = slog.LevelDebug
		}
		h.opts.Logger.Log(req.Context(), level, "receipt not accepted", "err", err)
		err = errors.New("not now") // the rest is not the sender's business
	}
	if final {
		w.Header().Set(headerVerdict, verdictRejected)
	}
	http.Error(w, err.Error(), status)
}

func (h *handler) receive(w http.ResponseWriter, req *http.Request) (verdict string, err error) {
	r, carries, err := readHeaders(path.Base(req.URL.Path), req.Header)
	if err != nil {
		return "", err
	}
	known, err := h.to.Known(req.Context(), r.ID)
	switch {
	case err == nil && known.Same(r):
		return verdictKnown, nil
	case err == nil:
		return "", fmt.Errorf("%w: %v", ErrConflict, r.ID)
	case !errors.Is(err, ErrNotFound):
		return "", err
	}
	if !carries {
		return verdictStored, h.to.Accept(req.Context(), r, nil)
	}
	if r.Size > h.opts.MaxBundle {
		return "", fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, r.Size, h.opts.MaxBundle)
	}
	if req.ContentLength >= 0 && req.ContentLength != r.Size {
		return "", fmt.Errorf("%w: %d bytes, announced were %d", ErrMismatch, req.ContentLength, r.Size)
	}
	v := newVerifier(&patient{req.Body, http.NewResponseController(w), h.opts.Timeout}, r)
	if err := h.to.Accept(req.Context(), r, v); err != nil {
		if v.err != nil && v.err != io.EOF {
			err = v.err // what began it, whatever the receiver made of it
		}
		return "", err
	}
	// Who reads just the announced bytes has not seen whether they were right.
	if n, err := v.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return "", fmt.Errorf("the receiver accepted an unverified bundle: %w", err)
	}
	return verdictStored, nil
}

// patient sets the connection's read deadline anew at each Read, where there is
// a connection.
type patient struct {
	body    io.Reader
	conn    *http.ResponseController
	timeout time.Duration
}

func (p *patient) Read(b []byte) (int, error) {
	p.conn.SetReadDeadline(time.Now().Add(p.timeout))
	return p.body.Read(b)
}

var _ Receiver = (*Courier)(nil)

// Known implements [Receiver].
func (c *Courier) Known(ctx context.Context, id ID) (Receipt, error) { return c.Get(ctx, id) }

// Accept implements [Receiver]: the receipt becomes one of this courier's own,
// under the same ID, sent now. Couriers of which only one carries bundles do not
// fit together: that is ErrRejected.
func (c *Courier) Accept(ctx context.Context, r Receipt, bundle io.Reader) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if (bundle == nil) != (c.opts.Bundles == nil) {
		return fmt.Errorf("%w: bundles are carried on one side only", ErrRejected)
	}
	if bundle == nil {
		r.Carried = false
		_, err := c.append(ctx, r)
		return err
	}
	_, err := c.take(ctx, r, bundle, func(got Receipt) error {
		if !got.Same(r) {
			return fmt.Errorf("%w: %d bytes of %v", ErrMismatch, got.Size, got.Bundle)
		}
		return nil
	})
	return err
}
