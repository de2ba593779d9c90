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

	"github.com/computemarket/computemarket/internal/callback"
)

// Receiver is where a peer keeps what it is sent. A [Courier] is one, which
// carries it on.
type Receiver interface {
	// Known returns the receipt accepted under id if the receiver still answers
	// for it, so that the sender may let go of it; ErrNotFound if it does not, or
	// never had it: it is then sent, and Accept called. Any other error, and a
	// panic, tells the sender to ask again later.
	Known(ctx context.Context, id ID) (Receipt, error)
	// Accept reads bundle to its end and keeps it and r, durably when it returns
	// nil. A Read that fails with ErrMismatch says that it is not r's: nothing
	// may be kept then. bundle is nil when the receipt alone is carried. What is
	// accepted already is accepted again; calls for one ID may come at once.
	// ErrRejected, ErrInvalid, ErrTooLarge and ErrConflict tell the sender never
	// to send r again, any other error to do so later, and so does a panic.
	//
	// ctx does not end when the sender hangs up: then a Read fails, and what has
	// been read whole by then is Accept's to finish.
	Accept(ctx context.Context, r Receipt, bundle io.Reader) error
}

// HandlerOptions of [NewHandler].
type HandlerOptions struct {
	// MaxBundle is the size of the largest bundle accepted, in bytes. Defaults
	// to 1 GiB.
	MaxBundle int64
	// Timeout ends a request whose body brings nothing for so long, and is how
	// long a sender waits for what the handler does for another request of the same
	// receipt. Defaults to 1 min. The time before the handler is called is the
	// server's to bound: set http.Server's ReadHeaderTimeout.
	Timeout time.Duration
	// MinRate is how many bytes per second a body must bring on the average, after
	// the first Timeout: a sender that brings one byte a minute ends some day.
	// Defaults to 256. Negative: none.
	MinRate int64
	// MaxRequests is how many requests are served at once, and MaxPerParty how many
	// of them for one party; more are told to come later. A request whose sender
	// has hung up counts until the Receiver is done with it. Default to 256 and 64.
	MaxRequests, MaxPerParty int
	// Party says whose a request is, such as by its credentials. Defaults to the
	// address that it comes from, of IPv6 the first 64 bits. Behind a proxy that is
	// the proxy's: set Party, or MaxPerParty to MaxRequests.
	Party func(*http.Request) string
	// Logger hears of failures of the Receiver. Defaults to discarding.
	Logger *slog.Logger
}

// NewHandler returns the peer's side of [HTTPForwarder]. It takes the receipt's
// ID from the last element of the path, so it can be mounted anywhere. A bundle
// is verified while it streams; one with another hash or size, or over the
// limit, is refused. A known ID is answered without the Receiver: with success
// for the same receipt, with a rejection for another. A sender who did not ask
// first and sends the bundle all the same has it read to the end, since he would
// not hear the answer before.
//
// What has arrived whole is the Receiver's to finish, whether the sender is still
// there or not; if he comes again meanwhile, he hears what becomes of it.
//
// opts may be nil. The error is ErrInvalid.
func NewHandler(to Receiver, opts *HandlerOptions) (http.Handler, error) {
	var o HandlerOptions
	if opts != nil {
		o = *opts
	}
	if to == nil || o.MaxBundle < 0 || o.Timeout < 0 || o.MaxRequests < 0 || o.MaxPerParty < 0 {
		return nil, fmt.Errorf("%w: no receiver, or a negative option", ErrInvalid)
	}
	o.MaxBundle = or(o.MaxBundle, 1<<30)
	o.Timeout = or(o.Timeout, time.Minute)
	o.MinRate = or(o.MinRate, 256)
	o.MaxRequests = or(o.MaxRequests, 256)
	o.MaxPerParty = or(o.MaxPerParty, 64)
	if o.Party == nil {
		o.Party = remote
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &handler{to: to, opts: o, seats: seats{all: o.MaxRequests, each: o.MaxPerParty}}, nil
}

type handler struct {
	to    Receiver
	opts  HandlerOptions
	seats seats
	desk  desk
}

// later is an error that is no verdict, whatever is in it: nobody looks there.
type later struct{ error }

// call calls code of the caller's. Whatever that panics with is no verdict.
func call(name string, f func() error) error {
	err := callback.Run(name, f)
	if _, panicked := errors.AsType[*callback.Panic](err); panicked {
		return later{err}
	}
	return err
}

var (
	errFull   = errors.New("courier: too many requests at once")
	errInHand = errors.New("courier: the receipt is in hand for another request")
)

func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPut {
		w.Header().Set("Allow", http.MethodPut)
		http.Error(w, "PUT a receipt", http.StatusMethodNotAllowed)
		return
	}
	body := newPatient(w, req, &h.opts)
	defer body.leave()
	verdict, err := h.seated(req, body)
	if err == nil {
		h.readOut(req, body)
		w.Header().Set(headerVerdict, verdict)
		return
	}
	status, final := statusOf(err)
	if final {
		h.readOut(req, body)
		w.Header().Set(headerVerdict, verdictRejected)
	} else if status == http.StatusServiceUnavailable {
		h.log(req, body, err)
		err = errors.New("not now") // the rest is not the sender's business
	}
	http.Error(w, err.Error(), status)
}

// statusOf returns the status for an error, and whether it is a verdict.
func statusOf(err error) (status int, final bool) {
	_, waits := errors.AsType[later](err)
	switch {
	case waits:
		return http.StatusServiceUnavailable, false
	case errors.Is(err, ErrTooLarge):
		return http.StatusRequestEntityTooLarge, true
	case errors.Is(err, ErrConflict):
		return http.StatusConflict, true
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrRejected):
		return http.StatusBadRequest, true
	case errors.Is(err, ErrMismatch): // the way may be to blame
		return http.StatusUnprocessableEntity, false
	}
	return http.StatusServiceUnavailable, false
}

// log tells of a failure that is not the sender's.
func (h *handler) log(req *http.Request, body *patient, err error) {
	if l, ok := errors.AsType[later](err); ok {
		err = l.error
	}
	level := slog.LevelError
	if body.failed || req.Context().Err() != nil || errors.Is(err, errFull) || errors.Is(err, errInHand) || errors.Is(err, ErrBusy) {
		level = slog.LevelDebug // the sender has hung up, or comes too often
	}
	attrs := []slog.Attr{slog.Any("err", err)}
	if p, ok := errors.AsType[*callback.Panic](err); ok {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	callback.Run("Logger", func() error {
		h.opts.Logger.LogAttrs(req.Context(), level, "receipt not accepted", attrs...)
		return nil
	})
}

// readOut reads what a sender sends who does not wait for the verdict: if the
// server closed the connection now, the verdict would often not arrive.
func (h *handler) readOut(req *http.Request, body *patient) {
	if req.Header.Get("Expect") == "" {
		io.Copy(io.Discard, io.LimitReader(body, h.opts.MaxBundle))
	}
}

// seated serves a request if there is a seat for it.
func (h *handler) seated(req *http.Request, body *patient) (verdict string, err error) {
	var party string
	if err := call("Party", func() error { party = h.opts.Party(req); return nil }); err != nil {
		return "", later{err}
	}
	if !h.seats.take(party) {
		return "", later{errFull}
	}
	defer h.seats.leave(party)
	return h.serve(req, body)
}

// serve goes the way of a receipt: known, wanted, arrived, accepted.
func (h *handler) serve(req *http.Request, body *patient) (verdict string, err error) {
	r, carries, err := readHeaders(path.Base(req.URL.Path), req.Header)
	if err != nil {
		return "", err
	}
	verdict, err = h.together(req, r, h.known)
	if err != nil || verdict == verdictKnown || verdict == verdictStored {
		return verdict, err
	}
	if carries == carriesReceipt {
		return h.together(req, r, func(ctx context.Context, r Receipt) (string, error) { return h.accept(ctx, r, nil) })
	}
	if r.Size > h.opts.MaxBundle {
		return "", fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, r.Size, h.opts.MaxBundle)
	}
	if carries == carriesOffer {
		return verdictWanted, nil
	}
	if req.ContentLength >= 0 && req.ContentLength != r.Size {
		return "", fmt.Errorf("%w: %d bytes, announced were %d", ErrMismatch, req.ContentLength, r.Size)
	}
	return h.receive(context.WithoutCancel(req.Context()), r, body)
}

// together does something for r unless another request has the same receipt in
// hand: then it waits for what comes of that.
func (h *handler) together(req *http.Request, r Receipt,
	do func(context.Context, Receipt) (verdict string, err error)) (verdict string, err error) {
	w, mine := h.desk.join(r)
	if !mine {
		if !w.receipt.Same(r) {
			return "", later{errInHand}
		}
		return w.wait(req.Context(), h.opts.Timeout)
	}
	defer func() { h.desk.finish(w, verdict, err) }()
	return do(context.WithoutCancel(req.Context()), r)
}

// known asks the receiver for r.
func (h *handler) known(ctx context.Context, r Receipt) (verdict string, err error) {
	var known Receipt
	err = call("Receiver.Known", func() (err error) {
		known, err = h.to.Known(ctx, r.ID)
		return err
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return verdictWanted, nil
	case err != nil:
		return "", later{err}
	case !known.Same(r):
		return "", fmt.Errorf("%w: %v", ErrConflict, r.ID)
	}
	return verdictKnown, nil
}

// receive has the bundle that streams in accepted.
func (h *handler) receive(ctx context.Context, r Receipt, body *patient) (verdict string, err error) {
	v := newVerifier(body, r)
	a := &arrival{bundle: v, desk: &h.desk}
	defer func() { a.finish(verdict, err) }()
	if verdict, err = h.accept(ctx, r, a); err != nil {
		if v.err != nil && v.err != io.EOF {
			err = v.err // what began it, whatever the receiver made of it
		}
		return "", err
	}
	// Who reads just the announced bytes has not seen whether they were right.
	if n, err := v.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return "", fmt.Errorf("the receiver accepted an unverified bundle: %w", err)
	}
	return verdict, nil
}

func (h *handler) accept(ctx context.Context, r Receipt, bundle io.Reader) (string, error) {
	if err := call("Receiver.Accept", func() error { return h.to.Accept(ctx, r, bundle) }); err != nil {
		return "", err
	}
	return verdictStored, nil
}
